"""What a mode costs on this machine, predicted: seconds of its attention and bytes, in training.

Before: encoder: local; 4 layers of 8 heads; batches of 16 texts of 128 tokens.
After: 21 ms and 9.4 MB a step. Leaves to others: work and prices (`ops/explain`), what a whole
step of a model costs (whoever trains it).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.modes.mode import Mode
from regard.ops.explain import explain
from regard.ops.measure_machine import measure_machine
from regard.ops.parameters import array_shapes, row_widths
from regard.search.space import Space

_FLOAT = 4
# q, k, v and the output, each with its gradient; a parameter, its gradient, and two moments.
_ROWS, _COPIES = 8, 4


@dataclass(frozen=True)
class Batch:
    """What a training step reads.

    Attributes:
        size: How many texts.
        queries: Tokens of a text.
        keys: Tokens that cross attention reads; as many as queries unless given.
        width: Channels of a head.
        backend: Where it is to run: "auto", or the name of one.
    """

    size: int = 16
    queries: int = 128
    keys: int | None = None
    width: int = 32
    backend: str = "auto"


@dataclass(frozen=True)
class Cost:
    """What the attention of a training step costs.

    Attributes:
        seconds: Forward and backward.
        bytes: Rows, numbers of pairs that are held at once, and learned numbers.
    """

    seconds: float
    bytes: float


def predict_cost(mode: Mode, space: Space, batch: Batch | None = None) -> Cost:
    """Predict what the attention of a mode costs in one training step on this machine.

    The machine is measured on the first call ever, which takes some seconds.

    Args:
        mode: The mode; layers that it does not mention cost nothing here.
        space: The layers.
        batch: What a step reads.

    Returns:
        The cost, summed over layers.

    Raises:
        InputError: If nobody counts what a chosen backend does.
    """
    batch = batch or Batch()
    parts = []
    for role, shape in space.roles.items():
        for layer in range(shape.layers):
            for span, program in mode.at(role, layer, shape.heads) or ():
                parts.append(_cost(program, role == "cross", span, shape.heads, batch))
    return Cost(sum(one.seconds for one in parts), sum(one.bytes for one in parts))


@lru_cache(maxsize=4096)
def _cost(
    program: AttentionProgram, cross: bool, span: tuple[int, int], heads: int, batch: Batch
) -> Cost:
    keys = batch.keys if cross and batch.keys is not None else batch.queries
    count = span[1] - span[0]
    q, k = (
        torch.zeros(()).expand(batch.size, count, rows, batch.width)
        for rows in (batch.queries, keys)
    )
    place = {"first_head": span[0], "total_heads": heads, "backend": batch.backend}
    told = explain(program, q, k, k, training=True, **place)
    if told.backend not in told.predicted_ms:
        measure_machine(told.backend)
        told = explain(program, q, k, k, training=True, **place)
    if told.backend not in told.predicted_ms:
        raise InputError(
            f"nobody counts what backend '{told.backend}' does, so its time cannot be predicted; "
            "name another backend in Batch"
        )
    rows = batch.size * count * (batch.queries + keys) / 2 * batch.width
    numbers = _ROWS * rows + told.pair_numbers[0] + _COPIES * _learned(program, heads, batch.width)
    return Cost(told.predicted_ms[told.backend] / 1e3, _FLOAT * numbers)


def _learned(program: AttentionProgram, heads: int, width: int) -> int:
    widths = row_widths(program.root, {"q": width, "k": width, "v": width}, width)
    shapes = array_shapes(program.root, heads, widths)
    learned = (one.name for one in program.parameters)
    return sum(int(torch.Size(x or 1 for x in shapes[name]).numel()) for name in learned)
