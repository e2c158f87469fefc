"""A function of each number of a vector's rows, and its gradient, in one pass each.

Before: relu(q) + exp(min(q, 0)).
After: C++ that reads each number of q once, and autograd's record of it.
Leaves to others: rows that are made in other ways (`values/evaluate`).
"""

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.backends.cpu.compiler import find_compiler
from regard.backends.cpu.emit import Lines, function
from regard.backends.cpu.library import load_library
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.passes.differentiate import Adjoint, differentiate

_REALS = {torch.float32: "float", torch.float64: "double"}
# Fewer numbers are mapped before another thread has woken up.
_SERIAL_NUMBERS = 1 << 15


class RowMap:
    """A function of each number of one vector's rows.

    Args:
        node: The function.
        leaf: The vector that it reads, and all that it reads.
    """

    def __init__(self, node: n.Node, leaf: n.Vector) -> None:
        self.leaf = leaf
        self._source = _source(node, leaf)
        self._libraries: dict[torch.dtype, ctypes.CDLL | None] = {}

    def can_map(self, rows: Tensor) -> bool:
        """Tell whether rows can be mapped here; what is needed is built on first use.

        Args:
            rows: Values of the vector.

        Returns:
            Whether `apply` works.
        """
        known = rows.device.type == "cpu" and rows.dtype in _REALS
        return known and self._library(rows.dtype) is not None

    def apply(self, rows: Tensor) -> Tensor:
        """Return the function's values; torch's autograd can differentiate them.

        Args:
            rows: Values of the vector, (B, H, N, C).

        Returns:
            As many numbers.
        """
        return _Mapped.apply(rows, self)

    def run(self, name: str, rows: Tensor, received: Tensor) -> Tensor:
        """Call one of the library's functions.

        Args:
            name: "regard_value" or "regard_spread".
            rows: Values of the vector, (B, H, N, C).
            received: What the function's values receive, or once more the rows.

        Returns:
            As many numbers.
        """
        found = torch.empty(rows.shape, dtype=rows.dtype)
        threads = 1 if rows.numel() < _SERIAL_NUMBERS else torch.get_num_threads()
        words = [*rows.shape, threads]
        # Copies live until the call is over.
        parts = [x if x.stride(3) == 1 else x.contiguous() for x in (rows, received)]
        for part in parts:
            words += part.data_ptr(), *part.stride()[:3]
        words.append(found.data_ptr())
        getattr(self._library(rows.dtype), name)((ctypes.c_int64 * len(words))(*words))
        return found

    def _library(self, dtype: torch.dtype) -> ctypes.CDLL | None:
        if dtype not in self._libraries:
            self._libraries[dtype] = self._build(_REALS[dtype])
        return self._libraries[dtype]

    def _build(self, real: str) -> ctypes.CDLL | None:
        compiler = find_compiler()
        if isinstance(compiler, str):
            return None
        lanes = (f"REGARD_REAL={real}", f"REGARD_BYTES={compiler.lanes_bytes}")
        try:
            found = load_library(self._source, "rowmap", lanes)
        except UnsupportedError:
            return None
        for run in (found.regard_value, found.regard_spread):
            run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_int
        return found


class _Mapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, row_map: RowMap) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.row_map = row_map
        return row_map.run("regard_value", rows, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (rows,) = ctx.saved_tensors
        return ctx.row_map.run("regard_spread", rows, grads[0]), None


@lru_cache(maxsize=256)
def find_row_map(node: n.Node) -> RowMap | None:
    """Return an expression of rows as a function of each of their numbers.

    Args:
        node: The expression.

    Returns:
        The function; None if it reads more than one vector's rows, or computes nothing.
    """
    parts = n.walk(node)
    leaves = [part for part in parts if isinstance(part, n.Vector)]
    plain = all(isinstance(part, n.Call | n.Const | n.Vector) for part in parts)
    if len(leaves) != 1 or not plain or not isinstance(node, n.Call):
        return None
    try:
        return RowMap(node, leaves[0])
    except UnsupportedError:
        return None


def _source(node: n.Node, leaf: n.Vector) -> str:
    received = n.Hole("received", axes_of(node))
    slope = differentiate({node: Adjoint(received)}, [leaf]).dense.get(leaf, n.Const(0.0))
    known = {leaf: ("x", "real"), received: ("g", "real")}

    def body(root: n.Node) -> list[str]:
        lines = Lines(lambda part, _: known.get(part))
        value = lines.real(root)
        return [*lines.lines, f"return {value};"]

    return "\n".join(
        [
            '#include "rowmap.h"',
            "",
            "namespace regard {",
            "",
            "struct Program {",
            *function("static REGARD_INLINE Vec value(Vec x, Vec)", body(node), "The function."),
            *function(
                "static REGARD_INLINE Vec spread(Vec x, Vec g)",
                body(slope),
                "What a number receives where its value receives g.",
            ),
            "};",
            "",
            "}  // namespace regard",
            "",
            'extern "C" {',
            *(_exported(name) for name in ("value", "spread")),
            "}",
            "",
        ]
    )


def _exported(name: str) -> str:
    run = f"regard::map_rows(*call, [](auto x, auto g) {{ return regard::Program::{name}(x, g); }})"
    return (
        f'__attribute__((visibility("default"))) int regard_{name}(const regard::MapCall* call) '
        f"{{\n  return {run};\n}}"
    )
