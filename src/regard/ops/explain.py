"""explain(): how a program would run, and why not otherwise.

Leaves to others: the choice itself (`plan`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Request
from regard.backends.tiled.kernel import compile_kernel
from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ops.bind import Options
from regard.ops.check import named_inputs
from regard.ops.parameters import array_shapes, row_widths
from regard.ops.plan import make_plan
from regard.ops.prepare import prepare


@dataclass(frozen=True)
class Explanation:
    """How a call would run.

    Attributes:
        program: The program's name.
        backend: The backend that would run it.
        otherwise: Why each other backend is not used, by name.
        sizes: B, H, G, N, M, D, E.
        tile: Query rows and key rows of the tiled backend's tiles, if that is the one.
        shifted: For each term, whether its exponentials are shifted by the row's maximum.
        pair_numbers: Numbers held per pair-level value at once, and for all pairs: what a dense
            implementation holds.
        formula: The program as text.
    """

    program: str
    backend: str
    otherwise: dict[str, str]
    sizes: dict[str, int]
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
        if self.tile is not None:
            lines.append(f"tiles: {self.tile[0]} queries x {self.tile[1]} keys, all heads at once")
        at_once, dense = self.pair_numbers
        lines.append(
            f"numbers per pair-level value: {at_once:,} at once, {dense:,} if it were dense"
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
    tensors: dict[str, Tensor] = {}
    for name, value, other in (("q", q, None), ("k", k, "q"), ("v", v, "k")):
        tensors[name] = tensors[other] if value is None and other else _imagine(name, value)
    named = {name: value for name, value in options.items() if name in named_inputs(program.root)}
    rest = {name: value for name, value in options.items() if name not in named}
    named = {**_imagined(program, tensors, named, rest.get("total_heads", 0)), **named}
    kind, _ = prepare(program, tensors["q"], tensors["k"], tensors["v"], named, Options(**rest))
    request = kind.request
    if training:
        learned = {leaf.name for leaf in program.parameters}
        request = replace(request, wanted=request.wanted | {"q", "k", "v"} | learned)
    plan = make_plan(request, backend)
    chosen = plan.candidates[0]
    otherwise = dict(plan.reasons)
    otherwise |= {name: f"'{chosen}' comes first" for name in plan.candidates[1:]}
    tile, shifted = _tiling(request) if chosen == "tiled" else (None, {})
    pairs = request.batch * request.heads * request.queries * request.keys
    at_once = pairs if tile is None else request.batch * request.heads * tile[0] * tile[1]
    return Explanation(
        program.name,
        chosen,
        otherwise,
        kind.facts.sizes,
        tile,
        shifted,
        (at_once, pairs),
        program.formula(),
    )


def _tiling(request: Request) -> tuple[tuple[int, int], dict[str, bool]]:
    """Return a tile's query rows and key rows, and whether each term's exponentials are shifted."""
    kernel = compile_kernel(request)
    tile = (min(kernel.tile[0], request.queries), min(kernel.tile[1], request.keys))
    return tile, {term.name: bool(term.exponents) for term in kernel.lowered.terms}


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
    conditions, indices = _uses(program.root)
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


def _uses(root: n.Output) -> tuple[set[n.Node], set[n.Node]]:
    """Return the leaves that are conditions, and those that are indices."""
    conditions: set[n.Node] = set()
    indices: set[n.Node] = set()
    for node in n.walk(root):
        if isinstance(node, n.Gather):
            indices.update(node.indices)
        elif isinstance(node, n.Call) and node.op in ("and", "or", "not", "where"):
            conditions.update(node.args[:1] if node.op == "where" else node.args)
        elif isinstance(node, n.Term | n.TopK) and node.where is not None:
            conditions.add(node.where)
    arrays = [
        {node.array if isinstance(node, n.Gather) else node for node in found}
        for found in (conditions, indices)
    ]
    return arrays[0], arrays[1]
