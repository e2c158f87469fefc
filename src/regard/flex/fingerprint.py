"""What a function would be traced to, told without running it.

Two functions with one fingerprint have the same code and hold the same numbers, and tensors of the
same shapes and dtypes in the same places, whichever tensors these are. What cannot be looked into
has no fingerprint, and is run anew at each call. Leaves to others: keeping traces (`remember`).
"""

import dis
import functools
import types
from collections.abc import Hashable, Iterator
from enum import Enum
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# Modules that do not change while a program runs.
_FIXED_MODULES = ("torch", "math", "operator", "functools", "builtins", "numpy", "typing")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
# Names by which code reads what it does not hold: its module's names at large, files, a generator.
_ELSEWHERE = ("globals", "locals", "vars", "eval", "exec", "__import__", "open", "random")


class Unseen(Exception):
    """A function holds something that cannot be looked into."""


class Captured:
    """The tensors that functions hold, in the order of first meeting."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.names: list[str] = []
        self._places: dict[int, int] = {}
        self._within: list[int] = []

    def fingerprint(self, function: Any) -> Hashable | None:
        """Return what tells a function from others, and collect the tensors it holds.

        Args:
            function: A function, a functools.partial, a builtin, or None.

        Returns:
            The fingerprint; None if there is none.
        """
        try:
            return ("seen", self._of(function, "captured"))
        except (Unseen, RecursionError):
            return None

    def _of(self, value: Any, name: str) -> Hashable:
        found = self._itself(value, name)
        own = getattr(value, "__dict__", None)
        # What is set on a tensor, a partial or an object of a user's own kind of number or list.
        if own and isinstance(value, _WITH_ATTRIBUTES) and not isinstance(value, Enum):
            return (found, self._of(dict(own), name))
        return found

    def _itself(self, value: Any, name: str) -> Hashable:
        if isinstance(value, _PLAIN):
            # 0.0 and -0.0 are equal, NaN is not equal to itself; neither is so as text.
            is_float = isinstance(value, float | complex)
            return (type(value), repr(value) if is_float else value)
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
            return ("itself", self._within.index(id(function)))
        self._within.append(id(function))
        code = function.__code__
        if _looks_elsewhere(code):
            raise Unseen
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
        if function.__dict__:
            found.append(self._of(function.__dict__, "attribute"))
        self._within.pop()
        return tuple(found)


def _of_fixed(value: Any) -> Hashable:
    if isinstance(value, types.ModuleType):
        if _is_fixed(value.__name__):
            return value.__name__
    elif isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType):
        owner = getattr(value, "__self__", None)
        # Methods of lists and dictionaries belong to what may change.
        if owner is None or isinstance(owner, type):
            return value
        if isinstance(owner, types.ModuleType) and _is_fixed(owner.__name__):
            return value
    elif isinstance(value, type) and _is_fixed(value.__module__):
        return value
    elif (type(value).__module__ or "").startswith("torch._ops"):
        return value
    raise Unseen


_WITH_ATTRIBUTES = (*_PLAIN, Tensor, functools.partial, tuple, list, dict, set, frozenset)


def _is_fixed(module: str) -> bool:
    return module.split(".")[0] in _FIXED_MODULES


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield code and that of functions written inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _all_code(inner)


@lru_cache(maxsize=1024)
def _globals_read(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that code, and functions written inside it, look up in its module."""
    names = [
        found.argval
        for part in _all_code(code)
        for found in dis.get_instructions(part)
        if found.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    ]
    return tuple(dict.fromkeys(names))


@lru_cache(maxsize=1024)
def _looks_elsewhere(code: types.CodeType) -> bool:
    """Return whether code may read what neither its closure nor its globals show."""
    return any(
        found.opname == "IMPORT_NAME" and not _is_fixed(found.argval)
        for part in _all_code(code)
        for found in dis.get_instructions(part)
    ) or any(name in _ELSEWHERE for part in _all_code(code) for name in part.co_names)
