"""The rules of the grammar: which node may be built of which.

`verify` looks at one node whose children passed; `verify_program` looks at what only the whole
program shows. Both raise ProgramError without a place; the border (a traced line, a place in a
file) adds it. Leaves to others: axes and kinds (`types`), shapes and dtypes (`ops/check`).
"""

import keyword
import math

from regard.errors import ProgramError, nearest
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.ir.types import INDEX_AXES, SIDE_AXES, index_axes, type_of

_RESERVED = {"q": "query", "k": "key", "v": "key"}
# Keywords of `attend`, which an input of that name would hide.
CALL_OPTIONS = (
    "program", "query_offset", "query_positions", "key_positions", "query_lengths", "key_lengths",
    "first_head", "total_heads", "observe", "backend", "seed",
)  # fmt: skip
_ALGEBRA = {"add", "sub", "neg", "mul", "div"}
AXIS_WORDS = {"b": "batch rows", "h": "heads", "i": "queries", "j": "keys", "c": "channels"}


def verify(node: n.Node) -> n.Node:
    """Check one node against its children.

    Args:
        node: A node whose children were verified.

    Returns:
        The node.

    Raises:
        ProgramError: If the node has no meaning; the message says why and what to write.
    """
    for child in _plain_children(node):
        _check_child(child)
    if isinstance(node, n.Term | n.TopK | n.Running):
        _expect_condition(node.where, "where")
        _expect_axes(node.where, "bhij", "where")
    _RULES.get(type(node), lambda node: None)(node)
    if type_of(node).weights and not isinstance(
        node, n.Term | n.Call | n.Map | n.Dropout | n.Output
    ):
        raise ProgramError(
            f"weights cannot be read inside {_word(node)}; combine them in the last line"
        )
    return node


def verify_program(root: n.Node) -> None:
    """Check what only the whole program shows: names that mean one thing, and misplaced leaves.

    Args:
        root: The program's root.

    Raises:
        ProgramError: If it is no Output, if a name is declared twice, or if `visible` or the summed
            row stand where they have no meaning.
    """
    if not isinstance(root, n.Output):
        raise ProgramError(
            "a program ends in weights, e.g. rg.softmax(score), or rg.output(weights, …)"
        )
    declared: dict[str, n.Node] = {}
    terms: dict[str, n.Node] = {}
    order = n.walk(root)
    for node in order:
        if isinstance(node, n.Vector | n.Feature | n.Array | n.Scalar | n.PairInput):
            _check_name(node, node.name)
            if declared.setdefault(node.name, node) is not node:
                raise ProgramError(
                    f"'{node.name}' is declared twice, with different meanings; "
                    "give each its own name"
                )
        elif isinstance(node, n.Term):
            if not node.name.isidentifier():
                raise ProgramError(f"{node.name!r} cannot name weights; use letters, digits and _")
            if terms.setdefault(node.name, node) is not node:
                raise ProgramError(f"two terms of weights are named '{node.name}'")
    _check_visible(root, order)
    _check_holes(root, order)


def _check_visible(root: n.Output, order: list[n.Node]) -> None:
    everywhere = _readers(order, n.Visible())
    for node in order:
        if isinstance(node, n.Term) and node.where in everywhere:
            raise ProgramError("pair.visible counts what `where` admits, so `where` cannot read it")
    outside = _readers(order, n.Visible(), bound=lambda node, child: isinstance(node, n.Term))
    for part, place in ((root.weights, "outside the weights"), (root.values, "in values")):
        if part in outside:
            raise ProgramError(f"pair.visible belongs inside a score, not {place}")
    if root.finish in outside:
        raise ProgramError("pair.visible belongs inside a score, not in `finish`")


def _check_holes(root: n.Output, order: list[n.Node]) -> None:
    summed = _readers(order, n.SUMMED)
    if root.weights in summed or root.values in summed:
        raise ProgramError("the summed row can be read in `finish` alone")
    # A node that is both the body and the weights of a Map reads the hole from outside it.
    mapped = _readers(
        order,
        n.MAPPED,
        bound=lambda node, child: isinstance(node, n.Map) and child is not node.weights,
    )
    if root in mapped:
        raise ProgramError("the mapped weights can be read inside rg.map alone")


