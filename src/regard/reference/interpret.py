"""Expressions: the value of any node at a list of points.

Every node is computed once per point of its own axes that some listed point has, and only there.
Values are (points, channels), with one channel where a node has none. Leaves to others: which
points are listed, and the weights made of scores.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from regard.errors import ProgramError
from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.reference import leaves, scalars
from regard.reference.context import Context
from regard.reference.points import Points


class Interpreter:
    """Evaluates expressions at one list of points, each shared part once."""

    def __init__(
        self,
        context: Context,
        points: Points,
        visible: Tensor | None = None,
        given: Mapping[n.Node, Tensor] | None = None,
    ):
        """Prepare to evaluate.

        Args:
            context: The call.
            points: Where; they vary along every axis that the expressions do, channels aside.
            visible: What `pair.visible` reads, int64 (B, H, N).
            given: Values of nodes that are not to be computed, each at the points of its own axes.
        """
        self._context = context
        self._points = points
        self._visible = visible
        self._given = given or {}
        self._values: dict[tuple[n.Node, int | None], Tensor] = {}

    def at(self, root: n.Node, width: int | None = None) -> Tensor:
        """Evaluate an expression.

        Args:
            root: The expression.
            width: Over how many channels, if it varies over them.

        Returns:
            (points, channels or 1).
        """
        # In this order, and not by recursion, a program may be deeper than Python's stack.
        for node, channels in self._order(root, width):
            self._values[node, channels] = self._compute(node, channels)
        value = self._spread(self._values[self._key(root, width)], _sites(root), self._points.axes)
        return value.expand(self._points.count, -1)

    def at_float(self, root: n.Node, width: int | None = None) -> Tensor:
        """Evaluate an expression as `at` does, as a floating number.

        Args:
            root: The expression.
            width: Over how many channels, if it varies over them.

        Returns:
            (points, channels or 1), floating.
        """
        return self._context.as_float(self.at(root, width))

    def _order(self, root: n.Node, width: int | None) -> list[tuple[n.Node, int | None]]:
        """List what is still to be computed, each after its parts."""
        order: dict[tuple[n.Node, int | None], None] = {}
        stack = [(self._key(root, width), False)]
        while stack:
            key, ready = stack.pop()
            if key in order or key in self._values:
                continue
            if ready:
                order[key] = None
                continue
            stack.append((key, True))
            stack.extend((part, False) for part in self._parts(*key))
        return list(order)

    def _key(self, node: n.Node, width: int | None) -> tuple[n.Node, int | None]:
        return node, width if "c" in axes_of(node) else None

    def _parts(self, node: n.Node, width: int | None) -> Iterator[tuple[n.Node, int | None]]:
        """Yield the nodes a value is computed from, each with the channels it has there."""
        # What is chosen, maximised or added up looks at points of its own; see the rules.
        if node in self._given or isinstance(node, n.TopK | n.KeyMax | n.Running):
            return
        need = self._context.widths.need
        match node:
            case n.Gather():
                yield from ((index, None) for index in node.indices)
            case n.Reduce():
                yield node.body, need(node.body)
            case n.Rotate():
                rows = need(node.rows)
                yield from ((node.rows, rows), self._key(node.angle, rows // 2))
            case n.Slice():
                yield node.rows, need(node.rows)
            case n.Project():
                yield node.rows, self._context.bound.tensors[node.matrix.name].shape[-2]
            case _:
                yield from (self._key(part, width) for part in n.children(node))

    def _compute(self, node: n.Node, width: int | None) -> Tensor:
        if node in self._given:
            return self._given[node]
        points, _ = self._points.onto(_sites(node))
        args = [
            self._spread(self._values[part], _sites(part[0]), points.axes)
            for part in self._parts(node, width)
        ]
        rule = self._RULES.get(type(node))
        if rule is None:
            return leaves.read(node, points, self._context)
        return rule(self, node, args, points, width)

    def _spread(self, value: Tensor, have: str, want: str) -> Tensor:
        """Repeat a value per point of some axes for every point of more axes."""
        if have == want or not have:
            return value
        return value.index_select(0, self._points.onto(want)[0].onto(have)[1])

    def _call(self, node: n.Call, args: list[Tensor], _points: Points, _width: int | None):
        return scalars.apply(node.op, args, self._context.dtype)

    def _channel(self, _node: n.Channel, _args: list, points: Points, width: int | None):
        if width is None:
            raise ProgramError("rg.channel has a meaning inside a channel expression alone")
        return torch.arange(width, device=points.device)[None]

    def _seen(self, _node: n.Visible, _args: list, points: Points, _width: int | None):
        if self._visible is None:
            raise ProgramError("pair.visible belongs inside the score of weights")
        return self._visible.flatten()[points.numbers][:, None]

    def _hole(self, node: n.Hole, _args: list, _points: Points, _width: int | None):
        raise ProgramError(f"'{node.name}' is no value that can be read here")

    def _array(self, node: n.Array, _args: list, points: Points, _width: int | None):
        return leaves.read_array(node, [], points, self._context)

    def _gather(self, node: n.Gather, args: list[Tensor], points: Points, _width: int | None):
        return leaves.read_array(node.array, args, points, self._context)

    def _keep(self, node: n.Keep, args: list[Tensor], points: Points, _width: int | None):
        return leaves.draw_keep(args[0], node.place, points, self._context)

    def _reduce(self, _node: n.Reduce, args: list[Tensor], _points: Points, width: int | None):
        return args[0].sum(-1, keepdim=True)

    def _slice(self, node: n.Slice, args: list[Tensor], _points: Points, _width: int | None):
        return args[0][:, node.start : node.stop]

    def _rotate(self, node: n.Rotate, args: list[Tensor], _points: Points, _width: int | None):
        rows, angle = map(self._context.as_float, args)
        if node.pairs == "halves":
            x, y = rows.chunk(2, -1)
        else:
            x, y = rows[:, 0::2], rows[:, 1::2]
        turned = (x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos())
        if node.pairs == "halves":
            return torch.cat(turned, -1)
        return torch.stack(turned, -1).flatten(1)

    def _project(self, node: n.Project, args: list[Tensor], points: Points, _width: int | None):
        matrix = leaves.read_matrix(node.matrix, self._context)
        rows = self._context.as_float(args[0])
        dtype = torch.promote_types(rows.dtype, matrix.dtype)
        rows, matrix = rows.to(dtype), matrix.to(dtype)
        if matrix.ndim == 2:
            return rows @ matrix
        head = points.coordinates["h"]
        rows = rows.expand(points.count, -1)
        result = rows.new_zeros(points.count, matrix.shape[-1])
        for number in head.unique():
            own = (head == number).nonzero()[:, 0]
            product = rows[own] @ matrix[number + self._context.bound.first_head]
            result = result.index_copy(0, own, product)
        return result

    def _top_k(self, node: n.TopK, _args: list, points: Points, _width: int | None):
        with torch.no_grad():
            chosen = choose_top_k(node, self._context, self._visible)
        return chosen.flatten()[points.numbers][:, None]

    def _key_max(self, node: n.KeyMax, _args: list, points: Points, width: int | None):
        keys = self._context.key_points()
        with torch.no_grad():
            values = Interpreter(self._context, keys).at(node.rows, width)
            # A key that no query may see can hold anything; only finite numbers are compared.
            finite = values.double().masked_fill(~values.isfinite(), -torch.inf)
            group = Points(keys.grid, {a: keys.coordinates[a] for a in points.axes}, keys.device)
            number = group.numbers[:, None].expand_as(finite)
            least = finite.new_full((points.size, finite.shape[1]), -torch.inf)
            largest = least.scatter_reduce(0, number, finite, "amax")[points.numbers]
        return largest.masked_fill(largest == -torch.inf, 0).to(values.dtype)

    def _running(self, node: n.Running, _args: list, points: Points, _width: int | None):
        total = add_up(node, self._context, self._visible)
        total = total if "h" in points.axes else total[:, 0]
        return total.flatten()[points.numbers][:, None]

    _RULES: ClassVar[dict] = {
        n.Call: _call, n.Channel: _channel, n.Visible: _seen, n.Hole: _hole,
        n.Array: _array, n.Gather: _gather, n.Keep: _keep, n.Reduce: _reduce, n.Slice: _slice,
        n.Rotate: _rotate, n.Project: _project, n.TopK: _top_k, n.KeyMax: _key_max,
        n.Running: _running,
    }  # fmt: skip


def _sites(node: n.Node) -> str:
    return axes_of(node).replace("c", "")


def admit(where: n.Node | None, context: Context, visible: Tensor | None = None) -> Tensor:
    """Return the pairs that exist and that a condition admits.

    Args:
        where: A condition, or None for all.
        context: The call.
        visible: What `pair.visible` reads in the condition.

    Returns:
        bool (B, H, N, M).
    """
    exists = context.exists
    if where is None:
        return exists
    with torch.no_grad():
        points = context.points(exists)
        admitted = Interpreter(context, points, visible).at(where)[:, 0].to(torch.bool)
        return points.scatter(admitted, False)


def drop_minus_infinity(
    score: n.Node, mask: Tensor, context: Context, visible: Tensor | None
) -> Tensor:
    """Hide the points whose score is -inf: such a score means hidden.

    Args:
        score: A pair's score, or a row's sink.
        mask: The points admitted so far, bool (B, H, N, M) or (B, H, N).
        context: The call.
        visible: What `pair.visible` reads in the score.

    Returns:
        The points that remain.
    """
    with torch.no_grad():
        points = context.points(mask)
        values = Interpreter(context, points, visible).at(score)[:, 0]
        return points.scatter(values != -torch.inf, False)


def choose_top_k(node: n.TopK, context: Context, visible: Tensor | None) -> Tensor:
    """Find the k largest scores of every row; of equal ones those of the lower key row.

    Args:
        node: The predicate; it ranks the keys that its own `where` admits.
        context: The call.
        visible: What `pair.visible` reads in the score.

    Returns:
        bool (B, H, N, M).
    """
    mask = drop_minus_infinity(node.score, admit(node.where, context), context, visible)
    points = context.points(mask)
    inner = Interpreter(context, points, visible)
    score = inner.at_float(node.score)[:, 0]
    ordered = points.scatter(score, -torch.inf).sort(dim=-1, descending=True, stable=True)
    rank = ordered.indices.argsort(-1).flatten()[points.numbers]
    return points.scatter(rank < inner.at(node.k)[:, 0], False)


def add_up(node: n.Running, context: Context, visible: Tensor | None) -> Tensor:
    """Add up a number over the keys of every row, in the order of key rows.

    Args:
        node: The running sum; a key that its own `where` does not admit adds nothing.
        context: The call.
        visible: What `pair.visible` reads in the number.

    Returns:
        The sum at every pair, (B, H, N, M).
    """
    points = context.points(admit(node.where, context, visible))
    values = Interpreter(context, points, visible).at(node.body)[:, 0]
    if values.dtype == torch.bool:
        values = values.to(torch.int64)
    grid = points.scatter(values)
    grid = grid.flip(-1) if node.reverse else grid
    if node.exclusive:
        # Not the sum less this key, which would be NaN if this key were infinite.
        grid = torch.nn.functional.pad(grid, (1, 0))[..., :-1]
    total = grid.cumsum(-1)
    return total.flip(-1) if node.reverse else total
