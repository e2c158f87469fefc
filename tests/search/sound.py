"""What must hold of every program that a search gives, tried with the reference."""

import torch

from regard.ir import nodes as n
from regard.ops.contracts.calls import Trial, make_call
from regard.ops.contracts.look import output_of, seen_in
from regard.passes.contracts.reads import has_sink
from regard.reference.evaluate import evaluate

SELF = [
    Trial(),
    Trial(6, 6, seed=1, scale=30.0),
    Trial(1, 1, seed=2),
    Trial(5, 5, seed=3, ties=True),
]
CROSS = [Trial(), Trial(7, 3, seed=1, scale=30.0), Trial(2, 6, seed=2), Trial(9, 1, seed=3)]


def check_sound(program, role, causal):
    """Fail unless a program runs, sees something, is causal if it must be, and has gradients."""
    for trial in CROSS if role == "cross" else SELF:
        bound = make_call(program, trial)
        assert bound is not None, "no width fits"
        check_runs(program.root, bound)
        if causal:
            check_causal(program.root, bound)


def check_runs(root, bound):
    leaves = {
        name: tensor.float().requires_grad_()
        for name, tensor in bound.tensors.items()
        if tensor.is_floating_point()
    }
    output = evaluate(root, bound.with_tensors(leaves))["output"]
    assert output.isfinite().all(), "the output is not finite"
    if output.requires_grad:
        factors = torch.linspace(0.5, 1.5, output.shape[-1])
        found = torch.autograd.grad(
            (output @ factors).sum(), list(leaves.values()), allow_unused=True
        )
        for name, gradient in zip(leaves, found, strict=True):
            assert gradient is None or gradient.isfinite().all(), f"the gradient of {name}"
    seen = seen_in(root, bound).any(-1)
    assert seen.all() or has_sink(root.weights), "a row sees nothing"


def check_causal(root, bound):
    """Change all keys after a position: no output up to it may notice."""
    before = output_of(root, bound)
    rows = {node.name for node in n.walk(root) if isinstance(node, n.Vector) and node.side == "key"}
    for last in range(bound.keys - 1):
        new = {}
        for name in {"k", "v", *rows}:
            new[name] = bound.tensors[name].clone()
            new[name][:, :, last + 1 :] = torch.nan
        after = output_of(root, bound.with_tensors(new))
        # A row's bisection stops with that of all rows: the last bit may differ, a leak is NaN.
        same = torch.isclose(before[:, :, : last + 1], after[:, :, : last + 1], rtol=1e-12)
        assert same.all(), "not causal"
