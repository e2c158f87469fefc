"""Prices come back from times that were made of them; what is kept is read again or forgotten."""

import json
import math
from dataclasses import astuple, fields

import pytest
import torch

from regard.ops import predict
from regard.ops.predict import Prices, fit_prices, keep_prices, known_prices
from regard.passes.count_work import Work

PRICES = Prices(1e-11, 5e-10, 2e-11, 4e-11, 0.0, 3e-5, 4e-5)


def price_names():
    return [one.name for one in fields(Prices)]


WORKS = [
    Work(products=1e9, functions=4e6, operations=1e7, bytes=1e6, calls=1),
    Work(products=3e8, functions=4e6, operations=1e7, bytes=3e5, calls=1),
    Work(products=2e9, functions=1e7, operations=9e7, bytes=2e6, calls=1, gradients=1),
    Work(products=1e7, functions=1e6, operations=2e8, bytes=1e6, calls=1),
    Work(products=1e7, functions=1e5, operations=1e6, bytes=3e8, calls=1),
    Work(products=1e4, functions=1e2, operations=1e3, bytes=1e4, calls=1),
    Work(products=1e4, functions=1e2, operations=1e3, bytes=1e4, calls=1, gradients=1),
]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty cache folder, and a process that knows nothing yet."""
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(predict, "_known", {})
    return tmp_path / "kernels"


def test_fitted_prices_are_those_the_times_were_made_from():
    found = fit_prices([(work, PRICES.seconds(work)) for work in WORKS])
    assert astuple(found) == pytest.approx(astuple(PRICES), rel=1e-6)


def test_no_price_is_negative():
    timed = [(Work(products=1e9, functions=1e6), 1.0), (Work(products=1e9, functions=2e6), 0.9)]
    found = fit_prices(timed)
    assert min(astuple(found)) == 0.0
    assert found.products == pytest.approx(0.95e-9, rel=0.02)


def test_prices_are_kept_for_later_processes(kept, monkeypatch):
    assert known_prices("cpu", torch.float32) is None
    keep_prices("cpu", torch.float32, PRICES)
    monkeypatch.setattr(predict, "_known", {})
    assert known_prices("cpu", torch.float32) == PRICES
    assert known_prices("cpu", torch.float64) is None
    assert known_prices("tiled", torch.float32) is None


DAMAGED = ["", "{}", "[1]", "null", '{"products": "fast"}', "nonsense"]
IMPOSSIBLE = [json.dumps(dict.fromkeys(price_names(), x)) for x in (-1.0, math.nan, math.inf)]


@pytest.mark.parametrize("text", DAMAGED + IMPOSSIBLE)
def test_a_file_that_is_damaged_counts_as_none(text, kept, monkeypatch):
    keep_prices("cpu", torch.float32, PRICES)
    (path,) = kept.glob("machine-*.json")
    path.write_text(text)
    monkeypatch.setattr(predict, "_known", {})
    assert known_prices("cpu", torch.float32) is None


def test_prices_of_other_numbers_of_threads_are_others(kept):
    keep_prices("cpu", torch.float32, PRICES)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert known_prices("cpu", torch.float32) is None
    finally:
        torch.set_num_threads(threads)


def test_prices_of_another_compiler_are_others(kept, monkeypatch):
    keep_prices("cpu", torch.float32, PRICES)
    keep_prices("sdpa", torch.float32, PRICES)
    monkeypatch.setattr(predict, "find_compiler", lambda: "no compiler")
    assert known_prices("cpu", torch.float32) is None
    assert known_prices("sdpa", torch.float32) == PRICES


def test_a_file_holds_numbers_by_name(kept):
    keep_prices("cpu", torch.float32, PRICES)
    (path,) = kept.glob("machine-*.json")
    assert list(json.loads(path.read_text())) == price_names()


def test_prices_read_as_rates():
    assert str(PRICES) == (
        "200 GFLOP/s of products, 2 G exponentials/s, 50 G operations/s, 25 GB/s, 30 µs a call"
    )
