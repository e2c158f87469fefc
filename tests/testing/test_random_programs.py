"""Random programs mean the same on fused backends as on the reference, values and gradients."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, reject, seed, settings

from regard.backends.tiled.kernel import force_tile
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
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
# Parts have seeds of their own and may run side by side: 10 000 programs in tiles, 400 in kernels,
# which are built two at a time.
ALL = os.environ.get("REGARD_TEST_ALL") == "1"
TILED_PARTS, TILED_CALLS = (20, 500) if ALL else (1, 30)
KERNEL_PARTS, KERNEL_CALLS = (5, 40) if ALL else (1, 4)


def run(call, backend):
    return run_both(
        call.program, call.inputs, call.observe, seed=call.seed, backend=backend,
        reduce=without_choice, **call.options,
    )  # fmt: skip


def without_choice(name, value):
    """Which of equal weights come first is left to rounding, and with it who gets the gradient."""
    return value.detach() if name.startswith("top:") else value


@pytest.mark.parametrize("part", range(TILED_PARTS))
def test_random_program_means_the_same_in_tiles(part):
    @seed(part)
    @settings(max_examples=TILED_CALLS)
    @given(calls())
    def same(call):
        with force_tile(*call.tile):
            found = run(call, "tiled")
        check(found, run(call, "reference"))

    same()


@pytest.mark.parametrize("part", range(KERNEL_PARTS))
def test_random_programs_mean_the_same_in_kernels(part):
    @seed(part)
    @settings(max_examples=KERNEL_CALLS)
    @given(calls(lengths=LENGTHS), calls(lengths=LENGTHS))
    def same(one, other):
        drawn = [replace(call, observe=without_weights(call)) for call in (one, other)]
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(run_if_supported, drawn))
        for call, results in zip(drawn, found, strict=True):
            if results is not None:
                check(results, run(call, "reference"))
        if found == [None, None]:
            reject()

    same()


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


@pytest.mark.slow
def test_random_programs_are_drawn_from_the_whole_language():
    nodes, met = set(), Counter()

    @settings(max_examples=300)
    @given(calls())
    def look(call):
        of_program = n.walk(call.program.root)
        nodes.update(of_program)
        met.update({type(node) for node in of_program})

    look()
    assert set(OPERATORS) - {node.op for node in nodes if isinstance(node, n.Call)} == set()
    assert {node.side for node in nodes if isinstance(node, n.Feature)} == {"query", "key"}
    assert {node.pairs for node in nodes if isinstance(node, n.Rotate)} == {"halves", "interleaved"}
    ratios = [node for node in nodes if isinstance(node, n.Ratio)]
    assert {node.scaled for node in ratios} == {True, False}
    assert any(node.den is not node.num for node in ratios)
    assert any(isinstance(node.sink, n.Array) for node in nodes if isinstance(node, n.Softmax))
    for kind in n.NODE_TYPES.values():
        assert met[kind] >= 5, kind
