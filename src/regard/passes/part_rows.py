"""Part channel expressions that differ from pair to pair into rows of a side and chosen rows.

Before: q · (k + keys[step]).
After: the products q · k and q · keys[step], of which the second holds a row that pairs choose.
Before: growth · (v + values[step]), growth a number of the pair.
After: rows v and values[step], each scaled by growth.
Leaves to others: what is made of a product (`split_pairs`) and of a sum of values (the backends).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.types import axes_of, index_axes
from regard.passes.build import ONE, ZERO, add, call, mul, select

# A table of more rows takes more memory, for each row of a side, than its products are worth.
MOST_CHOSEN_ROWS = 1024


@dataclass(frozen=True)
class Product:
    """A number of the pair times rows.

    Attributes:
        scale: The number.
        rows: What has channels and is no chosen row; ONE if there is none.
        chosen: The row of a table that pairs choose, or None.
    """

    scale: n.Node = ONE
    rows: n.Node = ONE
    chosen: n.Gather | None = None


@dataclass(frozen=True)
class Values:
    """What a program sums over keys.

    Attributes:
        rows: A row of each key.
        scale: The number of the pair that `rows` is multiplied by.
        chosen: The rows that the pair chooses, each behind the number it is multiplied by.
    """

    rows: n.Node
    scale: n.Node = ONE
    chosen: tuple[tuple[n.Node, n.Gather], ...] = ()

    def dot(self, row: n.Node) -> n.Node:
        """Return the product with a row, summed over channels.

        Args:
            row: A row of channels.

        Returns:
            An expression of the pair.
        """
        total = mul(n.Reduce(mul(row, self.rows), "c"), self.scale)
        for scale, chosen in self.chosen:
            total = add(total, mul(n.Reduce(mul(row, chosen), "c"), scale))
        return total


def holds_chosen_rows(body: n.Node) -> bool:
    """Tell whether a channel expression reads rows of a table that the pair chooses.

    Args:
        body: The expression; sums over channels inside it are expressions of their own.

    Returns:
        Whether it does.
    """
    return bool(_chosen_arrays(body))


def part_products(body: n.Node) -> list[Product]:
    """Write what is summed over channels as products of at most one chosen row each.

    Args:
        body: A channel expression that holds chosen rows.

    Returns:
        The products, whose sum it is.

    Raises:
        UnsupportedError: If chosen rows are more than multiplied and added.
    """
    found = _parts(body, holds_chosen_rows)
    if found is None or any(part.rows is ONE for part in found):
        raise UnsupportedError(_refusal(body))
    return found


def part_values(values: n.Node) -> Values:
    """Part what a program sums over keys.

    Args:
        values: The channel expression.

    Returns:
        Its parts.

    Raises:
        UnsupportedError: If no row of each key and rows of tables are left.
    """
    if not {"i", "j"} <= set(axes_of(values)):
        return Values(values)
    found = _parts(values, _is_mixed)
    if found is None:
        raise UnsupportedError(_refusal(values))
    rows: dict[n.Node, n.Node] = {}
    chosen: dict[n.Gather, n.Node] = {}
    for part in found:
        if part.chosen is None:
            rows[part.scale] = add(rows.get(part.scale, ZERO), part.rows)
        elif part.rows is ONE:
            chosen[part.chosen] = add(chosen.get(part.chosen, ZERO), part.scale)
        else:
            raise UnsupportedError(_refusal(values))
    if len(rows) != 1:
        raise UnsupportedError(_refusal(values))
    ((scale, row),) = rows.items()
    if "i" in axes_of(row):
        raise UnsupportedError(_refusal(values))
    return Values(row, scale, tuple((scale, one) for one, scale in chosen.items()))


def mixed_factors(node: n.Node) -> Iterator[tuple[n.Node, bool]]:
    """Yield the factors of a product that mix sides, and whether each divides.

    Args:
        node: The product.

    Yields:
        A factor, and whether it divides.
    """
    if isinstance(node, n.Call) and node.op in ("mul", "div"):
        if "i" in axes_of(node) and "j" in axes_of(node):
            yield from mixed_factors(node.args[0])
            if node.op == "mul":
                yield from mixed_factors(node.args[1])
            else:
                yield node.args[1], True
            return
    yield node, False


def by_table(rows: n.Node, chosen: n.Gather) -> n.Pick:
    """Return Σ_c rows · chosen as an element of a row: rows times the transposed table.

    Args:
        rows: A row of one side.
        chosen: The row of a table that pairs choose.

    Returns:
        The element.
    """
    return n.Pick(n.Unproject(rows, chosen.array), chosen.indices[0])


def _is_mixed(node: n.Node) -> bool:
    return {"i", "j", "c"} <= set(axes_of(node))


def _is_chosen(node: n.Node) -> bool:
    return isinstance(node, n.Gather) and "channel" in node.array.per and _is_mixed(node)


def _chosen_arrays(body: n.Node) -> list[n.Array]:
    """Return the tables of chosen rows that an expression reads at a channel."""
    found: list[n.Array] = []
    seen: set[n.Node] = set()
    stack = [body]
    while stack:
        node = stack.pop()
        if node in seen or not _is_mixed(node):
            continue
        seen.add(node)
        if isinstance(node, n.Gather) and _is_chosen(node):
            found.append(node.array)
        else:
            stack.extend(reversed(list(n.children(node))))
    return found


def _refusal(body: n.Node) -> str:
    names = [array.name for array in _chosen_arrays(body)]
    if not names:
        return "a kernel sums rows of keys; the values differ from pair to pair"
    return (
        f"'{names[0]}' holds rows that pairs choose, which kernels only multiply with rows of one "
        "side and add to rows of keys"
    )


def _parts(node: n.Node, inside: Callable[[n.Node], bool]) -> list[Product] | None:
    """Return the products an expression is the sum of, or None if it is no such sum.

    `inside` tells which expressions are taken apart; others are rows as they are.
    """
    if "c" not in axes_of(node):
        return [Product(scale=node)]
    if not inside(node):
        return [_row(node)]
    if isinstance(node, n.Gather) and _is_chosen(node):
        _check_table(node.array)
        return [Product(chosen=node)]
    match node:
        case n.Call(op="add" | "sub" | "neg"):
            return _added(node, inside)
        case n.Call(op="mul"):
            return _multiplied(node, inside)
        case n.Call(op="div") if not inside(node.args[1]):
            return _divided(_parts(node.args[0], inside), node.args[1])
        case n.Call(op="where") if "c" not in axes_of(node.args[0]):
            return _chosen_between(node, inside)
    return None


def _row(node: n.Node) -> Product:
    """Return a row and the number of the pair it is multiplied by."""
    scale, rows = ONE, ONE
    for factor, inverse in mixed_factors(node):
        if "c" in axes_of(factor):
            rows = call("div", rows, factor) if inverse else mul(rows, factor)
        else:
            scale = call("div", scale, factor) if inverse else mul(scale, factor)
    return Product(scale, rows)


def _check_table(array: n.Array) -> None:
    if index_axes(array) != 1 or "head" in array.per[1:]:
        raise UnsupportedError(
            f"'{array.name}' holds rows that pairs choose by more than one index, or whose heads "
            "do not come first"
        )
    sizes = [axis for axis in array.per if isinstance(axis, int)]
    if sizes and sizes[0] > MOST_CHOSEN_ROWS:
        raise UnsupportedError(too_many_rows(f"'{array.name}' holds {sizes[0]} rows"))


def too_many_rows(found: str) -> str:
    """Return the reason to refuse a table of too many rows.

    Args:
        found: What was found, e.g. "'keys' holds 2048 rows".

    Returns:
        A sentence.
    """
    return f"{found} that pairs choose; kernels take at most {MOST_CHOSEN_ROWS}"


def _added(node: n.Call, inside: Callable[[n.Node], bool]) -> list[Product] | None:
    found: list[Product] = []
    for k, arg in enumerate(node.args):
        parts = _parts(arg, inside)
        if parts is None:
            return None
        negative = node.op == "neg" or (node.op == "sub" and k == 1)
        found += [replace(p, scale=mul(n.Const(-1.0), p.scale)) if negative else p for p in parts]
    return found


def _multiplied(node: n.Call, inside: Callable[[n.Node], bool]) -> list[Product] | None:
    left, right = (_parts(arg, inside) for arg in node.args)
    if left is None or right is None:
        return None
    if any(a.chosen is not None and b.chosen is not None for a in left for b in right):
        return None
    return [
        Product(mul(a.scale, b.scale), mul(a.rows, b.rows), a.chosen or b.chosen)
        for a in left
        for b in right
    ]


def _divided(parts: list[Product] | None, by: n.Node) -> list[Product] | None:
    if parts is None or "c" not in axes_of(by):
        return parts and [replace(part, scale=call("div", part.scale, by)) for part in parts]
    return [replace(part, rows=call("div", part.rows, by)) for part in parts]


def _chosen_between(node: n.Call, inside: Callable[[n.Node], bool]) -> list[Product] | None:
    condition, yes, no = node.args
    found: list[Product] = []
    for parts, seen in (
        (_parts(yes, inside), condition),
        (_parts(no, inside), call("not", condition)),
    ):
        if parts is None:
            return None
        # The number is chosen, not multiplied by 0: it may be NaN on the other side.
        found += [replace(part, scale=select(seen, part.scale)) for part in parts]
    return [part for part in found if part.scale is not ZERO]
