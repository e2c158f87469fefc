"""What every test stands on: fixed seeds, no unfilled memory, no network, two threads, no builds.

Products of bfloat16 are float32's on every machine; matrix units have tests of their own.

Backend "cpu" builds a library for every program, so it runs where a test names it; what "auto"
chooses from otherwise, tests/ops/test_plan.py says. Built libraries are kept from run to run.

Whether warnings are errors and which markers exist stands in pyproject.toml.
"""

import os
import random
from pathlib import Path

# Read when the libraries are first imported, so set before anything imports them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("REGARD_BACKENDS", "sdpa,tiled,reference")
os.environ.setdefault("REGARD_MATRIX", "plain")
os.environ.setdefault(
    "REGARD_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "kernels")
)

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# Torch's compiler imports Triton, which reads this then.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from regard.backends import base, triton

# Interpreted kernels run where a test asks for them (tests/backends/triton) and nowhere else.
if triton.machine.is_interpreted():
    base.registered().pop("triton", None)

SEED = 1234

# An example that builds tensors is slow by nature; only wrong answers are failures.
SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=30,
    suppress_health_check=SLOW_IS_FINE,
)
settings.register_profile("all", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile("all" if os.environ.get("REGARD_TEST_ALL") == "1" else "default")

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _same_ground():
    """Seed all generators, and make torch.empty return NaN, whatever the test before did."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
