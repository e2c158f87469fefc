"""The value of any expression in one tile, each node once.

Leaves to others: loading and collecting tensors (`layout`), sums of products (`contract`), and
which expressions are needed (`forward`, `backward`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from regard.backends.values import layout
from regard.backends.values.contract import sum_product
from regard.backends.values.running import add_up
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.operators import OPERATORS
from regard.ir.random import draw_bits, keep_threshold
from regard.ir.types import axes_of
from regard.passes.choose_keys import columns_of

_TORCH = {name: getattr(torch, op.torch) for name, op in OPERATORS.items() if name != "softplus"}


@lru_cache(maxsize=4096)
def constant(
    value: bool | int | float, kind: type, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return a 5-D constant; `kind` keeps 1, 1.0 and True apart."""
    chosen = {bool: torch.bool, int: torch.int64, float: dtype}[kind]
    # One made in inference mode could not be kept for a gradient later.
    with torch.inference_mode(False):
        return torch.full((1, 1, 1, 1, 1), value, dtype=chosen, device=device)


@dataclass
class Cache:
    """Values by node: those of the tile's query rows, of its key rows, and of the tile itself.

    The first two outlive the tile while their rows stay; what depends on a hole never does.
    """

    query: dict[n.Node, Tensor] = field(default_factory=dict)
    key: dict[n.Node, Tensor] = field(default_factory=dict)
    pair: dict[n.Node, Tensor] = field(default_factory=dict)

    def place(self, node: n.Node) -> dict[n.Node, Tensor]:
        """Return the dictionary a node's value belongs to."""
        if depends_on_holes(node):
            return self.pair
        axes = axes_of(node)
        if "j" not in axes:
            return self.query
        return self.pair if "i" in axes else self.key


def depends_on_holes(node: n.Node) -> bool:
    """Tell whether a value from outside, other than a channel's number, is part of a node."""
    if "_holes" not in node.__dict__:
        for part in n.walk(node):
            own = isinstance(part, n.Hole) and not part.name.startswith("channel:")
            below = any(child.__dict__["_holes"] for child in n.children(part))
            object.__setattr__(part, "_holes", own or below)
    return node.__dict__["_holes"]


