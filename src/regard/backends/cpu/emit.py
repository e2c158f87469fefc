"""Write scalar expressions as C++ over vectors of pairs.

Before: exp(dot:0 * 0.125 - m:a).
After: `const Vec x0 = t.score(0, i, j);`, `const Vec x1 = x0 * splat(real(0.125));` and so on, each
value once.
Leaves to others: which expressions (`rowsweep`, `keysweep`), and how leaves are read (`slots`).
"""

import math
import re
from collections.abc import Callable, Iterable

from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS

# What reads a leaf, and as what kind: "real", "int" or "bool".
Read = tuple[str, str]

_TYPES = {"real": "Vec", "int": "Int", "bool": "Int"}
# Texts that are no longer than a name of their own: names, elements of arrays, numbers.
_SHORT = re.compile(r"\w+(\[\d+\])?|(splat|splat_int|truth)\([\w.+-]*(\([\w.+-]*\))?\)|Vec\{\}")
TRUE = "truth(true)"
_ONE, _MINUS_ONE = "splat(real(1.0))", "splat(real(-1.0))"
_BINARY = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}",
    "lt": "{} < {}", "le": "{} <= {}", "gt": "{} > {}", "ge": "{} >= {}",
    "eq": "{} == {}", "ne": "{} != {}", "and": "{} & {}", "or": "{} | {}",
}  # fmt: skip
_FUNCTIONS = {
    "floordiv": "floor_divide", "mod": "remainder", "pow": "vpow", "min": "minimum",
    "max": "maximum", "abs": "vabs", "sign": "vsign", "relu": "vrelu", "exp": "vexp", "log": "vlog",
    "sqrt": "vsqrt", "tanh": "vtanh", "sigmoid": "vsigmoid", "erf": "verf",
    "softplus": "vsoftplus", "cos": "vcos", "sin": "vsin",
}  # fmt: skip


class Lines:
    """The lines of one function body, in which each node has one name.

    Args:
        leaf: Returns how a node is read, or None if it is computed from its children. It may
            write lines of its own.
    """

    def __init__(self, leaf: Callable[[n.Node, "Lines"], Read | None]) -> None:
        self.lines: list[str] = []
        self._leaf = leaf
        self._values: dict[n.Node, Read] = {}
        self._named = 0

    def value(self, root: n.Node) -> Read:
        """Return the name and kind of a node's value, writing the lines that compute it.

        Args:
            root: The expression.

        Returns:
            A name or a short text, and what it is read as.
        """
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in self._values:
                continue
            found = self._leaf(node, self)
            if found is not None:
                self._values[node] = self.name(*found)
            elif ready:
                self._values[node] = self._computed(node)
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(operands(node)))
        return self._values[root]

    def real(self, root: n.Node) -> str:
        """Return the name of a node's value as a real number."""
        return as_real(*self.value(root))

    def condition(self, root: n.Node) -> str:
        """Return the name of a node's value as a truth value."""
        return _as_bool(*self.value(root))

    def write(self, line: str) -> None:
        """Write a line as it is."""
        self.lines.append(line)

    def name(self, text: str, kind: str) -> Read:
        """Return a name for a value, which is its text where that is short.

        Args:
            text: How it is computed.
            kind: "real", "int" or "bool".

        Returns:
            The name and the kind.
        """
        if _SHORT.fullmatch(text):
            return text, kind
        name = f"x{self._named}"
        self._named += 1
        self.lines.append(f"const {_TYPES[kind]} {name} = {text};")
        return name, kind

    def _computed(self, node: n.Node) -> Read:
        if isinstance(node, n.Const):
            return _constant(node.value)
        assert isinstance(node, n.Call), node
        return self.name(*_operation(node, [self._values[arg] for arg in node.args]))


def operands(node: n.Node) -> list[n.Node]:
    """Return what a node is computed from.

    Args:
        node: An operator or a number.

    Returns:
        Its arguments.

    Raises:
        UnsupportedError: If no kernel computes it at a pair.
    """
    if isinstance(node, n.Call):
        return list(node.args)
    if isinstance(node, n.Const):
        return []
    raise UnsupportedError(f"a kernel has no {type(node).__name__.lower()} at a pair")


def _constant(value: bool | int | float) -> Read:
    if isinstance(value, bool):
        return f"truth({str(value).lower()})", "bool"
    if isinstance(value, int):
        if abs(value) < 2**31:
            return f"splat_int({value})", "int"
        raise UnsupportedError(f"the whole number {value} does not fit the lanes of a kernel")
    return f"splat({number(value)})", "real"


def number(value: float) -> str:
    """Return a number as C++: 1.5 as real(1.5)."""
    if math.isnan(value):
        return 'real(__builtin_nan(""))'
    if math.isinf(value):
        return ("-" if value < 0 else "") + "real(__builtin_inf())"
    return f"real({value!r})"


