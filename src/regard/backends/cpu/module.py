"""A sweep as a library: its C++ text, and the function that is built from it on first use.

Leaves to others: what the sweep computes (`rowsweep`, `keysweep`), building (`library`), the call
(`call`).
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

import torch

from regard.backends.base import Failed
from regard.backends.cpu.compiler import find_compiler
from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.library import load_library
from regard.backends.cpu.matrix import matrix_defines
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.slots import place_kind
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.print_text import text
from regard.passes.split_pairs import Input

# Numbers of one score in a tile: with its keys and values it fits a core's second-level cache.
QUERY_BLOCK, KEY_BLOCK = 96, 256
# Blocks of pairs are told empty, full or mixed in steps of so many query rows and keys.
QUERY_STEP, KEY_STEP = 32, 64
# The header that holds each sweep's loops, and the function that runs them.
_LOOPS = {
    "count": ("forward.h", "sweep_rows"),
    "forward": ("forward.h", "sweep_rows"),
    "choice": ("rank.h", "rank_rows"),
    "threshold": ("rank.h", "rank_rows"),
    "sums": ("forward.h", "sweep_rows"),
    "spread": ("forward.h", "sweep_rows"),
    "decode": ("decode.h", "sweep_few"),
    "inverses": ("forward.h", "sweep_rows"),
    "later": ("forward.h", "sweep_rows"),
    "received": ("backward.h", "sweep_keys"),
    "top": ("rank.h", "rank_rows"),
    "backward": ("backward.h", "sweep_keys"),
}
# What a row value that is known beforehand is, by the letters of its hole.
_ROW_VALUES = {
    "m": "the largest exponent of term {}", "s": "the row sum of term {}",
    "r": "the inverse of the normaliser of term {}", "n": "the keys that term {} sees",
    "x": "the row sum of num · (score − m) of term {}",
    "z": "the largest score of term {}", "t": "the threshold of term {}",
    "chosen": "the keys of choice {}",
    "o": "the observed {}", "g": "the adjoint of the observed {}", "keys": "the keys of {}",
    "columns": "1 at the key's class, of {}", "appended": "{} and the classes of keys",
    "ones": "1",
    "gs": "the adjoint of the row sum of term {}", "gx": "the adjoint of x of term {}",
    "gl": "the adjoint of the row sum of term {}, which is 1",
    "gd": "r times its adjoint of term {}", "do": "the adjoint of the summed row",
    "summed": "the summed row",
    "keymax": "a maximum over keys",
}  # fmt: skip
_VARIES = {
    "number": "number of a head", "channels": "channels of a head", "query": "number of a query",
    "key": "number of a key", "query_row": "query row", "key_row": "key row",
    "pair": "of a pair", "table": "table", "diagonal": "function of i − j",
    "query_table": "query row that pairs pick from", "key_table": "key row that pairs pick from",
    "choice": "listed for each query", "listed": "listed for each query",
    "placed": "of the listed keys of each query",
}  # fmt: skip

# The inputs that products read.
_ROWS = ("query_row", "key_row")
# What these receive is written by one task alone; of the others each chunk of keys has its own sum.
WHOLE = ("key_row", "key", "pair", "key_table")

Sweep = TypeVar("Sweep", RowSweep, KeySweep)
# From the words of a call to its status.
Entry = Callable[[ctypes.Array], int]


@dataclass(frozen=True)
class Layout:
    """How tensors of the same shapes and strides lie, told once for all such calls.

    Attributes:
        entry: The function to call.
        words: A call's words, without addresses and what else differs from call to call.
        places: Where the address of each input, then that of each result, stands among them.
    """

    entry: Entry
    words: ctypes.Array
    places: tuple[int, ...]


@dataclass
class Module(Generic[Sweep]):
    """A sweep, and its library for every way its inputs may be read.

    Attributes:
        sweep: What is computed.
        what: What it is for, as in `_LOOPS`.
        name: What people call it, in the names of files.
        real: The C++ type that is computed with.
        formula: The program as text, for the head of the C++.
    """

    sweep: Sweep
    what: str
    name: str
    real: str
    formula: str
    layouts: dict[tuple, "Layout"] = field(default_factory=dict)
    _entries: dict[tuple[tuple[str, ...], tuple[str, ...]], Entry | str] = field(
        default_factory=dict
    )

    @cached_property
    def inputs(self) -> list[Input]:
        """The inputs in the order of the call's."""
        return list(self.sweep.split.inputs.values())

    @cached_property
    def sources(self) -> list[tuple[str, Input]]:
        """The inputs, each after the name of the call's tensor that it is, if it is one."""
        nodes = [(item.node, item) for item in self.inputs]
        return [(node.name if isinstance(node, n.Vector) else "", item) for node, item in nodes]

    @cached_property
    def row_results(self) -> list[str]:
        """The names of a row sweep's row values, in the order of the call's results."""
        assert isinstance(self.sweep, RowSweep)
        return self.sweep.row_results

    @cached_property
    def receivers(self) -> list[Input]:
        """The inputs that an adjoint sweep gives something, in the order of the call's results."""
        assert isinstance(self.sweep, KeySweep)
        return self.sweep.results

    @cached_property
    def chunked(self) -> list[bool]:
        """For each result, whether each of several chunks of keys has its own sum."""
        if isinstance(self.sweep, KeySweep):
            return [item.kind not in WHOLE for item in self.receivers]
        listed = 2 if self.sweep.listed else 0
        summed = self.sweep.summed_count + len(self.sweep.histograms) + listed
        alone = [False] * (len(self.row_results) + summed)
        return [*alone, True] if self.sweep.receives else alone

    def unit(self, dtypes: Sequence[torch.dtype]) -> tuple[str, ...]:
        """Return the macros that build the library for a matrix unit; none where it has no use.

        Args:
            dtypes: What each input is stored as.

        Returns:
            From `matrix_defines`, if some product may be of rows that are all bfloat16.
        """
        rows = zip(self.inputs, dtypes, strict=True)
        halves = any(x.kind in _ROWS and dtype == torch.bfloat16 for x, dtype in rows)
        # Decoding takes as long as reading the keys, whatever multiplies them.
        if not halves or self.real != "float" or self.what == "decode":
            return ()
        return matrix_defines()

    def entry(self, kinds: tuple[str, ...], unit: tuple[str, ...] = ()) -> Entry:
        """Return the function to call, built on first use.

        Args:
            kinds: What each input is read as: "real", "int" or "bool".
            unit: From `unit`.

        Returns:
            A function from the words of a `Call` to its status.

        Raises:
            Failed: If it cannot be built here; that is tried once.
        """
        found = self._entries.get((kinds, unit))
        if found is None:
            try:
                found = self._build(kinds, unit)
            except UnsupportedError as reason:
                found = str(reason)
            self._entries[kinds, unit] = found
        if isinstance(found, str):
            raise Failed(found)
        return found

    def _build(self, kinds: tuple[str, ...], unit: tuple[str, ...]) -> Entry:
        compiler = find_compiler()
        if isinstance(compiler, str):
            raise UnsupportedError(compiler)
        lanes = (f"REGARD_REAL={self.real}", f"REGARD_BYTES={compiler.lanes_bytes}")
        run = load_library(self.source(kinds), self.name, (*lanes, *unit)).regard_run
        run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_int
        return run

    def source(self, kinds: tuple[str, ...]) -> str:
        """Return the C++ text.

        Args:
            kinds: What each input is read as.

        Returns:
            A file's text.
        """
        header, run = _LOOPS[self.what]
        program = self.sweep.source(dict(zip(self.inputs, kinds, strict=True)))
        return "\n".join(
            [
                f"// The sweep '{self.what}' of",
                *(f"//   {line}".rstrip() for line in self.formula.splitlines()[1:]),
                "//",
                "// Inputs, by their number in a call:",
                *(f"//   {k}: {told(item)}" for k, item in enumerate(self.inputs)),
                f"#define REGARD_QUERY_BLOCK {QUERY_BLOCK}",
                f"#define REGARD_KEY_BLOCK {KEY_BLOCK}",
                f"#define REGARD_QUERY_STEP {QUERY_STEP}",
                f"#define REGARD_KEY_STEP {KEY_STEP}",
                f'#include "{header}"',
                "",
                "namespace regard {",
                "",
                program,
                "",
                "}  // namespace regard",
                "",
                'extern "C" __attribute__((visibility("default")))',
                "int regard_run(const int64_t* call) {",
                f"  return regard::{run}<regard::Program>(regard::located(call));",
                "}",
                "",
            ]
        )


def told(item: Input) -> str:
    """Return what an input is, for readers of a kernel."""
    varies = _VARIES[place_kind(item)]
    if isinstance(item.node, n.Hole):
        letters, _, rest = item.node.name.partition(":")
        return f"{_ROW_VALUES.get(letters, letters).format(rest)}, {varies}"
    if isinstance(item.node, n.Keep):
        return f"what random bits are compared with, to keep with {text(item.node.p)}, {varies}"
    return f"{text(item.node)}, {varies}"
