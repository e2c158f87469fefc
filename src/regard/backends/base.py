"""What a backend is, what it is asked for, and the list of them.

Adding a backend is adding a folder and registering it; the contract suite then tests it. Leaves to
others: choosing one (`ops/plan`) and calling it (`ops/run`).
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.count_work import Work


class Declined(Exception):
    """Raised by `forward` when the numbers of this call, not its kind, need another backend."""


class Failed(Declined):
    """Raised when a backend turned out not to work on this machine."""


@dataclass(frozen=True)
class Request:
    """One kind of call: everything that is decided before its numbers are known.

    Attributes:
        written: The program as it was written.
        root: The program, with its channel widths resolved.
        observe: What is returned beside the output, by full name ("lse:a").
        wanted: The names of the tensors whose gradient is asked for.
        dtype: The dtype of q, k and v.
        device: The type of the device, "cpu" or "cuda" …
        batch: B.
        heads: H.
        groups: G.
        queries: N.
        keys: M.
        width: D.
        value_width: E.
        pair_channels: How many channels the widest value of a pair has; 0 if none has any.
        seeded: Whether random booleans are drawn.
        lengths: Whether query or key lengths are given.
        plain_positions: Whether row r has position r on both sides.
    """

    written: n.Output
    root: n.Output
    observe: tuple[str, ...]
    wanted: frozenset[str]
    dtype: torch.dtype
    device: str
    batch: int
    heads: int
    groups: int
    queries: int
    keys: int
    width: int
    value_width: int
    pair_channels: int
    seeded: bool
    lengths: bool
    plain_positions: bool


@dataclass(frozen=True)
class BlockPlan:
    """Which blocks of pairs a backend visits.

    Attributes:
        codes: int8 (B or 1, H or 1, blocks of queries, blocks of keys) of EMPTY, FULL and MIXED,
            as `values.blocks.classify_blocks` gives them.
        rows: Query rows of a block.
        keys: Key rows of a block.
    """

    codes: Tensor
    rows: int
    keys: int


@dataclass(frozen=True)
class Facts:
    """How a backend would run a call.

    Attributes:
        work: What it costs, counted; None if nobody counts that.
        sweeps: What each sweep over the pairs is for, in the order of a call.
        tile: Query rows and key rows of a tile, of which a call may have fewer; None if it does
            not work in tiles.
        tile_heads: How many heads a tile holds, of all batch rows.
        shifted: For each term, whether its exponentials are shifted by the row's maximum.
        plan: The blocks it visits; None if it visits every pair.
    """

    work: Work | None = None
    sweeps: tuple[str, ...] = ()
    tile: tuple[int, int] | None = None
    tile_heads: int = 1
    shifted: dict[str, bool] = field(default_factory=dict)
    plan: BlockPlan | None = None


class Backend(Protocol):
    """One way of running programs.

    Attributes:
        name: What users call it.
        differentiable: Whether torch's autograd sees through `forward`; if not, `backward` is
            called.
    """

    name: str
    differentiable: bool

    def supports(self, request: Request) -> str | None:
        """Return None if the backend can run this, else the reason why not."""
        ...

    def compile(self, request: Request) -> Any:
        """Return what `forward` and `backward` need that depends on no data."""
        ...

    def forward(self, kernel: Any, bound: Bound) -> tuple[dict[str, Tensor], Any]:
        """Return the outputs by name ("output" first) and what `backward` needs.

        That is a dict of tensors, which torch saves; None if torch's autograd sees through.
        """
        ...

    def backward(
        self, kernel: Any, bound: Bound, saved: Any, grads: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the gradients of the wanted tensors by name."""
        ...

    def facts(self, kernel: Any, bound: Bound) -> Facts:
        """Return how the call would run, without running it."""
        ...


_backends: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Add a backend, under its name, behind those already there.

    Args:
        backend: The backend.
    """
    _backends[backend.name] = backend


def registered() -> dict[str, Backend]:
    """Return the backends by name, in the order in which they are tried."""
    return _backends