class Evaluator:
    """Evaluates expressions in one tile.

    Args:
        bound: The call.
        tile: The ranges of rows.
        holes: Values of holes, 5-D, by name.
        cache: Values found earlier that still hold here.
    """

    def __init__(
        self, bound: Bound, tile: layout.Tile, holes: dict[str, Tensor], cache: Cache
    ) -> None:
        self.bound, self.tile, self.holes, self.cache = bound, tile, holes, cache
        # What other key rows add to a running sum here; None if the tile has all key rows.
        self.carry: Callable[[n.Running, Evaluator], Tensor | None] = lambda node, at: None
        self.sizes = {
            "b": bound.batch,
            "h": bound.heads,
            "i": tile.i1 - tile.i0,
            "j": tile.j1 - tile.j0,
        }

    def __call__(self, node: n.Node) -> Tensor:
        """Return the 5-D value of a node."""
        if isinstance(node, n.Hole):
            return self._hole(node)
        values = self.cache.place(node)
        found = values.get(node)
        if found is None:
            found = values[node] = self._evaluate(node)
        return found

    def condition(self, node: n.Node) -> Tensor:
        """Return the 5-D boolean value of a node."""
        return self(node).to(torch.bool)

    def number(self, node: n.Node) -> Tensor:
        """Return the 5-D value of a node for arithmetic: truth values count 0 and 1."""
        value = self(node)
        return value.to(torch.int64) if value.dtype == torch.bool else value

    def real(self, node: n.Node) -> Tensor:
        """Return the 5-D value of a node as a floating-point number."""
        value = self(node)
        return value if value.dtype.is_floating_point else value.to(self.bound.compute_dtype)

    def exists(self) -> Tensor | None:
        """Return whether the tile's rows exist under the call's lengths, or None if all do."""
        found = None
        for lengths, rows in (
            (self.bound.query_lengths, "row_i"),
            (self.bound.key_lengths, "row_j"),
        ):
            if lengths is not None:
                part = self.index(rows) < lengths.view(-1, 1, 1, 1, 1)
                found = part if found is None else found & part
        return found

    def added(self, node: n.Running) -> Tensor:
        """Return what each pair of the tile adds to a running sum, 5-D; 0 where it is hidden."""
        value, exists = self.number(node.body), self.exists()
        value = value if exists is None else torch.where(exists, value, 0)
        value = value if node.where is None else torch.where(self.condition(node.where), value, 0)
        return value.expand(*value.shape[:3], self.sizes["j"], 1)

    def _evaluate(self, node: n.Node) -> Tensor:
        match node:
            case n.Const():
                value = node.value
                return constant(value, type(value), self.bound.compute_dtype, self.bound.q.device)
            case n.Call():
                return self._call(node)
            case n.Reduce():
                return self._reduce(node)
            case n.Index():
                return self.index(node.name)
            case n.Vector() | n.Feature() | n.PairInput() | n.Scalar():
                return layout.load_leaf(node, self.bound, self.tile)
            case n.Array():
                return layout.load_array(node, self.bound)
            case n.Gather():
                return layout.gather(
                    node.array, [self(index) for index in node.indices], self.bound
                )
            case n.Keep():
                return self._keep(node)
            case n.Running():
                own, carry = add_up(self.added(node), node), self.carry(node, self)
                return own if carry is None else carry + own
            case _:
                return self._row(node)

    def _hole(self, node: n.Hole) -> Tensor:
        kind, _, width = node.name.partition(":")
        if kind == "channel":
            return torch.arange(int(width), device=self.bound.q.device).view(1, 1, 1, 1, -1)
        if kind == "chosen":
            return chosen_keys(self.holes[columns_of(node)], self.tile)
        return self.holes[node.name]

    def index(self, name: str) -> Tensor:
        """Return the 5-D value of a position or size."""
        bound, tile, device = self.bound, self.tile, self.bound.q.device
        match name:
            case "i":
                return bound.query_positions[:, None, tile.i0 : tile.i1, None, None]
            case "j":
                return bound.key_positions[:, None, None, tile.j0 : tile.j1, None]
            case "row_i":
                return torch.arange(tile.i0, tile.i1, device=device).view(1, 1, -1, 1, 1)
            case "row_j":
                return torch.arange(tile.j0, tile.j1, device=device).view(1, 1, 1, -1, 1)
            case "head":
                heads = torch.arange(bound.heads, device=device) + bound.first_head
                return heads.view(1, -1, 1, 1, 1)
            case "batch":
                return torch.arange(bound.batch, device=device).view(-1, 1, 1, 1, 1)
            case "queries" | "keys":
                lengths = bound.query_lengths if name == "queries" else bound.key_lengths
                size = bound.queries if name == "queries" else bound.keys
                return self._whole(size) if lengths is None else lengths.view(-1, 1, 1, 1, 1)
            case "heads":
                return self._whole(bound.total_heads or bound.heads)
            case _:
                return self._whole(bound.q.shape[-1])

    def _whole(self, size: int) -> Tensor:
        return constant(size, int, self.bound.compute_dtype, self.bound.q.device)

    def _keep(self, node: n.Keep) -> Tensor:
        if self.bound.seed is None:
            return constant(True, bool, self.bound.compute_dtype, self.bound.q.device)
        names = {"b": "batch", "h": "head", "i": "row_i", "j": "row_j"}
        coordinates = [self.index(names[axis]) for axis in "bhij" if axis in node.axes]
        bits = draw_bits(self.bound.seed, node.place, coordinates)
        return bits.to(self.bound.q.device) >= keep_threshold(self(node.p))

    def _call(self, node: n.Call) -> Tensor:
        operator = OPERATORS[node.op]
        if operator.takes == "bool":
            return _TORCH[node.op](*(self.condition(arg) for arg in node.args))
        if node.op == "where":
            return torch.where(self.condition(node.args[0]), self(node.args[1]), self(node.args[2]))
        if operator.gives == "float":
            args = [self.real(arg) for arg in node.args]
        else:
            args = [self.number(arg) for arg in node.args]
        if node.op == "floor":
            return args[0].floor().to(torch.int64) if args[0].dtype.is_floating_point else args[0]
        if node.op == "softplus":
            return torch.logaddexp(args[0], torch.zeros_like(args[0]))
        if node.op in ("min", "max") and args[0].dtype != args[1].dtype:
            dtype = torch.promote_types(args[0].dtype, args[1].dtype)
            args = [arg.to(dtype) for arg in args]
        if node.op in ("floordiv", "mod") and not args[1].dtype.is_floating_point:
            return _divide_integers(node.op, *args)
        return _TORCH[node.op](*args)

    def _reduce(self, node: n.Reduce) -> Tensor:
        factors, mask = product_of(node.body)
        values = [self.real(factor) for factor in factors] or [self.real(n.Const(1.0))]
        condition = None if mask is None else self.condition(mask)
        return sum_product(values, condition, node.axes, self.sizes)

    def _row(self, node: n.Node) -> Tensor:
        match node:
            case n.Rotate():
                return rotate(self.real(node.rows), self.real(node.angle), node.pairs)
            case n.Slice():
                return self(node.rows)[..., node.start : node.stop]
            case n.Project():
                return project(self.real(node.rows), layout.load_matrix(node.matrix, self.bound))
            case n.Unproject():
                return project(self.real(node.rows), layout.load_matrix(node.matrix, self.bound).mT)
            case n.Outer():
                return outer(self.real(node.rows), self.real(node.adjoint))
            case n.Count():
                return self._whole(self(node.like).shape[-1])
            case n.Widen():
                return self(node.rows).expand(
                    *self(node.rows).shape[:-1], self(node.like).shape[-1]
                )
            case n.Pad():
                rows, width = self(node.rows), self(node.like).shape[-1]
                return torch.nn.functional.pad(
                    rows, (node.start, width - node.start - rows.shape[-1])
                )
            case n.Cross():
                (x, y), (a, b) = (
                    split(self(node.rows), node.pairs),
                    split(self(node.other), node.pairs),
                )
                return x * b - y * a
            case _:
                raise AssertionError(f"no rule evaluates {type(node).__name__}")


