"""With few query rows the keys are shared out to programs, and their sums joined."""

import pytest
import torch

import regard as rg
from regard.backends.triton.module import TritonModule
from regard.backends.triton.tiles import Tiles, count_chunks

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@rg.program
def sinking(pair):
    sink = rg.parameter("sink", per="head")
    return rg.softmax(rg.dot(pair.q, pair.k), sink=sink, where=pair.j != 3)


def test_keys_are_cut_where_query_rows_are_few():
    tiles = Tiles(16, 64, 4, 2)
    assert count_chunks(tiles, 1, 17, 4096) == 1
    assert count_chunks(tiles, 1, 1, 64) == 1
    assert count_chunks(tiles, 1, 1, 4096) == 64
    assert count_chunks(tiles, 128, 1, 32768) == 5


def test_parts_of_the_keys_are_joined(triton, monkeypatch):
    made = []
    program = TritonModule.program
    monkeypatch.setattr(
        TritonModule,
        "program",
        lambda self, form, of: made.append(of.part) or program(self, form, of),
    )
    q, k, v = (torch.randn(2, 2, n, 8, dtype=torch.float64) for n in (3, 70, 70))
    sink, device = torch.tensor([0.5, -1.0]), "cuda" if torch.cuda.is_available() else "cpu"
    given = [x.to(device) for x in (q, k, v)]
    found, seen = rg.attend(
        sinking, *given, sink=sink.to(device), backend="triton", observe=("lse", "entropy")
    )
    expected, also = rg.attend(
        sinking, q, k, v, sink=sink, backend="reference", observe=("lse", "entropy")
    )
    assert made == ["split", "join"]
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-10, atol=1e-10)
    for name, value in also.items():
        torch.testing.assert_close(seen[name].cpu(), value, rtol=1e-10, atol=1e-10)
