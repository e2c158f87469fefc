"""What a function would be traced to, told without running it.

Two functions with one fingerprint have the same code and hold the same numbers, and tensors of the
same shapes and dtypes in the same places, whichever tensors these are. What cannot be looked into
has no fingerprint, and is run anew at each call. Leaves to others: keeping traces (`remember`).
"""

import dis
import functools
import types
from collections.abc import Hashable
from enum import Enum
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# Modules that do not change while a program runs.
_FIXED_MODULES = ("torch", "math", "operator", "functools", "builtins", "numpy", "typing")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class Unseen(Exception):
    """A function holds something that cannot be looked into."""


class Captured:
    """The tensors that functions hold, in the order of first meeting."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.names: list[str] = []
        self._places: dict[int, int] = {}
        self._within: set[int] = set()

    def fingerprint(self, function: Any) -> Hashable | None:
        """Return what tells a function from others, and collect the tensors it holds.

        Args:
            function: A function, a functools.partial, a builtin, or None.

        Returns:
            The fingerprint; None if there is none.
        """
        try:
            return ("seen", self._of(function, "captured"))
        except Unseen:
            return None

    def _of(self, value: Any, name: str) -> Hashable:
        if isinstance(value, _PLAIN):
            return (type(value), value if value == value else "nan")
        if isinstance(value, Tensor):
            return self._of_tensor(value, name)
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return ("partial", *(self._of(part, name) for part in parts))
        if isinstance(value, tuple | list):
            return (type(value), *(self._of(item, name) for item in value))
        if isinstance(value, dict):
            return ("dict", *((key, self._of(item, str(key))) for key, item in value.items()))
        if isinstance(value, set | frozenset):
            return (type(value), frozenset(self._of(item, name) for item in value))
        if isinstance(value, slice):
            return (slice, self._of((value.start, value.stop, value.step), name))
        if isinstance(value, Enum | range):
            return (type(value), value)
        return _of_fixed(value)

    def _of_tensor(self, tensor: Tensor, name: str) -> Hashable:
        place = self._places.get(id(tensor))
        if place is None:
            place = self._places[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
            self.names.append(name)
        return (place, tensor.shape, tensor.dtype, tensor.device)

    def _of_function(self, function: types.FunctionType) -> Hashable:
        if id(function) in self._within:
            return ("itself", function.__code__)
        self._within.add(id(function))
        code = function.__code__
        found: list[Hashable] = [code]
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                found.append(self._of(cell.cell_contents, name))
            except ValueError:
                raise Unseen from None  # A cell that is not filled yet.
        for name in _globals_read(code):
            if name in function.__globals__:
                found.append((name, self._of(function.__globals__[name], name)))
        for defaults in (function.__defaults__, function.__kwdefaults__):
            if defaults:
                found.append(self._of(defaults, "default"))
        self._within.discard(id(function))
        return tuple(found)


def _of_fixed(value: Any) -> Hashable:
    if isinstance(value, types.ModuleType):
        if value.__name__.split(".")[0] in _FIXED_MODULES:
            return value.__name__
    elif isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType):
        owner = getattr(value, "__self__", None)
        # Methods of lists and dictionaries belong to what may change.
        if owner is None or isinstance(owner, types.ModuleType | type):
            return value
    elif isinstance(value, type) and value.__module__.split(".")[0] in _FIXED_MODULES:
        return value
    elif (type(value).__module__ or "").startswith("torch._ops"):
        return value
    raise Unseen


@lru_cache(maxsize=1024)
def _globals_read(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that code, and functions written inside it, look up in its module."""
    names = [
        found.argval
        for found in dis.get_instructions(code)
        if found.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    ]
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names.extend(_globals_read(inner))
    return tuple(dict.fromkeys(names))
