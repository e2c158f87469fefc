"""Random calls of random programs: sizes, lengths, offsets, seeds and tiles, drawn by hypothesis.

Data are multiples of a quarter, as `random_programs` expects. Leaves to others: the programs
(`random_weights`), running what is drawn (`contract`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from regard.ir.program import AttentionProgram
from regard.lang.pair import Pair
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.testing.contract import observable
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.random_programs import Draw
from regard.testing.random_weights import ProgramMaker


@dataclass(frozen=True)
class Call:
    """A random program with a call of it.

    Attributes:
        program: The program.
        inputs: Every tensor it takes.
        options: Further options of `attend`.
        observe: What is observed.
        tile: The size of tiles.
        seed: What random booleans are drawn from, or None.
    """

    program: AttentionProgram
    inputs: dict[str, Tensor]
    options: dict[str, Any]
    observe: tuple[str, ...]
    tile: tuple[int, int]
    seed: int | None

    def __repr__(self) -> str:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.inputs.items()}
        told = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in self.options.items()}
        return (
            f"{self.program.formula()}\n{shapes}\n{told} observe={self.observe} "
            f"tile={self.tile} seed={self.seed}"
        )


@st.composite
def calls(draw: Draw, lengths: Sequence[int] = (3, 5, 9, 1, 2)) -> Call:
    """Draw a program, and a call of it.

    Args:
        draw: Given by hypothesis.
        lengths: How many queries and how many keys there may be, the simplest first.

    Returns:
        The call.
    """
    groups, batch = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    rows = st.sampled_from(lengths)
    sizes = Sizes(
        B=batch, H=groups * draw(st.integers(1, 2)), G=groups, N=draw(rows), M=draw(rows),
        D=draw(st.sampled_from([2, 4, 6])), E=draw(st.sampled_from([2, 1, 3, 5])),
    )  # fmt: skip

    def drawn(pair: Pair) -> Expr:
        return ProgramMaker(draw, pair, sizes).output()

    made = program(drawn)
    extra = draw(st.sampled_from([0, 0, 1]))
    options = {"first_head": extra, "total_heads": sizes.H + 2 * extra, **_places(draw, sizes)}
    heads = options["total_heads"]
    drawn_inputs = make_inputs(made.root, sizes, torch.float64, draw(st.integers(0, 9)), heads)
    inputs = {name: _quartered(name, tensor) for name, tensor in drawn_inputs.items()}
    tile = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    seed = draw(st.sampled_from([None, 5]))
    observe = observable(made) if draw(st.booleans()) else ()
    return Call(made, inputs, options, observe, tile, seed)


def _quartered(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or name == "drop":
        return tensor
    return ((2 * tensor).round() / 2 if name in "qkvux" else (4 * tensor).round() / 4).clamp(-2, 2)


def _places(draw: Draw, sizes: Sizes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    where = draw(st.sampled_from(["rows", "offset", "offsets", "positions"]))
    if where == "offset":
        found["query_offset"] = draw(st.integers(-3, 7))
    elif where == "offsets":
        found["query_offset"] = torch.tensor([draw(st.integers(0, 5)) for _ in range(sizes.B)])
    elif where == "positions":
        found["query_positions"] = torch.arange(sizes.N) * 2 - 3
        found["key_positions"] = torch.randperm(sizes.M, generator=torch.Generator().manual_seed(3))
    for name, size in (("query_lengths", sizes.N), ("key_lengths", sizes.M)):
        if draw(st.booleans()):
            some = st.sampled_from([size, max(size - 1, 1), (size + 1) // 2, size, 0])
            found[name] = torch.tensor([draw(some) for _ in range(sizes.B)])
    return found
