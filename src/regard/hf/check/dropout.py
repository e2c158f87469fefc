"""Check that backward drops the weights that forward dropped."""

import torch
from torch import Tensor

from regard.hf.check.calls import Call
from regard.hf.check.report import SKIPPED, Row, Worst
from regard.hf.check.subject import Subject, difference

NAMES = ("dropout",)
_RATE, _STEP = 0.4, 1e-3
# Two outputs that differ by rounding differ by less, and two draws of dropout by far more.
_APART, _TOLERANCE = 1e-3, 2e-2


def check_dropout(subject: Subject) -> list[Row]:
    """Compare gradients under dropout with differences of outputs, all from one seed.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    # One call of each kind of module: the function is the same in all of them.
    kinds = {type(call.module): call for call in subject.calls(**subject.pictures)}
    if not kinds:
        return [Row(name, SKIPPED, where="the model asks transformers for no attention function")]
    worst = Worst()
    for call in kinds.values():
        training = call.module.training
        call.module.train()
        try:
            _check_call(_exact(call), worst)
        finally:
            call.module.train(training)
    return [worst.row(name, _TOLERANCE, "attention functions draw no dropout of the rate given")]


def _exact(call: Call) -> Call:
    """Return the call in float64, where differences of outputs are clean."""
    options = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in call.options.items()
    }
    mask = call.mask
    if isinstance(mask, Tensor) and mask.is_floating_point():
        mask = mask.double()
    rows = (call.query.double(), call.key.double(), call.value.double())
    return Call(call.path, call.module, call.function, *rows, mask, options)


def _check_call(call: Call, worst: Worst) -> None:
    rows = {name: getattr(call, name) for name in ("query", "key", "value")}
    with torch.no_grad():
        plain, first, again = _run(call, 0.0), _run(call, _RATE), _run(call, _RATE)
    if difference(first, plain) < _APART:
        return
    if difference(again, first) > 1e-6:
        worst.add(difference(again, first), f"{call.path}: one seed draws dropout in two ways")
        return
    drawn = torch.Generator().manual_seed(9)
    weights = torch.randn(first.shape, generator=drawn).to(first)
    leaves = {name: row.clone().requires_grad_() for name, row in rows.items()}
    slopes = torch.autograd.grad(
        (_run(call, _RATE, **leaves) * weights).sum(),
        list(leaves.values()),
        allow_unused=True,
        materialize_grads=True,
    )
    for (name, row), slope in zip(rows.items(), slopes, strict=True):
        step = torch.randn(row.shape, generator=drawn).to(row)
        with torch.no_grad():
            up, down = (
                (_run(call, _RATE, **{name: row + sign * _STEP * step}) * weights).sum()
                for sign in (1, -1)
            )
        told = float((up - down) / (2 * _STEP))
        given = float((slope * step).sum())
        size = max(abs(told), float(slope.norm()), 1e-30)
        worst.add(abs(given - told) / size, f"{call.path}: gradient of '{name}'")


def _run(call: Call, rate: float, **rows: Tensor) -> Tensor:
    torch.manual_seed(11)
    return call.run(dropout=rate, **rows)