def _readers(order: list[n.Node], leaf: n.Node, bound=lambda node, child: False) -> set[n.Node]:
    """Return the nodes that read the leaf, leaving out children for which `bound` holds."""
    if leaf not in order:
        return set()
    readers = {leaf}
    for node in order:
        if any(child in readers and not bound(node, child) for child in n.children(node)):
            readers.add(node)
    return readers


def _check_name(node: n.Node, name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ProgramError(f"{name!r} cannot name an input; use letters, digits and _")
    if keyword.iskeyword(name) or name in CALL_OPTIONS:
        taken = "a word of Python" if keyword.iskeyword(name) else "an option of rg.attend"
        raise ProgramError(f"'{name}' is {taken} and cannot name an input; choose another name")
    if name in _RESERVED and not isinstance(node, n.Vector):
        raise ProgramError(f"'{name}' already names the {name} of attention; choose another name")


def _plain_children(node: n.Node) -> list[n.Node]:
    """Return the children but for the array that is indexed and the matrix of a projection."""
    if isinstance(node, n.Gather):
        return list(node.indices)
    return [node.rows] if isinstance(node, n.Project) else list(n.children(node))


def _check_child(child: n.Node) -> None:
    if isinstance(child, n.Output):
        raise ProgramError("rg.output ends a program; nothing can be computed from it")
    if isinstance(child, n.Array):
        if index_axes(child):
            raise ProgramError(
                f"{child.source} '{child.name}' has {_axes_text(child)}; "
                f"index it, e.g. {child.name}[pair.i - pair.j]"
            )
        if child.per.count("channel") > 1:
            raise ProgramError(
                f"parameter '{child.name}' is a matrix; use it as rg.project(row, {child.name})"
            )


def _axes_text(array: n.Array) -> str:
    sizes = [str(axis) for axis in array.per if axis not in ("head", "channel")]
    return (
        f"{len(sizes)} index axis ({', '.join(sizes)})"
        if len(sizes) == 1
        else f"{len(sizes)} index axes"
    )


def _word(node: n.Node) -> str:
    return {
        "Reduce": "rg.sum",
        "Gather": "an index",
        "TopK": "rg.topk",
        "KeyMax": "rg.max_over_keys",
        "Running": "rg.running_sum",
    }.get(type(node).__name__, "rg." + type(node).__name__.lower())


def _expect_axes(node: n.Node | None, allowed: str, what: str) -> None:
    if node is None:
        return
    extra = [axis for axis in type_of(node).axes if axis not in allowed]
    if extra:
        hint = "; reduce it with rg.sum or rg.dot" if extra == ["c"] else ""
        raise ProgramError(
            f"{what} cannot vary over {' and '.join(AXIS_WORDS[a] for a in extra)}{hint}"
        )


def _expect_number(node: n.Node, what: str) -> None:
    if type_of(node).kind == "bool":
        raise ProgramError(
            f"{what} must be a number, not a truth value; use rg.where(condition, 1.0, 0.0)"
        )
    if type_of(node).weights:
        raise ProgramError(
            f"{what} cannot read weights; a program normalises once and combines weights afterwards"
        )


def _expect_condition(node: n.Node | None, what: str) -> None:
    if node is None:
        return
    if type_of(node).kind not in ("bool", "any"):
        raise ProgramError(f"{what} must be a condition such as pair.j <= pair.i, not a number")
    if type_of(node).weights:
        raise ProgramError(f"{what} cannot read weights")


def _const(node: n.Const) -> None:
    if type(node.value) not in (bool, int, float):
        raise ProgramError(f"a constant is a number or a truth value, not {node.value!r}")
    if isinstance(node.value, float) and math.isnan(node.value):
        raise ProgramError("NaN is no number to compute with")
    if type(node.value) is int and abs(node.value) >= 2**63:
        raise ProgramError(f"{node.value:#x} does not fit 64 bits")


def _index(node: n.Index) -> None:
    if node.name not in INDEX_AXES:
        raise ProgramError(
            f"'{node.name}' is no position or size; {nearest(node.name, INDEX_AXES)}"
        )


def _sided(node: n.Vector | n.Feature) -> None:
    if node.side not in SIDE_AXES:
        raise ProgramError(f"side must be query or key, not {node.side!r}")
    side = _RESERVED.get(node.name, node.side)
    if isinstance(node, n.Vector) and node.side != side:
        raise ProgramError(f"'{node.name}' is a row of the {side}'s side, not the {node.side}'s")


def _initialiser(node: n.Array) -> None:
    if node.init is None:
        return
    name, numbers = node.init.name, node.init.numbers
    if node.source == "table":
        raise ProgramError(
            f"table '{node.name}' is given data; only a parameter has an initialiser"
        )
    if name not in n.INITIALISERS:
        raise ProgramError(f"'{name}' is no initialiser; {nearest(name, n.INITIALISERS)}")
    if len(numbers) != n.INITIALISERS[name]:
        raise ProgramError(f"init.{name} takes {n.INITIALISERS[name]} numbers, not {len(numbers)}")
    if any(map(math.isnan, numbers)):
        raise ProgramError(f"the initialiser of '{node.name}' holds NaN")


def _array(node: n.Array) -> None:
    if node.source not in ("parameter", "table"):
        raise ProgramError(f"an array is a parameter or a table, not {node.source!r}")
    _initialiser(node)
    for axis in node.per:
        if isinstance(axis, int) and not isinstance(axis, bool) and 0 < axis < 2**31:
            continue
        if axis in ("head", "channel") or (axis == "rows" and node.source == "table"):
            continue
        known = ("head", "channel", "a positive size") + (
            ("rows",) if node.source == "table" else ()
        )
        raise ProgramError(
            f"per={axis!r} of {node.source} '{node.name}': {nearest(str(axis), known)}"
        )
    if (
        node.per.count("head") > 1
        or node.per.count("channel") > 2
        or "channel" in node.per[: -node.per.count("channel") or None]
    ):
        raise ProgramError(
            f"per={node.per} of '{node.name}': at most one 'head', and 'channel' last"
        )


def _scalar(node: n.Scalar) -> None:
    if node.default is not None and math.isnan(node.default):
        raise ProgramError(f"the default of '{node.name}' is NaN; leave it out to require a value")


def _hole(node: n.Hole) -> None:
    if node is not n.SUMMED and node is not n.MAPPED:
        raise ProgramError(f"'{node.name}' is no value a program can read")


def _call(node: n.Call) -> None:
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise ProgramError(f"'{node.op}' is no operator; {nearest(node.op, OPERATORS)}")
    if len(node.args) != operator.arity:
        raise ProgramError(f"'{node.op}' takes {operator.arity} arguments, not {len(node.args)}")
    if operator.takes == "bool":
        for arg in node.args:
            _expect_condition(arg, f"an argument of '{node.op}'")
    if node.op == "where":
        _expect_condition(node.args[0], "the first argument of where")
    if node.op in ("floordiv", "mod", "pow"):
        _integer_arithmetic(node)
    if type_of(node).weights:
        _weights_algebra(node)


def _integer_arithmetic(node: n.Call) -> None:
    """Refuse what integers have no answer for: dividing by 0, and powers that may be fractions."""
    if any(type_of(arg).kind not in ("bool", "int") for arg in node.args):
        return
    second = node.args[1]
    if node.op in ("floordiv", "mod") and isinstance(second, n.Const) and second.value == 0:
        raise ProgramError(f"'{node.op}' by the constant 0 has no meaning")
    if node.op == "pow" and not (isinstance(second, n.Const) and second.value >= 0):
        raise ProgramError(
            "an integer to a power that may be negative is no integer; "
            "write a float, e.g. x ** -1.0"
        )


def _weights_algebra(node: n.Call) -> None:
    weighted = [type_of(arg).weights for arg in node.args]
    if node.op not in _ALGEBRA:
        raise ProgramError(
            "weights can be added, subtracted, multiplied; "
            f"to apply '{node.op}' write rg.map(f, weights)"
        )
    if node.op in ("add", "sub") and not all(weighted):
        raise ProgramError(
            "only weights can be added to weights; write rg.weigh(expression) for the other side"
        )
    if node.op == "div" and weighted[1]:
        raise ProgramError("weights cannot divide; normalise with rg.ratio")
    for arg, holds in zip(node.args, weighted, strict=True):
        if not holds:
            _expect_axes(arg, "bhij", "a factor of weights")


def _gather(node: n.Gather) -> None:
    if not isinstance(node.array, n.Array):
        raise ProgramError("only a parameter or a table can be indexed")
    wanted = index_axes(node.array)
    if not wanted or node.array.per.count("channel") > 1:
        raise ProgramError(
            f"'{node.array.name}' has no rows to index; its axes are {node.array.per}"
        )
    if len(node.indices) != wanted:
        raise ProgramError(
            f"{node.array.source} '{node.array.name}' takes {wanted} indices, "
            f"not {len(node.indices)}"
        )
    sizes = [axis for axis in node.array.per if axis == "rows" or isinstance(axis, int)]
    for size, index in zip(sizes, node.indices, strict=True):
        if type_of(index).kind not in ("int", "any"):
            raise ProgramError(
                f"an index of '{node.array.name}' must be an integer; use rg.floor(x)"
            )
        _expect_axes(index, "bhij", f"an index of '{node.array.name}'")
        if isinstance(index, n.Const) and isinstance(size, int) and not 0 <= index.value < size:
            raise ProgramError(
                f"index {index.value} of '{node.array.name}' is outside 0 … {size - 1}"
            )


def _reduce(node: n.Reduce) -> None:
    if node.axes != "c":
        raise ProgramError(f"a program sums over channels, not over {node.axes!r}")
    if "c" not in type_of(node.body).axes:
        raise ProgramError("rg.sum needs something that varies over channels, e.g. pair.q * pair.k")
    _expect_number(node.body, "what rg.sum adds")


def _row(node: n.Node, what: str) -> None:
    axes = type_of(node).axes
    if "c" not in axes:
        raise ProgramError(f"{what} needs a row of channels, such as pair.q")
    if "i" in axes and "j" in axes:
        raise ProgramError(f"{what} works on one row; this varies over queries and keys")


def _rotate(node: n.Rotate) -> None:
    if node.pairs not in ("halves", "interleaved"):
        raise ProgramError(
            f"pairs={node.pairs!r} of rg.rotate: {nearest(node.pairs, ('halves', 'interleaved'))}"
        )
    _row(node.rows, "rg.rotate")
    axes = type_of(node).axes
    if "i" in axes and "j" in axes:
        raise ProgramError("the angle of rg.rotate must belong to the same row as what it turns")


def _slice(node: n.Slice) -> None:
    _row(node.rows, "a slice")
    numbers = [node.start, 0 if node.stop is None else node.stop]
    if any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise ProgramError("a slice of channels takes whole numbers")
    if node.start < 0 or (node.stop is not None and node.stop <= node.start):
        raise ProgramError(f"channels {node.start}:{node.stop} is an empty or negative slice")


def _project(node: n.Project) -> None:
    _row(node.rows, "rg.project")
    matrix = node.matrix
    if not isinstance(matrix, n.Array) or matrix.per.count("channel") != 2 or index_axes(matrix):
        raise ProgramError(
            'rg.project takes a matrix: rg.parameter(name, per=("channel", "channel"))'
        )
    if node.width is not None and (type(node.width) is not int or node.width < 1):
        raise ProgramError(f"width={node.width!r} of rg.project must be a positive whole number")


def _keep(node: n.Keep) -> None:
    _expect_axes(node.p, "", "the probability p")
    _expect_number(node.p, "the probability p")
    _check_probability(node.p)
    if not set(node.axes) <= set("bhij"):
        raise ProgramError(f"axes={node.axes!r} of rg.keep: choose from b, h, i, j")
    _check_place(node.place)


def _check_place(place: int) -> None:
    # The generator mixes in 32 bits of it.
    if type(place) is not int or not 0 <= place < 2**32:
        raise ProgramError(f"place {place!r} of a random draw is outside 0 … 2^32 - 1")


def _check_probability(p: n.Node) -> None:
    if isinstance(p, n.Const) and not 0 <= p.value <= 1:
        raise ProgramError(f"probability {p.value} is outside 0 … 1")


def _topk(node: n.TopK) -> None:
    _pair_number(node.score, "the score of rg.topk")
    _expect_axes(node.k, "bhi", "k")
    if type_of(node.k).kind not in ("int", "any"):
        raise ProgramError("k of rg.topk must be a whole number")


def _pair_number(node: n.Node, what: str) -> None:
    _expect_number(node, what)
    _expect_axes(node, "bhij", what)


def _key_max(node: n.KeyMax) -> None:
    _expect_axes(node.rows, "bhjc", "what rg.max_over_keys reads")


def _running(node: n.Running) -> None:
    _pair_number(node.body, "what rg.running_sum adds")
    if n.MAPPED in n.walk(node.body, node.where):
        raise ProgramError("rg.running_sum cannot read mapped weights; sum what they are made of")


def _term(node: n.Term) -> None:
    match node:
        case n.Softmax():
            _pair_number(node.score, "a score")
            if node.sink is not None:
                _expect_number(node.sink, "a sink")
            _expect_axes(node.sink, "bhi", "a sink")
        case n.Weigh():
            _pair_number(node.weight, "a weight")
        case n.Ratio():
            _pair_number(node.num, "num")
            _pair_number(node.den, "den")
            _expect_axes(node.add, "bhi", "add")
            _expect_axes(node.at_least, "bhi", "at_least")
        case n.Entmax():
            _pair_number(node.score, "a score")
            _expect_axes(node.alpha, "bhi", "alpha")
            if isinstance(node.alpha, n.Const) and node.alpha.value <= 1:
                raise ProgramError("alpha must be above 1; at 1 entmax is rg.softmax")


def _weighted(node: n.Map | n.Dropout) -> None:
    if isinstance(node, n.Dropout):
        _expect_axes(node.p, "", "the probability p")
        _check_probability(node.p)
        _check_place(node.place)
    else:
        _pair_number(node.body, "what rg.map gives back")
    if not type_of(node.weights).weights:
        raise ProgramError(f"{_word(node)} works on weights, such as rg.softmax(score)")


def _output(node: n.Output) -> None:
    if not type_of(node.weights).weights:
        raise ProgramError(
            "a program ends in weights; wrap the score, e.g. rg.softmax(score) or rg.weigh(score)"
        )
    if "c" not in type_of(node.values).axes:
        raise ProgramError("values need channels, e.g. pair.v")
    if type_of(node.values).weights:
        raise ProgramError("values cannot read weights")
    if node.finish is not None:
        _expect_axes(node.finish, "bhic", "finish")
        if "c" not in type_of(node.finish).axes:
            raise ProgramError("finish must give back a row of channels")


_RULES = {
    n.Const: _const, n.Index: _index, n.Vector: _sided, n.Feature: _sided, n.Array: _array,
    n.Scalar: _scalar, n.Hole: _hole, n.Call: _call, n.Gather: _gather, n.Reduce: _reduce,
    n.Rotate: _rotate, n.Slice: _slice, n.Project: _project, n.Keep: _keep, n.TopK: _topk,
    n.KeyMax: _key_max, n.Running: _running, n.Softmax: _term, n.Weigh: _term, n.Ratio: _term,
    n.Entmax: _term, n.Map: _weighted, n.Dropout: _weighted, n.Output: _output,
}  # fmt: skip
