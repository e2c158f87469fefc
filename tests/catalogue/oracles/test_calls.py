"""Calls give the formulas what they read, the same each time, and formulas are differentiable."""

import inspect
from importlib import import_module

import pytest
import torch

from regard.catalogue import FAMILIES
from tests.catalogue.oracles.calls import Call

# Softmax cares for none of what is added to a whole row.
WITHOUT_EFFECT = {
    ("biaffine", "query"),
    ("biaffine", "bias"),
    ("tupe", "reset_from"),
    ("fire", "out_bias"),
    ("cable", "total_q"),
    ("forgetting", "total_q"),
    ("uniform", "q"),
    ("uniform", "k"),
    # Their heads' rows are given side by side.
    ("talking_heads", "q"),
    ("talking_heads", "k"),
    ("multi_token", "q"),
    ("multi_token", "k"),
}
FILES = [import_module(f"tests.catalogue.oracles.{family}") for family in FAMILIES]
ORACLES = {
    name: (fn, file.CALLS.get(name, Call()))
    for file in FILES
    for name, fn in vars(file).items()
    if inspect.isfunction(fn) and fn.__module__ == file.__name__ and not name.startswith("_")
}


def test_every_call_is_of_a_formula():
    assert {name for file in FILES for name in file.CALLS} <= set(ORACLES)


@pytest.mark.parametrize("name", ORACLES)
def test_a_call_gives_what_the_formula_reads_and_all_of_it_matters(name):
    formula, call = ORACLES[name]
    tensors, again = call.tensors(), call.tensors()
    assert all(torch.equal(one, again[key]) for key, one in tensors.items())
    # Each is optional in the formula only where it is a knob.
    required = [
        one.name
        for one in inspect.signature(formula).parameters.values()
        if one.default is inspect.Parameter.empty
    ]
    assert sorted(required) == sorted(tensors)
    out = formula(**tensors, **call.knobs)
    assert out.isfinite().all()
    learned = {key: one for key, one in tensors.items() if one.requires_grad}
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    found = torch.autograd.grad(
        (out * direction).sum(), learned.values(), allow_unused=True, materialize_grads=True
    )
    for key, grad in zip(learned, found, strict=True):
        assert grad.isfinite().all(), key
        assert (grad.abs().max() < 1e-12) == ((name, key) in WITHOUT_EFFECT), key
