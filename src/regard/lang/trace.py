"""Traced values: Python operators that build IR nodes.

Where they cannot, the error points at the user's own line. Leaves to others: which leaves (`pair`)
and functions (`functions`, `weights`) exist.
"""

import linecache
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch

from regard.errors import ProgramError
from regard.ir import nodes as n
from regard.ir.types import index_axes, type_of
from regard.ir.verify import verify

# Functions of torch written in Python call ours, so a user's line may lie below them.
_NOT_THE_USERS = (
    str(Path(__file__).resolve().parent.parent),
    os.path.join(os.path.dirname(torch.__file__), ""),
)


def users_frame() -> FrameType | None:
    """Return the innermost frame outside Regard and torch."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frame = frame.f_back
    return frame


def users_line() -> str | None:
    """Return "function (file:line):  source" of the innermost frame outside Regard and torch."""
    frame = users_frame()
    if frame is None:
        return None
    code = frame.f_code
    source = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return f"{code.co_name} ({Path(code.co_filename).name}:{frame.f_lineno}):  {source}".rstrip()


def fail(message: str) -> NoReturn:
    """Raise a ProgramError whose second line is the user's own line.

    Args:
        message: What is wrong; further lines are hints and come after the place.

    Raises:
        ProgramError: Always.
    """
    first, *hints = message.split("\n")
    place = users_line()
    lines = [first, *(["  " + place] if place else []), *hints]
    raise ProgramError("\n".join(lines))


def build(kind: type[n.Node], *fields: Any) -> n.Node:
    """Return the verified node, or fail at the user's line.

    Args:
        kind: The node's class.
        *fields: Its fields.

    Returns:
        The interned node.
    """
    try:
        return verify(kind(*fields))
    except ProgramError as problem:
        message = str(problem)
    fail(message)


def lift(value: Any) -> n.Node:
    """Return the node of a traced value or plain number.

    Args:
        value: A traced value, bool, int or float.

    Returns:
        Its node.
    """
    if isinstance(value, Expr):
        return value.node
    if isinstance(value, bool | int | float):
        return build(n.Const, value)
    if hasattr(value, "shape"):
        fail(
            f"a tensor of shape {tuple(value.shape)} stands in the program itself\n"
            "programs hold no data: "
            "read it with rg.table(name)[index], rg.key_feature(name) or rg.scalar(name)"
        )
    fail(f"{value!r} is no number, condition or traced value")


def call(op: str, *args: Any) -> "Expr":
    """Apply a scalar operator to traced values and numbers.

    Args:
        op: A name of `operators.OPERATORS`.
        *args: Traced values or numbers.

    Returns:
        The traced result.
    """
    return Expr(build(n.Call, op, tuple(lift(arg) for arg in args)))


_NOT_A_PYTHON_VALUE = {
    "__bool__": "a traced value has no truth value: `if`, `and`, `or`, `not` cannot see it\n"
    "write rg.where(condition, a, b), and & | ~ between conditions",
    "__int__": "a traced value is no Python integer; rg.floor(x) gives one",
    "__index__": "a traced value cannot index a Python list; use rg.table(name)[index]",
    "__float__": "a traced value is no Python number; "
    "the functions of rg (rg.exp, rg.sqrt, …) compute with it",
    "__iter__": "a traced value cannot be looped over; reduce channels with rg.sum or rg.dot",
    "__len__": "a traced value has no length; pair.width, pair.keys and pair.queries are sizes",
}


class Expr:
    """A traced value. Arithmetic, comparison, `& | ~`, `abs` and channel slices build new ones."""

    __slots__ = ("node",)
    __hash__ = object.__hash__
    __array_ufunc__ = None

    def __init__(self, node: n.Node) -> None:
        self.node = node

    def __repr__(self) -> str:
        kind = type_of(self.node)
        return f"<traced {kind.kind} over ({', '.join(kind.axes) or 'nothing'})>"

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        for arg in args:
            if not isinstance(arg, Expr):
                lift(arg)  # names a tensor that stands in the program
        name = getattr(function, "__name__", "this function")
        fail(
            f"torch.{name} computes with tensors, not with traced values\n"
            "the functions of rg compute with these: rg.exp, rg.where, rg.sum, …"
        )

    def __matmul__(self, other):
        fail("@ has no meaning for traced rows; write rg.dot(u, w), or rg.project(u, matrix)")

    def __add__(self, other):
        return call("add", self, other)

    def __radd__(self, other):
        # Where Python's sum starts; of conditions it makes a number.
        if type(other) is int and other == 0 and type_of(self.node).kind != "bool":
            return self
        return call("add", other, self)

    def __sub__(self, other):
        return call("sub", self, other)

    def __rsub__(self, other):
        return call("sub", other, self)

    def __mul__(self, other):
        return call("mul", self, other)

    def __rmul__(self, other):
        return call("mul", other, self)

    def __truediv__(self, other):
        return call("div", self, other)

    def __rtruediv__(self, other):
        return call("div", other, self)

    def __floordiv__(self, other):
        return call("floordiv", self, other)

    def __rfloordiv__(self, other):
        return call("floordiv", other, self)

    def __mod__(self, other):
        return call("mod", self, other)

    def __rmod__(self, other):
        return call("mod", other, self)

    def __pow__(self, other):
        return call("pow", self, other)

    def __rpow__(self, other):
        return call("pow", other, self)

    def __neg__(self):
        return call("neg", self)

    def __pos__(self):
        return self

    def __abs__(self):
        return call("abs", self)

    def __lt__(self, other):
        return call("lt", self, other)

    def __le__(self, other):
        return call("le", self, other)

    def __gt__(self, other):
        return call("gt", self, other)

    def __ge__(self, other):
        return call("ge", self, other)

    def __eq__(self, other):  # type: ignore[override]
        return call("eq", self, other)

    def __ne__(self, other):  # type: ignore[override]
        return call("ne", self, other)

    def __and__(self, other):
        return call("and", self, other)

    def __rand__(self, other):
        return call("and", other, self)

    def __or__(self, other):
        return call("or", self, other)

    def __ror__(self, other):
        return call("or", other, self)

    def __invert__(self):
        return call("not", self)

    def __bool__(self) -> bool:
        fail(_NOT_A_PYTHON_VALUE["__bool__"])

    def __int__(self) -> int:
        fail(_NOT_A_PYTHON_VALUE["__int__"])

    def __index__(self) -> int:
        fail(_NOT_A_PYTHON_VALUE["__index__"])

    def __float__(self) -> float:
        fail(_NOT_A_PYTHON_VALUE["__float__"])

    def __iter__(self):
        fail(_NOT_A_PYTHON_VALUE["__iter__"])

    def __len__(self) -> int:
        fail(_NOT_A_PYTHON_VALUE["__len__"])

    def __getitem__(self, index):
        if isinstance(self.node, n.Array) and index_axes(self.node):
            indices = index if isinstance(index, tuple) else (index,)
            return Expr(build(n.Gather, self.node, tuple(lift(item) for item in indices)))
        if isinstance(index, slice) and index.step in (None, 1):
            return Expr(build(n.Slice, self.node, index.start or 0, index.stop))
        fail(
            "only rows can be sliced (pair.q[:32], without a step) and only tables indexed\n"
            'declare a table with rg.table(name) or rg.parameter(name, per=("head", size))'
        )