def chosen_keys(columns: Tensor, tile: layout.Tile) -> Tensor:
    """Return which pairs of a tile are chosen, (B, H, rows, keys, 1).

    Args:
        columns: The chosen key rows of each query row, int64 (B, H, rows, k, 1); -1 is none.
        tile: The ranges of rows.

    Returns:
        Truth values.
    """
    shape = (*columns.shape[:3], tile.j1 - tile.j0 + 1, 1)
    marked = torch.zeros(shape, dtype=torch.bool, device=columns.device)
    return marked.scatter_(3, places_in(tile, columns), True)[:, :, :, :-1]


def places_in(tile: layout.Tile, columns: Tensor) -> Tensor:
    """Return where key rows lie in a tile; those that lie elsewhere come behind its last.

    Args:
        tile: The ranges of rows.
        columns: Key rows.

    Returns:
        int64, of the shape of `columns`.
    """
    inside = (columns >= tile.j0) & (columns < tile.j1)
    return torch.where(inside, columns - tile.j0, tile.j1 - tile.j0)


def _divide_integers(op: str, a: Tensor, b: Tensor) -> Tensor:
    """Return a // b or a % b; by 0 they are 0 and a, because a kernel cannot raise at one pair."""
    if a.dtype.is_floating_point:
        return _TORCH[op](a, b)
    by_zero = b == 0
    found = _TORCH[op](a, torch.where(by_zero, 1, b))
    return torch.where(by_zero, 0 if op == "floordiv" else a, found)


@lru_cache(maxsize=8192)
def product_of(body: n.Node) -> tuple[list[n.Node], n.Node | None]:
    """Return the factors of a product and the condition it stands under.

    Args:
        body: An expression: where(condition, product, 0) or a product.

    Returns:
        The factors, and the condition or None.
    """
    mask = None
    if isinstance(body, n.Call) and body.op == "where" and body.args[2] is n.Const(0.0):
        mask, body = body.args[0], body.args[1]
    return _factors(body), mask


def _factors(node: n.Node) -> list[n.Node]:
    """Split a product whose sides vary along different axes, so that none is computed too wide."""
    if isinstance(node, n.Call) and node.op == "mul":
        own, (left, right) = axes_of(node), (axes_of(arg) for arg in node.args)
        if left != right and ("c" in own or own not in (left, right)):
            return [factor for arg in node.args for factor in _factors(arg)]
    return [node]


def split(rows: Tensor, pairs: str) -> tuple[Tensor, Tensor]:
    """Return the first and second channel of each pair."""
    if pairs == "halves":
        first, second = rows.chunk(2, dim=-1)
        return first, second
    return rows[..., 0::2], rows[..., 1::2]


def rotate(rows: Tensor, angle: Tensor, pairs: str) -> Tensor:
    """Turn each pair of channels by its angle."""
    x, y = split(rows, pairs)
    cos, sin = angle.cos(), angle.sin()
    turned = (x * cos - y * sin, x * sin + y * cos)
    if pairs == "halves":
        return torch.cat(torch.broadcast_tensors(*turned), dim=-1)
    return torch.stack(torch.broadcast_tensors(*turned), dim=-1).flatten(-2)


def project(rows: Tensor, matrix: Tensor) -> Tensor:
    """Multiply rows (b, h, i, j, c) by a matrix (1 or H, in, out)."""
    dtype = torch.promote_types(rows.dtype, matrix.dtype)
    shape = rows.shape
    flat = rows.to(dtype).flatten(2, 3) @ matrix.to(dtype)
    return flat.view(*flat.shape[:2], shape[2], shape[3], matrix.shape[-1])


def outer(rows: Tensor, adjoint: Tensor) -> Tensor:
    """Return the sum over b, i, j of rows ⊗ adjoint, (H, in, out)."""
    rows, adjoint = (
        value.expand(_joint(rows, adjoint, value)).transpose(0, 1).flatten(1, 3)
        for value in (rows, adjoint)
    )
    return torch.where((adjoint != 0).any(-1, keepdim=True), rows, 0.0).mT @ adjoint


def _joint(a: Tensor, b: Tensor, own: Tensor) -> list[int]:
    return [*torch.broadcast_shapes(a.shape[:-1], b.shape[:-1]), own.shape[-1]]
