import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Pictures compute on small tensors, which one thread does faster than two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
