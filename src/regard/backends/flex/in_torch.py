"""Scalar expressions of a program, written as Python that calls torch.

What is written runs on tensors of any shape, under vmap, and inside FlexAttention's kernels: one
line a value, no loops, torch's functions alone. Leaves to others: what leaves are (`write`).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.ir.types import type_of

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|",
}  # fmt: skip
_PREFIX = {"neg": "-", "not": "~"}
_COMPARED = ("lt", "le", "gt", "ge", "eq", "ne")


class Lines:
    """The lines of one function.

    Args:
        known: What some nodes are called.
        leaf: Writes any node that is no operator, given the texts of the indices it reads.
    """

    def __init__(
        self, known: Mapping[n.Node, str], leaf: Callable[[n.Node, list[str]], str] | None = None
    ) -> None:
        self.written: list[str] = []
        self._texts: dict[n.Node, str] = dict(known)
        self._leaf = leaf

    def text(self, root: n.Node) -> str:
        """Return the expression of a node; what it reads is written to lines before.

        Args:
            root: A scalar expression.

        Returns:
            A name or a number.

        Raises:
            UnsupportedError: If it reads what is no number of a pair.
        """
        stack = [root]
        while stack:
            node = stack[-1]
            missing = [part for part in _read(node) if part not in self._texts]
            if node not in self._texts and missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if node not in self._texts:
                self._texts[node] = self._named(node)
        return self._texts[root]

    def _named(self, node: n.Node) -> str:
        if isinstance(node, n.Const):
            return _literal(node.value)
        if isinstance(node, n.Call):
            texts = [self._texts[arg] for arg in node.args]
            text = _call(node, texts)
        elif self._leaf is not None:
            text = self._leaf(node, [self._texts[part] for part in _read(node)])
        else:
            raise UnsupportedError(f"{type(node).__name__} is no number of a pair")
        if text.isidentifier() or _is_literal(text):
            return text
        name = f"x{len(self.written) + 1}"
        self.written.append(f"{name} = {text}")
        return name


def _read(node: n.Node) -> list[n.Node]:
    if isinstance(node, n.Gather):
        return list(node.indices)
    return list(node.args) if isinstance(node, n.Call) else []


def _literal(value: bool | int | float) -> str:
    if isinstance(value, float) and math.isinf(value):
        return 'float("inf")' if value > 0 else '-float("inf")'
    return repr(value)


def _is_literal(text: str) -> bool:
    if text in _WORDS:
        return True
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _call(node: n.Call, texts: list[str]) -> str:
    op = node.op
    if all(_is_literal(text) for text in texts):
        return _literal(_folded(op, texts))
    if OPERATORS[op].takes == "number" and op not in _COMPARED:
        pairs = zip(node.args, texts, strict=True)
        texts = [_as_number(arg, text) for arg, text in pairs]
    if op in _INFIX:
        return f"{_bracketed(texts[0])} {_INFIX[op]} {_bracketed(texts[1])}"
    if op in _PREFIX:
        return f"{_PREFIX[op]}{texts[0]}"
    if op in ("min", "max"):
        return _bounded(op, *texts)
    if op == "where":
        return f"torch.where({texts[0]}, {', '.join(_alike(texts[1:]))})"
    if op == "floor":
        whole = type_of(node.args[0]).kind in ("int", "bool")
        return texts[0] if whole else f"torch.floor({texts[0]}).to(torch.int64)"
    if op == "softplus":
        x = texts[0]
        return f"torch.relu({x}) + torch.log1p(torch.exp(-torch.abs({x})))"
    return f"torch.{OPERATORS[op].torch}({', '.join(texts)})"


def _bracketed(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _as_number(node: n.Node, text: str) -> str:
    """Write truth values as 0 and 1; torch neither subtracts nor negates them."""
    return f"{text}.to(torch.int64)" if type_of(node).kind == "bool" else text


def _bounded(op: str, first: str, second: str) -> str:
    # torch.maximum takes tensors alone.
    if _is_literal(first):
        first, second = second, first
    if _is_literal(second):
        return f"torch.clamp({first}, {'max' if op == 'min' else 'min'}={second})"
    return f"torch.{op}imum({first}, {second})"


def _alike(texts: list[str]) -> list[str]:
    """Write two plain numbers of one kind, as torch.where wants them."""
    if all(_is_literal(text) for text in texts):
        values = [_value(text) for text in texts]
        if any(isinstance(value, float) for value in values):
            return [_literal(float(value)) for value in values]
    return texts


_WORDS = {"True": True, "False": False, 'float("inf")': math.inf, '-float("inf")': -math.inf}


def _value(text: str) -> bool | int | float:
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _folded(op: str, texts: list[str]) -> bool | int | float:
    values = [torch.tensor(_value(text), dtype=_wide(_value(text))) for text in texts]
    if op == "softplus":
        return math.log1p(math.exp(values[0]))
    found = getattr(torch, OPERATORS[op].torch)(*values).item()
    return int(found) if OPERATORS[op].gives == "int" else found


def _wide(value: bool | int | float) -> torch.dtype:
    return {bool: torch.bool, int: torch.int64, float: torch.float64}[type(value)]


def function_of(name: str, arguments: str, lines: Lines, result: str) -> str:
    """Return a function's source.

    Args:
        name: Its name.
        arguments: Its arguments, as Python writes them.
        lines: Its lines.
        result: What it returns.

    Returns:
        The source, without a last line break.
    """
    body = [*lines.written, f"return {result}"]
    return "\n".join([f"def {name}({arguments}):", *("    " + line for line in body)])


def made_of(source: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a source defines.

    Args:
        source: Python that `function_of` wrote.
        names: What its free names stand for, beside torch.

    Returns:
        What it defines, by name.
    """
    found: dict[str, Any] = {}
    space = {"torch": torch, **names}
    exec(compile(source, "<written by rg.to_flex>", "exec"), space, found)
    return found
