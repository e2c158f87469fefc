"""explain(): how a program would run, and why not otherwise; and the code that would run.

Leaves to others: the choice itself (`plan`), writing code (the backends).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from regard.backends.base import Request, registered
from regard.backends.cpu import kernel as cpu
from regard.backends.tiled import kernel as tiled
from regard.errors import InputError, nearest
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ops.bind import Options
from regard.ops.check import named_inputs
from regard.ops.parameters import array_shapes, row_widths
from regard.ops.plan import make_plan
from regard.ops.prepare import prepare
from regard.passes.find_uses import find_uses

# What a sweep of the cpu backend gives, by its name.
_SWEEPS = {
    "count": "how many keys each row sees",
    "forward": "row sums and output at once",
    "decode": "row sums and output at once; keys and values are read where they lie",
    "sums": "row sums",
    "spread": "the output, from weights that read row sums",
    "inverses": "what normalisers receive",
    "backward": "what every input receives",
}


@runtime_checkable
class WritesCode(Protocol):
    """A backend that writes code, and can show it."""

    def code(self, request: Request) -> str:
        """Return the code of a kind of call: the gradient's if gradients are wanted."""
        ...


@dataclass(frozen=True)
class Explanation:
    """How a call would run.

    Attributes:
        program: The program's name.
        backend: The backend that would run it.
        otherwise: Why each other backend is not used, by name.
        sizes: B, H, G, N, M, D, E.
        sweeps: What each sweep over the pairs gives, in the order of a call, if that is known.
        tile: Query rows and key rows of a tile, if the backend works in tiles.
        shifted: For each term, whether its exponentials are shifted by the row's maximum.
        pair_numbers: Numbers held per pair-level value at once (by each thread of the cpu backend),
            and for all pairs: what a dense implementation holds.
        formula: The program as text.
    """

    program: str
    backend: str
    otherwise: dict[str, str]
    sizes: dict[str, int]
    sweeps: tuple[str, ...]
    tile: tuple[int, int] | None
    shifted: dict[str, bool]
    pair_numbers: tuple[int, int]
    formula: str

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.formula, f"runs on: {self.backend}"]
        lines += [f"  not {name}: {why}" for name, why in self.otherwise.items()]
        lines.append(
            "sizes: " + ", ".join(f"{letter} {size}" for letter, size in self.sizes.items())
        )
        lines += [f"sweep {place}: {what}" for place, what in enumerate(self.sweeps, 1)]
        threaded = self.backend == "cpu"
        if self.tile is not None:
            heads = "one head at a time" if threaded else "all heads at once"
            lines.append(f"tiles: {self.tile[0]} queries x {self.tile[1]} keys, {heads}")
        at_once, dense = self.pair_numbers
        lines.append(
            f"numbers per pair-level value: {at_once:,} at once{' in each thread' * threaded}, "
            f"{dense:,} if it were dense"
        )
        for name, shifted in self.shifted.items():
            how = (
                "shifted by the row's largest exponent"
                if shifted
                else "not shifted: no row maximum is taken"
            )
            lines.append(f"term {name}: {how}")
        return "\n".join(lines)


def explain(
    program: AttentionProgram,
    q: Tensor | Sequence[int],
    k: Tensor | Sequence[int] | None = None,
    v: Tensor | Sequence[int] | None = None,
    *,
    backend: str = "auto",
    training: bool = False,
    **options: Any,
) -> Explanation:
    """Say how `attend` would run a program, without running it.

    Args:
        program: The program.
        q: Queries, or their shape (B, H, N, D).
        k: Keys, or their shape; those of q unless given.
        v: Values, or their shape; those of k unless given.
        backend: As for `attend`.
        training: Whether the gradients of q, k, v and all parameters are wanted.
        **options: As for `attend`. Inputs that are not given are imagined.

    Returns:
        The explanation; it prints well.

    Raises:
        InputError: If something does not fit.
        UnsupportedError: If no backend, or not the named one, can run the program.
    """
    request, sizes = _request(program, (q, k, v), training, options)
    plan = make_plan(request, backend)
    chosen = plan.candidates[0]
    otherwise = dict(plan.reasons)
    otherwise |= {name: f"'{chosen}' comes first" for name in plan.candidates[1:]}
    heads, pairs = request.batch * request.heads, request.queries * request.keys
    sweeps, tile, shifted, at_once = (), None, {}, heads * pairs
    if chosen == "tiled":
        kernel = tiled.compile_kernel(request)
        tile, shifted = _tile(kernel, request), _shifted(kernel)
        at_once = heads * tile[0] * tile[1]
    elif chosen == "cpu":
        kernel = cpu.compile_kernel(request)
        sweeps = tuple(_SWEEPS[name] for name in kernel.sweeps(request.queries, request.keys))
        tile, shifted = _tile(kernel, request), _shifted(kernel)
        at_once = tile[0] * tile[1]
    return Explanation(
        program=program.name,
        backend=chosen,
        otherwise=otherwise,
        sizes=sizes,
        sweeps=sweeps,
        tile=tile,
        shifted=shifted,
        pair_numbers=(at_once, heads * pairs),
        formula=program.formula(),
    )


