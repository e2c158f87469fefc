"""Values that stand for FlexAttention's 0-d tensors while a score_mod or mask_mod runs once.

Every value is a node of the program and the dtype that torch would give it. Leaves to others:
which functions there are (`functions`), what is known of whole numbers (`ranges`), rows (`rows`),
captured tensors (`captured`), and what to write where Python asks for a plain value (`advice`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch

from regard.errors import nearest
from regard.flex.advice import refuse_python
from regard.ir import nodes as n
from regard.lang.trace import build, fail

# Functions by torch's name, filled by `functions`; methods and operators look here too.
FUNCTIONS: dict[str, Callable[..., Any]] = {}
DEVICE: contextvars.ContextVar[torch.device] = contextvars.ContextVar("device")


class Operand:
    """What torch's functions take for a tensor while tracing: `Traced` numbers and rows of them."""

    __slots__ = ()
    __hash__ = object.__hash__
    __array_ufunc__ = None

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        # Calls arrive here only outside of the tracing that made the value.
        fail(f"{getattr(function, '__name__', 'this')}: a traced value was kept after tracing")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = FUNCTIONS.get("self." + name) or FUNCTIONS.get(name)
        if method is None and name.endswith("_"):
            refuse_writing(name)
        if method is None:
            unknown(name)
        return lambda *args, **kwargs: method(self, *args, **kwargs)

    def __bool__(self) -> bool:
        refuse_python("__bool__")

    def __int__(self) -> int:
        refuse_python("__int__")

    def __index__(self) -> int:
        refuse_python("__index__")

    def __float__(self) -> float:
        refuse_python("__float__")

    def __iter__(self) -> Iterator[Any]:
        refuse_python("__iter__")

    def __len__(self) -> int:
        refuse_python("__len__")

    def __pos__(self):
        return self


def _operator(name: str, reflected: bool = False):
    def apply(self, *others):
        if any(not isinstance(other, Operand | torch.Tensor | int | float) for other in others):
            return NotImplemented
        args = (*others, self) if reflected else (self, *others)
        return FUNCTIONS[name](*args)

    return apply


_BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
    "matmul": "matmul",
}  # fmt: skip
for _symbol, _name in _BINARY.items():
    setattr(Operand, f"__{_symbol}__", _operator(_name))
    setattr(Operand, f"__r{_symbol}__", _operator(_name, reflected=True))
for _symbol in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "abs"):
    setattr(Operand, f"__{_symbol}__", _operator(_symbol))
Operand.__invert__ = _operator("bitwise_not")  # type: ignore[attr-defined]
# What Python and torch write for operators, by the function that computes them.
OPERATOR_NAMES = {
    **{f"__{symbol}__": name for symbol, name in _BINARY.items()},
    **{f"__{symbol}__": symbol for symbol in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "abs")},
    "__invert__": "bitwise_not",
}
REFLECTED_NAMES = {f"__r{symbol}__": name for symbol, name in _BINARY.items()}


class Traced(Operand):
    """A number or truth value of a pair, as a 0-d tensor appears to a score_mod.

    Args:
        node: What computes it.
        dtype: The dtype torch would give it.
    """

    __slots__ = ("dtype", "node")

    def __init__(self, node: n.Node, dtype: torch.dtype) -> None:
        self.node, self.dtype = node, dtype

    def __repr__(self) -> str:
        return f"<traced 0-d tensor, {self.dtype}>"

    def __getitem__(self, index: Any) -> Any:
        if index is Ellipsis or index == ():
            return self
        fail(f"a pair's value has shape () and cannot be indexed by {index!r}")

    shape = torch.Size(())
    ndim = 0
    is_sparse = is_quantized = is_nested = requires_grad = False

    @property
    def is_floating(self) -> bool:
        """Whether it is no whole number and no truth value."""
        return self.dtype.is_floating_point

    @property
    def device(self) -> torch.device:
        """The device of the call."""
        return DEVICE.get()


def constant(value: bool | int | float) -> Traced:
    """Return a plain number as a traced value, with the dtype torch gives a 0-d tensor of it."""
    node = build(n.Const, value)
    if isinstance(value, bool):
        return Traced(node, torch.bool)
    if isinstance(value, int):
        return Traced(node, torch.int64)
    return Traced(node, torch.get_default_dtype())


def unknown(name: str) -> NoReturn:
    """Fail because torch's function of this name has no counterpart in a program."""
    plain = [key for key in FUNCTIONS if not key.startswith(("self.", "_"))]
    guess = nearest(name, plain).partition(" known:")[0]
    hint = guess if guess.startswith("did you mean") else "write its formula with torch's functions"
    fail(f"torch's '{name}' is not among what a program can compute of a pair\n{hint}")


def refuse_writing(name: str) -> NoReturn:
    """Fail because a function of torch writes into a tensor."""
    fail(
        f"torch's '{name}' writes into a tensor, and a score_mod runs once for all pairs\n"
        "write torch.where, or prepare the tensor outside of the function"
    )
