"""Check rows that see nothing: they give numbers, and nothing hidden reaches them."""

import torch

from regard.hf.check.report import FAILED, Row, Worst
from regard.hf.check.subject import Stream, Subject, difference, embedded

NAMES = ("empty rows",)


def check_empty(subject: Subject) -> list[Row]:
    """Let the last row of the batch be padding alone, and look at outputs and gradients.

    Eager attention gives a row that sees nothing the mean of all values, by its way of adding a
    finite number to hidden scores; that is left to it, and to implementations whose form the model
    forces to do so, but to no other.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    finite, reached = Worst(), Worst()
    for stream in subject.streams:
        if stream.mask is not None:
            figure = _numbers(subject, stream)
            does = "gives NaN" if figure == float("inf") else "changes the other rows"
            finite.add(figure, f"{stream.ids}: a row of padding alone {does}")
    row = finite.row(name, subject.tolerance, "no tokens can be padded")
    if row.verdict == FAILED or subject.is_eager or not finite.compared:
        return [row]
    for stream in subject.streams:
        if stream.mask is not None and _hidden_reach(subject, stream) > subject.tolerance:
            figure = _hidden_reach(subject, stream)
            if not subject.has_mode:
                with subject.using("sdpa"):
                    forced = _hidden_reach(subject, stream) > subject.tolerance
                figure = 0.0 if forced else figure
            reached.add(figure, f"{stream.ids}: a row that sees nothing gives weight to padding")
    return [reached.row(name, subject.tolerance)] if reached.compared else [row]


def _numbers(subject: Subject, stream: Stream) -> float:
    """Return how far the row that is not padded is from itself, infinite if anything is NaN."""
    mask = _empty_last(subject, stream)
    assert stream.mask is not None
    with embedded(subject.model, subject.inputs[stream.ids]) as leaves:
        found = subject.outputs(stream, **{stream.mask: mask})
    healthy = bool(torch.isfinite(found).all())
    if leaves:
        gradients = torch.autograd.grad(found.sum(), leaves)
        healthy = healthy and all(bool(torch.isfinite(one).all()) for one in gradients)
    if not healthy:
        return float("inf")
    with torch.no_grad():
        whole = subject.outputs(stream, **{stream.mask: torch.ones_like(mask)})
    return difference(found[:-1], whole[:-1])


def _hidden_reach(subject: Subject, stream: Stream) -> float:
    """Return how much the other tokens of the empty row change with its first one."""
    ids, mask = subject.inputs[stream.ids], _empty_last(subject, stream)
    other = ids.clone()
    other[-1, 0] = subject.words(ids, 6)[-1, 0]
    assert stream.mask is not None
    with torch.no_grad():
        before, after = (
            subject.outputs(stream, **{stream.mask: mask, stream.ids: tokens})
            for tokens in (ids, other)
        )
    return difference(after[-1, 1:], before[-1, 1:])


def _empty_last(subject: Subject, stream: Stream) -> torch.Tensor:
    mask = torch.ones_like(subject.inputs[stream.ids])
    mask[-1] = 0
    return mask