def as_real(name: str, kind: str) -> str:
    """Return a value as a real number: truth values count 0 and 1.

    Args:
        name: The value.
        kind: What it is read as.

    Returns:
        The C++.
    """
    if kind == "int" and name.startswith("splat_int("):
        return f"splat({number(float(name[10:-1]))})"
    return {"real": name, "int": f"to_real({name})", "bool": f"to_real(-{name})"}[kind]


def _as_number(name: str, kind: str) -> str:
    return f"-{name}" if kind == "bool" else name


def _as_bool(name: str, kind: str) -> str:
    return name if kind == "bool" else f"({name} != 0)"


def _operation(node: n.Call, args: list[Read]) -> Read:
    operator = OPERATORS[node.op]
    if node.op == "where":
        return _choice(args)
    if operator.takes == "bool":
        names = [_as_bool(*arg) for arg in args]
        return (f"~{names[0]}" if node.op == "not" else _BINARY[node.op].format(*names)), "bool"
    real = operator.gives == "float" or any(kind == "real" for _, kind in args)
    names = [as_real(*arg) if real else _as_number(*arg) for arg in args]
    kind = "bool" if operator.gives == "bool" else "real" if real else "int"
    match node.op:
        case "neg":
            return f"-{names[0]}", kind
        case "div":
            return _division(node, names), kind
        case "floor":
            return (f"to_int(vfloor({names[0]}))" if real else names[0]), "int"
        case "pow" if isinstance(node.args[1], n.Const) and node.args[1].value in (1, 2, 3):
            return " * ".join([names[0]] * int(node.args[1].value)), kind
        case "mul" if _ONE in names:
            return names[1 - names.index(_ONE)], kind
        case "mul" if _MINUS_ONE in names:
            return f"-{names[1 - names.index(_MINUS_ONE)]}", kind
        case op if op in _BINARY:
            return _BINARY[op].format(*names), kind
        case op:
            return f"{_FUNCTIONS[op]}({', '.join(names)})", kind


def _division(node: n.Call, names: list[str]) -> str:
    by = node.args[1]
    if isinstance(by, n.Const) and 1e-30 < abs(by.value) < 1e30:
        # A division takes several times as long, and this is off by one rounding at most.
        return f"{names[0]} * splat({number(1 / by.value)})"
    return f"{names[0]} / {names[1]}"


def _choice(args: list[Read]) -> Read:
    condition, yes, no = args
    chosen = _as_bool(*condition)
    kinds = {yes[1], no[1]}
    if kinds == {"bool"}:
        return f"({chosen} & {yes[0]}) | (~{chosen} & {no[0]})", "bool"
    kind = "real" if "real" in kinds else "int"
    convert = as_real if kind == "real" else _as_number
    return choose(chosen, convert(*yes), convert(*no)), kind


def choose(condition: str, yes: str, no: str) -> str:
    """Return the C++ of a choice between two values.

    Args:
        condition: A truth value.
        yes: The value where it is true.
        no: The value elsewhere.

    Returns:
        A selection, or `yes` alone if the condition is always true.
    """
    return yes if condition == TRUE else f"select({condition}, {yes}, {no})"


def all_of(conditions: Iterable[str]) -> str:
    """Return the C++ of the condition that all hold.

    Args:
        conditions: Truth values.

    Returns:
        Their conjunction; true if there are none.
    """
    told = [condition for condition in conditions if condition != TRUE]
    return " & ".join(told) or TRUE


def indent(lines: Iterable[str], by: int = 2) -> list[str]:
    """Return lines moved to the right; empty ones stay empty.

    Args:
        lines: The lines.
        by: How many columns.

    Returns:
        The moved lines.
    """
    return [" " * by + line if line else line for line in lines]


def function(signature: str, body: list[str], about: str) -> list[str]:
    """Return a member function of `Program`.

    Args:
        signature: What stands before its brace; a line break keeps its own indentation.
        body: Its lines.
        about: The comment above it.

    Returns:
        Its lines, after an empty one.
    """
    opened = indent(f"{signature} {{".split("\n"))
    if not body:
        return ["", f"  // {about}", *opened[:-1], opened[-1] + "}"]
    return ["", f"  // {about}", *opened, *indent(body, 4), "  }"]


def by_mask(signature: str, body: Callable[[bool], list[str]], about: str) -> list[str]:
    """Return a member function that is written twice where masked tiles differ from full ones.

    Args:
        signature: What stands before its brace, after the template's parameter.
        body: Returns its lines for masked tiles (True) or for full ones.
        about: The comment above it.

    Returns:
        Its lines, after an empty one.
    """
    masked, plain = body(True), body(False)
    if masked != plain:
        masked = ["if constexpr (MASKED) {", *indent(masked), "} else {", *indent(plain), "}"]
    return function(f"template <bool MASKED>\n{signature}", masked, about)
