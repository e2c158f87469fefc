"""Write scalar expressions as Triton over tiles of pairs.

Before: exp(dot:0 * 0.125 - m:a).
After: `x0 = dot0 * 0.125`, `x1 = x0 - shift0[:, None]` and so on, each value once.
A value knows its kind and what it varies along, "" (a head's), "i", "j" or "ij"; values of a tile
have two axes, (rows, 1), (1, keys) or (rows, keys). Leaves to others: which expressions
(`rowkernel`, `keykernel`), and how leaves are read (`places`).
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from regard.backends.cpu.emit import operands
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS

# Names, elements told by an index, numbers: no longer than a name of their own.
_SHORT = re.compile(r"\w+(\[[:, \w]+\])?|-?[\d.]+(e[+-]?\d+)?|float\(\"-?(inf|nan)\"\)")
TRUE, HIDDEN = "True", 'float("-inf")'
_BINARY = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}",
    "lt": "{} < {}", "le": "{} <= {}", "gt": "{} > {}", "ge": "{} >= {}",
    "eq": "{} == {}", "ne": "{} != {}", "and": "{} & {}", "or": "{} | {}",
}  # fmt: skip
_BUILT_IN = {
    "min": "tl.minimum", "max": "tl.maximum", "abs": "tl.abs", "exp": "tl.exp", "log": "tl.log",
    "sqrt": "tl.sqrt", "sigmoid": "tl.sigmoid", "erf": "tl.erf", "cos": "tl.cos", "sin": "tl.sin",
}  # fmt: skip
# Those of `functions`; of whole numbers, and of real ones where that is another function.
_OWN = {"floordiv": "floor_divide", "mod": "remainder", "sign": "sign", "tanh": "tanh",
        "softplus": "softplus", "pow": "power"}  # fmt: skip
_OWN_REAL = {"floordiv": "floor_divide_real", "mod": "remainder_real"}


class Value(NamedTuple):
    """A name or a short text, what it is read as, and what it varies along.

    Attributes:
        text: The Triton.
        kind: "real", "int" or "bool".
        axes: "", "i", "j" or "ij".
        constant: Whether it is a number of the program.
    """

    text: str
    kind: str
    axes: str = ""
    constant: bool = False


Leaf = Callable[[n.Node, "Lines"], Value | None]


class Lines:
    """The lines of a stretch of a kernel, in which each node has one name.

    Args:
        leaf: Returns how a node is read, or None if it is computed from its children. It may
            write lines of its own.
        names: Names already given, counted on from there; shared by the stretches of a kernel.
        used: The functions of `functions` that are called; added to.
    """

    def __init__(self, leaf: Leaf, names: list[int], used: set[str]) -> None:
        self.lines: list[str] = []
        self.used = used
        self._leaf, self.names = leaf, names
        self._values: dict[n.Node, Value] = {}

    def value(self, root: n.Node) -> Value:
        """Return a node's value, writing the lines that compute it.

        Args:
            root: The expression.

        Returns:
            The value.
        """
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in self._values:
                continue
            found = self._leaf(node, self)
            if found is not None:
                self._values[node] = self.name(found)
            elif ready:
                self._values[node] = self._computed(node)
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(operands(node)))
        return self._values[root]

    def real(self, root: n.Node) -> str:
        """Return a node's value as a real number."""
        return as_real(self.value(root))

    def condition(self, root: n.Node) -> Value:
        """Return a node's value as a truth value."""
        found = self.value(root)
        return Value(_as_bool(found), "bool", found.axes)

    def whole_tile(self, root: n.Node) -> str:
        """Return a node's value as real numbers of every pair."""
        found = self.value(root)
        if found.axes == "ij":
            return as_real(found)
        if found.constant:
            return f"tl.full([BI, BJ], {as_real(found)}, REAL)"
        return f"tl.broadcast_to({as_real(found)}, [BI, BJ])"

    def write(self, *lines: str) -> None:
        """Write lines as they are."""
        self.lines.extend(lines)

    def name(self, value: Value, prefix: str = "x") -> Value:
        """Return a value under a name, which is its text where that is short.

        Args:
            value: The value.
            prefix: What the name begins with.

        Returns:
            The same value.
        """
        if value.constant or _SHORT.fullmatch(value.text):
            return value
        name = f"{prefix}{self.names[0]}"
        self.names[0] += 1
        self.lines.append(f"{name} = {value.text}")
        return value._replace(text=name)

    def calls(self, function: str) -> str:
        """Return the name of a function of `functions`, which is then imported."""
        self.used.add(function)
        return function

    def _computed(self, node: n.Node) -> Value:
        if isinstance(node, n.Const):
            return _constant(node.value)
        assert isinstance(node, n.Call), node
        return self.name(_operation(node, [self._values[arg] for arg in node.args], self))


