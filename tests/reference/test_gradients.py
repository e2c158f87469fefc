"""Derivatives against finite differences, the second ones too, and laws of whole calls."""

import pytest
import torch

from regard.ir import nodes as n
from tests.reference.builders import (
    CAUSAL,
    SCORE,
    I,
    J,
    K,
    Q,
    V,
    call,
    close,
    dot,
    entmax,
    inputs,
    minus,
    out,
    output,
    parameter,
    ratio,
    softmax,
    table,
    times,
    topk,
    total,
    weigh,
)

DOUBLE = torch.float64
EXP = call("exp", SCORE)
OFFSET = call("add", minus(I, J), 1)
RELATIVE = n.Gather(table("table", "rows", "channel"), (OFFSET,))
HALF_ANGLE = times(I, n.Gather(table("angles", "rows", "channel"), (n.Const(0),)))
PROJECTED = n.Project(Q, parameter("W", "head", "channel", "channel"), 2)
SECOND = softmax(dot(call("sin", Q), K), name="second")
EXTRA = {
    "table": torch.randn(4, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)),
    "angles": torch.tensor([[0.3]], dtype=DOUBLE),
    "W": torch.randn(2, 2, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1)),
    "s": torch.tensor([0.4, -0.2], dtype=DOUBLE),
    "add": torch.tensor(0.3, dtype=DOUBLE),
    "t": torch.tensor([[[0.1, 0.5, 0.2]]], dtype=DOUBLE),
}
PROGRAMS = {
    "causal softmax": (softmax(where=CAUSAL), ()),
    "sink": (softmax(where=call("lt", J, I), sink=parameter("s", "head")), ("s",)),
    "relative rows": (output(softmax(dot(Q, RELATIVE)), call("add", V, RELATIVE)), ("table",)),
    "rotary": (softmax(dot(n.Rotate(Q, HALF_ANGLE, "halves"), K)), ("angles",)),
    "projection per head": (softmax(dot(PROJECTED, K)), ("W",)),
    "additive": (softmax(total(call("tanh", call("add", Q, K)))), ()),
    "weigh": (weigh(call("softplus", SCORE), where=CAUSAL), ()),
    "ratio with an offset": (ratio(EXP, add=n.Scalar("add")), ("add",)),
    "softpick": (ratio(call("abs", minus(EXP, 0.5)), at_least=0.1), ()),
    "unshifted ratio": (ratio(call("sigmoid", SCORE), where=CAUSAL), ()),
    "entmax": (entmax(where=CAUSAL), ()),
    "chosen keys": (softmax(where=topk(SCORE, 2)), ()),
    "difference": (minus(softmax(), times(SECOND, n.Scalar("add"))), ("add",)),
    "gate": (times(softmax(), n.Feature("key", "t")), ("t",)),
    "map": (n.Map(softmax(), call("pow", n.MAPPED, 2)), ()),
    "dropout": (n.Dropout(softmax(), n.Scalar("add"), 0), ("add",)),
    "finish": (output(softmax(), finish=times(n.SUMMED, call("sigmoid", PROJECTED))), ("W",)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_are_those_of_finite_differences(name):
    program, extra = PROGRAMS[name]
    tensors = inputs(batch=1, heads=2, groups=1, queries=2, keys=3, width=2)
    leaves = {**tensors, **{key: EXTRA[key].clone() for key in extra}}
    for leaf in leaves.values():
        leaf.requires_grad_()

    def result(*values):
        named = dict(zip(leaves, values, strict=True))
        return out(program, {**EXTRA, **named}, seed=1, key_lengths=[3])

    assert torch.autograd.gradcheck(result, tuple(leaves.values()))
    assert torch.autograd.gradgradcheck(result, tuple(leaves.values()), fast_mode=True)


@pytest.mark.parametrize("name", ["causal softmax", "softpick", "entmax", "difference", "map"])
def test_permuting_keys_with_their_positions_changes_nothing(name):
    program, _ = PROGRAMS[name]
    tensors = inputs(queries=6, keys=6, width=2) | EXTRA
    order = torch.randperm(6)
    permuted = {**tensors, **{key: tensors[key][:, :, order] for key in "kv"}}
    close(out(program, permuted, key_positions=order[None]), out(program, tensors), rtol=1e-9)


@pytest.mark.parametrize("name", ["causal softmax", "sink", "ratio with an offset", "entmax"])
def test_one_batch_row_alone_gives_its_part(name):
    program, _ = PROGRAMS[name]
    tensors = inputs(batch=3, queries=4, keys=4)
    lengths = {"key_lengths": [4, 2, 3], "query_lengths": [4, 4, 1]}
    whole = out(program, {**EXTRA, **tensors}, **lengths)
    for row in range(3):
        alone = {key: tensor[row : row + 1] for key, tensor in tensors.items()}
        own = {key: value[row : row + 1] for key, value in lengths.items()}
        assert torch.equal(out(program, {**EXTRA, **alone}, **own), whole[row : row + 1])


def test_float32_gradients_repeat_bit_for_bit():
    tensors = inputs(queries=33, keys=65, width=8, dtype=torch.float32)
    tensors["bias"] = torch.randn(3)
    bias = n.Gather(parameter("bias", 3), (call("mod", minus(J, I), 3),))
    for tensor in tensors.values():
        tensor.requires_grad_()

    def found():
        result = out(softmax(call("add", SCORE, bias)), tensors)
        return torch.autograd.grad(result.square().sum(), list(tensors.values()))

    for one, other in zip(found(), found(), strict=True):
        assert torch.equal(one, other)