def emitted_code(
    program: AttentionProgram,
    q: Tensor | Sequence[int],
    k: Tensor | Sequence[int] | None = None,
    v: Tensor | Sequence[int] | None = None,
    *,
    backend: str,
    training: bool = False,
    **options: Any,
) -> str:
    """Return the code that a backend writes for a call, without building or running it.

    Args:
        program: The program.
        q: Queries, or their shape (B, H, N, D).
        k: Keys, or their shape; those of q unless given.
        v: Values, or their shape; those of k unless given.
        backend: The name of one that writes code.
        training: Whether the gradient's code is asked for, instead of the output's.
        **options: As for `attend`. Inputs that are not given are imagined.

    Returns:
        The code.

    Raises:
        InputError: If there is no such backend, or something does not fit.
        UnsupportedError: If the backend cannot run the program.
    """
    writers = {name: one for name, one in registered().items() if isinstance(one, WritesCode)}
    if backend not in writers:
        raise InputError(f"no backend '{backend}' writes code; {nearest(backend, writers)}")
    request, _ = _request(program, (q, k, v), training, options)
    return writers[backend].code(request)


def _request(
    program: AttentionProgram, rows: tuple[Any, Any, Any], training: bool, options: dict[str, Any]
) -> tuple[Request, dict[str, int]]:
    """Return the kind of a call whose other inputs are imagined, and its sizes by letter."""
    tensors: dict[str, Tensor] = {}
    for name, value, other in zip("qkv", rows, (None, "q", "k"), strict=True):
        tensors[name] = tensors[other] if value is None and other else _imagine(name, value)
    named = {name: value for name, value in options.items() if name in named_inputs(program.root)}
    rest = {name: value for name, value in options.items() if name not in named}
    named = {**_imagined(program, tensors, named, rest.get("total_heads", 0)), **named}
    kind, _ = prepare(program, tensors["q"], tensors["k"], tensors["v"], named, Options(**rest))
    request = kind.request
    if training:
        learned = {leaf.name for leaf in program.parameters}
        request = replace(request, wanted=request.wanted | {"q", "k", "v"} | learned)
    return request, kind.facts.sizes


def _tile(kernel: tiled.Kernel | cpu.Kernel, request: Request) -> tuple[int, int]:
    """Return a tile's query rows and key rows, no more than there are."""
    return min(kernel.tile[0], request.queries), min(kernel.tile[1], request.keys)


def _shifted(kernel: tiled.Kernel | cpu.Kernel) -> dict[str, bool]:
    """Return whether each term's exponentials are shifted."""
    return {term.name: bool(term.exponents) for term in kernel.lowered.terms}


def _imagine(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.empty(tuple(value))
    except (TypeError, RuntimeError):
        raise InputError(
            f"{name} must be a tensor or a shape such as (2, 8, 128, 64), not {value!r}"
        ) from None


def _imagined(
    program: AttentionProgram, tensors: dict[str, Tensor], given: dict[str, Any], heads: int
) -> dict[str, Tensor]:
    """Return stand-ins for the inputs that have no default, of the kind the program needs."""
    conditions, indices = find_uses(program.root)
    q, k = tensors["q"], tensors["k"]
    rows = {**tensors, **{name: x for name, x in given.items() if isinstance(x, Tensor)}}
    vectors = [leaf.name for leaf in program.inputs if isinstance(leaf, n.Vector)]
    known = {name: rows[name].shape[-1] for name in {*vectors, "q", "k", "v"} if name in rows}
    widths = row_widths(program.root, known, q.shape[3])
    shapes = array_shapes(program.root, heads or q.shape[1], widths)
    made: dict[str, Tensor] = {}
    for leaf in program.inputs:
        dtype = torch.int64 if leaf in indices else torch.float32
        dtype = torch.bool if leaf in conditions else dtype
        match leaf:
            case n.Feature():
                made[leaf.name] = torch.zeros((1, 1, 1), dtype=dtype)
            case n.PairInput():
                one = torch.zeros((1, 1, 1, 1), dtype=dtype)
                made[leaf.name] = one.expand(1, 1, q.shape[2], k.shape[2])
            case n.Vector() if leaf.name not in ("q", "k", "v"):
                like = q if leaf.side == "query" else k
                made[leaf.name] = like.new_zeros((*like.shape[:3], widths[leaf.name]))
            case n.Scalar() if leaf.default is None:
                made[leaf.name] = torch.zeros(())
            case n.Array() if leaf.source == "table":
                shape = [size or 1 for size in shapes[leaf.name]]
                made[leaf.name] = torch.zeros(shape, dtype=dtype)
    return made
