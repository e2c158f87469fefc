"""Random programs mean the same on fused backends as on the reference, values and gradients."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, reject, settings

from regard.backends.tiled.kernel import force_tile
from regard.errors import UnsupportedError
from regard.testing.accuracy import largest, worst_error
from regard.testing.contract import run_both
from regard.testing.random_calls import calls

# Parts of random programs are bounded, so little cancels: the worst of 13 000 programs was off by
# 1.5e-13 of its largest result.
TOLERANCE = 1e-10
# What is drawn may be a mask that makes no sense.
pytestmark = pytest.mark.filterwarnings("ignore:the mask of")
# The last two are more than a kernel's block of queries, and of keys.
LENGTHS = (3, 9, 1, 100, 300)


def run(call, backend):
    return run_both(
        call.program, call.inputs, call.observe, seed=call.seed, backend=backend, **call.options
    )


@given(calls())
def test_random_program_means_the_same_in_tiles(call):
    with force_tile(*call.tile):
        found = run(call, "tiled")
    check(found, run(call, "reference"))


# Each program costs two builds or more, so two programs are run at a time.
@settings(max_examples=150 if os.environ.get("REGARD_TEST_ALL") == "1" else 4)
@given(calls(lengths=LENGTHS), calls(lengths=LENGTHS))
def test_random_programs_mean_the_same_in_kernels(one, other):
    drawn = [replace(call, observe=without_weights(call)) for call in (one, other)]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(run_if_supported, drawn))
    for call, results in zip(drawn, found, strict=True):
        if results is not None:
            check(results, run(call, "reference"))
    if found == [None, None]:
        reject()


def without_weights(call):
    return tuple(name for name in call.observe if name != "weights")


def run_if_supported(call):
    try:
        return run(call, "cpu")
    except UnsupportedError as reason:
        assert str(reason).startswith("backend 'cpu' cannot run this program: "), reason
        return None


def check(found, expected):
    assert found.keys() == expected.keys()
    scale = max(1.0, *map(largest, expected.values()))
    for name, value in expected.items():
        assert not value.isnan().any(), f"{name}: the reference itself gives NaN"
        error = worst_error(found[name], value)
        assert error <= TOLERANCE * scale, f"{name}: differs by {error:.2e} of {scale:.2e}"


@given(calls())
def test_random_call_is_made_of_float64_quarters(call):
    for name, tensor in call.inputs.items():
        if tensor.is_floating_point() and name != "drop":
            assert tensor.dtype == torch.float64
            assert torch.equal(tensor * 4, (tensor * 4).round())
