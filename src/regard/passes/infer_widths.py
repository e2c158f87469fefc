"""How many channels every row has, from the widths of the rows a call gives.

Before: `rg.channel` stands for the channel's number, of a width that its surroundings decide.
After: each stands as a Hole "channel:WIDTH", and every parameter that varies along channels has a
width. Leaves to others: comparing the widths with the tensors given (`ops/check`).
"""

from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.types import axes_of

_SAME_WIDTH = (n.Call, n.Rotate, n.Reduce, n.KeyMax, n.Map)


def infer_widths(root: n.Output, known: dict[str, int]) -> dict[n.Node, int]:
    """Return the width of every node that varies along channels, where it follows from `known`.

    Args:
        root: The program.
        known: Widths by the names of vectors, tables and parameters; "q", "k" and "v" at least.

    Returns:
        Widths by node. A projection matrix has the width of its result here.

    Raises:
        InputError: If two widths meet in one expression.
    """
    order = [node for node in n.walk(root) if node is n.SUMMED or "c" in axes_of(node)]
    sized = _sized(order)
    widths: dict[n.Node, int] = {}
    for node in order:
        if isinstance(node, n.Vector | n.Array) and node.name in known:
            _set(widths, node, known[node.name])
    before = -1
    while before != len(widths):
        before = len(widths)
        for node in [*order, root]:
            _spread(node, widths, sized)
    return widths


def _sized(order: list[n.Node]) -> set[n.Node]:
    """Return the nodes whose width is their own: not made of `rg.channel` and numbers alone."""
    sized: set[n.Node] = set()
    for node in order:
        own = isinstance(node, n.Vector | n.Array | n.Hole | n.Project | n.Slice)
        if own or any(child in sized for child in n.children(node)):
            sized.add(node)
    return sized


def _set(widths: dict[n.Node, int], node: n.Node, width: int) -> None:
    if widths.setdefault(node, width) != width:
        name = getattr(node, "name", type(node).__name__.lower())
        raise InputError(f"rows of {widths[node]} and {width} channels meet in '{name}'")


def _tie(widths: dict[n.Node, int], nodes: list[n.Node]) -> None:
    first = next((node for node in nodes if node in widths), None)
    if first is None:
        return
    for node in nodes:
        if widths.setdefault(node, widths[first]) != widths[first]:
            raise InputError(
                f"{_told(first)} has {widths[first]} channels and {_told(node)} has "
                f"{widths[node]}; one expression combines them"
            )


def _told(node: n.Node) -> str:
    """Return the names of the rows an expression is made of."""
    rows = [x for x in n.walk(node) if isinstance(x, n.Vector | n.Array) and "c" in axes_of(x)]
    if not rows:
        return "the summed row"
    names = " with ".join(f"'{row.name}'" for row in rows)
    return names if node is rows[0] else f"a row of {names}"


def _spread(node: n.Node, widths: dict[n.Node, int], sized: set[n.Node]) -> None:
    """Carry widths between a node and what it is made of, both ways."""
    match node:
        case n.Output():
            _tie(widths, [node.values, n.SUMMED])
        case n.Rotate():
            _tie(widths, [node.rows, node])
            if node in widths and widths[node] % 2:
                raise InputError(
                    f"rg.rotate turns pairs of channels; a row of {widths[node]} cannot be paired"
                )
            if node in widths and node.angle in sized and "c" in axes_of(node.angle):
                _set(widths, node.angle, widths[node] // 2)
        case n.Slice():
            _spread_slice(node, widths)
        case n.Project():
            _spread_project(node, widths)
        case n.Call() | n.Gather() | n.KeyMax():
            _tie(widths, [node, *(c for c in n.children(node) if c in sized and "c" in axes_of(c))])


def _spread_slice(node: n.Slice, widths: dict[n.Node, int]) -> None:
    whole = widths.get(node.rows)
    if whole is not None and (node.start >= whole or (node.stop or 0) > whole):
        raise InputError(f"channels {node.start}:{node.stop} do not exist in a row of {whole}")
    stop = node.stop if node.stop is not None else whole
    if stop is not None:
        _set(widths, node, stop - node.start)


def _spread_project(node: n.Project, widths: dict[n.Node, int]) -> None:
    width = node.width or widths.get(node.rows)
    if width is not None:
        _set(widths, node, width)
        _set(widths, node.matrix, width)


def resolve_channels(root: n.Output, widths: dict[n.Node, int]) -> n.Output:
    """Return the program with every `rg.channel` as a Hole "channel:WIDTH".

    Args:
        root: The program.
        widths: From `infer_widths`.

    Returns:
        The same program without `Channel` nodes.

    Raises:
        InputError: If nothing decides the width of one.
    """
    if n.Channel() not in n.walk(root):
        return root
    done: dict[tuple[n.Node, int | None], n.Node] = {}
    resolved = _resolve(root, None, widths, done)
    assert isinstance(resolved, n.Output)
    return resolved


def _resolve(node: n.Node, width: int | None, widths: dict[n.Node, int], done: dict) -> n.Node:
    width = widths.get(node, width)
    key = (node, width)
    if key not in done:
        if isinstance(node, n.Channel):
            if width is None:
                raise InputError(
                    "nothing decides how many channels rg.channel counts here; "
                    "combine it with a row"
                )
            done[key] = n.Hole(f"channel:{width}", "c", "int")
        else:
            children = {
                child: _resolve(child, _inside(node, child, width), widths, done)
                for child in n.children(node)
            }
            done[key] = n.rebuild(node, children)
    return done[key]


def _inside(node: n.Node, child: n.Node, width: int | None) -> int | None:
    """Return the width a child of unknown width has inside this node."""
    if isinstance(node, n.Rotate) and child is node.angle:
        return None if width is None else width // 2
    return width if isinstance(node, n.Call | n.Rotate | n.KeyMax) else None
