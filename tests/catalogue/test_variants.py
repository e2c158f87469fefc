"""Every variant computes what its paper says: against dense formulas written without its program.

Values and gradients, on every backend that takes it.
"""

import inspect
from importlib import import_module

import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile
from regard.catalogue import FAMILIES, VARIANTS
from regard.errors import UnsupportedError
from tests.catalogue.oracles.calls import Call

FILES = [import_module(f"tests.catalogue.oracles.{family}") for family in FAMILIES]
ORACLES = {
    name: fn
    for file in FILES
    for name, fn in vars(file).items()
    if inspect.isfunction(fn) and fn.__module__ == file.__name__ and not name.startswith("_")
}
CALLS = {name: call for file in FILES for name, call in file.CALLS.items()}
# What kernels cannot carry, and what their refusal says.
REFUSED = {
    ("stick_breaking", "cpu"): "a running sum over keys",
    ("contextual_positions", "cpu"): "a running sum over keys",
    ("forget_gate_online", "cpu"): "a running sum over keys",
}


def run(name, backend):
    """Return the output of a variant and the gradients of all that it reads, by name."""
    call = CALLS.get(name, Call())
    tensors = call.tensors()
    program = VARIANTS[name](**call.knobs)
    with force_tile(4, 8):
        out = rg.attend(program, backend=backend, **tensors, **call.options)
        return out, gradients(out, tensors)


def expect(name):
    """Return the same by the dense formula."""
    call = CALLS.get(name, Call())
    tensors = call.tensors()
    out = ORACLES[name](**tensors, **call.knobs)
    return out, gradients(out, tensors)


def gradients(out, tensors):
    learned = {name: one for name, one in tensors.items() if one.requires_grad}
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    found = torch.autograd.grad((out * direction).sum(), learned.values(), allow_unused=True)
    given = zip(learned.items(), found, strict=True)
    return {name: torch.zeros_like(one) if grad is None else grad for (name, one), grad in given}


def test_every_variant_has_an_oracle():
    assert set(ORACLES) == set(VARIANTS)


def check(name, backend):
    expected, wanted = expect(name)
    try:
        found, got = run(name, backend)
    except UnsupportedError as reason:
        assert REFUSED.get((name, backend), "?") in str(reason), reason
        return
    assert (name, backend) not in REFUSED
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    for one, grad in wanted.items():
        assert grad.isfinite().all(), one
        close = torch.allclose(got[one], grad, rtol=1e-7, atol=1e-8)
        assert close, (one, (got[one] - grad).abs().max())


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_variant_is_what_its_paper_says(name, backend):
    check(name, backend)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_variant_is_what_its_paper_says_in_kernels(name):
    check(name, "cpu")