def join_axes(values: Iterable[Value]) -> str:
    """Return what a value made of others varies along."""
    found = {axis for value in values for axis in value.axes}
    return "".join(axis for axis in "ij" if axis in found)


def _constant(value: bool | int | float) -> Value:
    if isinstance(value, bool):
        return Value(str(value), "bool", constant=True)
    if isinstance(value, int):
        if abs(value) < 2**31:
            return Value(str(value), "int", constant=True)
        raise UnsupportedError(f"the whole number {value} does not fit 32 bits")
    return Value(number(value), "real", constant=True)


def number(value: float) -> str:
    """Return a number as Triton."""
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def as_real(value: Value) -> str:
    """Return a value as a real number: truth values count 0 and 1."""
    if value.kind == "real":
        return value.text
    if value.constant:
        return number(float(value.text == "True" if value.kind == "bool" else int(value.text)))
    return f"{value.text}.to(REAL)" if value.text.isidentifier() else f"({value.text}).to(REAL)"


def _as_number(value: Value) -> str:
    if value.kind != "bool":
        return value.text
    return str(int(value.text == "True")) if value.constant else f"({value.text}).to(tl.int32)"


def _as_bool(value: Value) -> str:
    return value.text if value.kind == "bool" else f"({value.text} != 0)"


def _operation(node: n.Call, args: list[Value], lines: Lines) -> Value:
    operator, axes = OPERATORS[node.op], join_axes(args)
    if node.op == "where":
        return _choice(args, axes)
    if operator.takes == "bool":
        return _logic(node.op, [_as_bool(arg) for arg in args], axes)
    real = operator.gives == "float" or any(arg.kind == "real" for arg in args)
    names = [as_real(arg) if real else _as_number(arg) for arg in args]
    if all(arg.constant for arg in args):
        # Triton has no functions of Python's numbers.
        names[0] = f"tl.full([1, 1], {names[0]}, {'REAL' if real else 'tl.int32'})"
    kind = "bool" if operator.gives == "bool" else "real" if real else "int"
    return Value(_written(node, names, real, lines), "int" if node.op == "floor" else kind, axes)


def _written(node: n.Call, names: list[str], real: bool, lines: Lines) -> str:
    match node.op:
        case "neg":
            return f"-{names[0]}"
        case "floor":
            return f"tl.floor({names[0]}).to(tl.int32)" if real else names[0]
        case "relu":
            return f"tl.maximum({names[0]}, 0)"
        case "pow" if isinstance(node.args[1], n.Const) and node.args[1].value in (1, 2, 3):
            return " * ".join([names[0]] * int(node.args[1].value))
        case "div" if isinstance(node.args[1], n.Const) and 1e-30 < abs(node.args[1].value) < 1e30:
            # A division takes several times as long, and this is off by one rounding at most.
            return f"{names[0]} * {number(1 / node.args[1].value)}"
        case op if op in _BINARY:
            return _BINARY[op].format(*names)
        case op if op in _BUILT_IN:
            return f"{_BUILT_IN[op]}({', '.join(names)})"
        case op:
            function = _OWN_REAL.get(op, _OWN[op]) if real else _OWN[op]
            return f"{lines.calls(function)}({', '.join(names)})"


def _logic(op: str, names: list[str], axes: str) -> Value:
    if op == "not":
        return Value(f"~{names[0]}" if names[0] != TRUE else "False", "bool", axes)
    if TRUE in names:
        others = [name for name in names if name != TRUE]
        return Value(TRUE if op == "or" or not others else others[0], "bool", axes)
    return Value(_BINARY[op].format(*names), "bool", axes)


def _choice(args: list[Value], axes: str) -> Value:
    condition, yes, no = args
    chosen = _as_bool(condition)
    kinds = {yes.kind, no.kind}
    if kinds == {"bool"}:
        names = [_as_bool(yes), _as_bool(no)]
        return Value(f"({chosen} & {names[0]}) | (~{chosen} & {names[1]})", "bool", axes)
    kind = "real" if "real" in kinds else "int"
    convert = as_real if kind == "real" else _as_number
    first = convert(yes)
    if yes.constant and no.constant and kind == "real":
        # Of two numbers of the program Triton would make float32, whatever is computed with.
        first = f"tl.full([1, 1], {first}, REAL)"
    return Value(choose(Value(chosen, "bool", condition.axes), first, convert(no)), kind, axes)


def choose(condition: Value, yes: str, no: str) -> str:
    """Return a choice between two values, `yes` alone if the condition is always true."""
    return yes if condition.text == TRUE else f"tl.where({condition.text}, {yes}, {no})"


def all_of(conditions: Iterable[Value]) -> Value:
    """Return the condition that all hold; true if there are none."""
    told = [one for one in conditions if one.text != TRUE]
    text = " & ".join(one.text for one in told) if told else TRUE
    return Value(text, "bool", join_axes(told))
