"""Check that a decoder sees the whole of its source, from its first token on, and no padding."""

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from regard.hf.check.padded import real_tokens
from regard.hf.check.report import SKIPPED, Row, Worst
from regard.hf.check.subject import Stream, Subject, difference

NAMES = ("cross attention",)


def check_cross(subject: Subject) -> list[Row]:
    """Change one row of what the encoder gives, and look at every output of the decoder.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    if "decoder_input_ids" not in subject.inputs:
        return [Row(name, SKIPPED, where="the model has no encoder and decoder")]
    stream = subject.streams[-1]
    worst = Worst()
    with torch.no_grad():
        source = subject.run().encoder_last_hidden_state
        for j in (0, source.shape[1] - 1):
            _check_row(subject, stream, source, j, worst)
    return [worst.row(name, subject.tolerance)]


def _check_row(subject: Subject, stream: Stream, source: Tensor, j: int, worst: Worst) -> None:
    other = source.clone()
    other[:, j] = other[:, j].flip(-1) + 1
    before, after = (_decode(subject, stream, rows) for rows in (source, other))
    largest = before.abs().max().clamp_min(1e-30)
    moved = (after - before).abs().amax(-1) / largest
    blind = moved.min(0).values.argmin()
    # Nothing seen is nothing changed; how small a change may be, no tolerance says.
    seen = float(moved.min()) > 0.1 * subject.tolerance
    worst.add(
        0.0 if seen else float("inf"), f"decoder token {int(blind)} does not see source token {j}"
    )
    if "input_ids" in subject.inputs and "attention_mask" in subject.inputs:
        source_stream = subject.streams[0]
        mask = real_tokens(subject, source_stream, "left" if j == 0 else "right")
        before, after = (
            _decode(subject, stream, rows, attention_mask=mask) for rows in (source, other)
        )
        figure = difference(after[-1], before[-1])
        worst.add(figure, f"the decoder sees padding of its source, token {j}")


def _decode(subject: Subject, stream: Stream, source: Tensor, **changes: Tensor) -> Tensor:
    left_out = {name: None for name in subject.inputs if name.startswith(("input_", "pixel_"))}
    given = BaseModelOutput(last_hidden_state=source)
    return subject.outputs(stream, **{**left_out, **changes}, encoder_outputs=given)
