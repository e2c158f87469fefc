"""What the cpu backend compiles: a program as sweeps over keys, each with its C++ and its library.

Leaves to others: what a sweep computes (`forward_sweeps`, `adjoint_sweep`), its text and library
(`module`), calling it (`forward`, `backward`).
"""

import re
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch

from regard.backends.base import Request
from regard.backends.cpu import forward_sweeps
from regard.backends.cpu.compiler import find_compiler
from regard.backends.cpu.fold import fold_constants
from regard.backends.cpu.gradient import GradientSweeps
from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.module import KEY_BLOCK, QUERY_BLOCK, Module, Sweep
from regard.backends.cpu.ranksweep import RankSweep, make_choice_sweep, make_threshold_sweep
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.watch_sweeps import (
    make_later_sweep,
    make_received_sweep,
    make_top_sweep,
)
from regard.ir import nodes as n
from regard.ir.print_text import formula_text
from regard.ir.program import Leaf
from regard.ir.types import axes_of
from regard.passes.differentiate import Gradient
from regard.passes.find_uses import find_uses
from regard.passes.lower import Lowered, lower
from regard.passes.split_pairs import Input, Split
from regard.passes.unshift_bounded import unshift_bounded

if TYPE_CHECKING:
    from regard.backends.cpu.again import Again

# The letters of the row values each sweep finds known, and those of what is observed.
_FIRST = ("n", "z", "t")
_FOUND = (*_FIRST, "m", "s", "r", "x")
_OBSERVING = (*_FOUND, "o", "columns", "ones")
_NAME_LENGTH = 40
# Laying out keys costs about as much as this many query rows.
_FEW_ROWS, _MANY_KEYS = 8, 512
# What a thread may keep of the weights of a block of query rows.
_MOST_TILES_BYTES = 16 << 20


@dataclass
class Kernel:
    """A compiled program.

    Attributes:
        request: What was asked for.
        lowered: The program as sweeps.
        maxima: `max_over_keys` nodes by the name of the hole that stands for each.
        wanted: The leaves whose gradient is asked for.
        carried: What the leaves of each input receive, by input, found when first needed.
        gradients: The sweeps of gradients, by what is observed and receives something.
        again: Earlier calls, by what later ones have in common with them.
    """

    request: Request
    lowered: Lowered
    maxima: dict[str, n.KeyMax]
    wanted: tuple[n.Node, ...]
    carried: dict[n.Node, Gradient] = field(default_factory=dict)
    gradients: dict[frozenset[str], GradientSweeps] = field(default_factory=dict)
    again: dict[tuple | None, "Again"] = field(default_factory=dict)

    @property
    def real(self) -> str:
        """The C++ type that is computed with."""
        return "double" if str(self.request.dtype) == "torch.float64" else "float"

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype that is computed with."""
        return torch.float64 if self.real == "double" else torch.float32

    @property
    def tile(self) -> tuple[int, int]:
        """The query rows and key rows of a tile."""
        return QUERY_BLOCK, KEY_BLOCK

    @cached_property
    def lanes(self) -> int:
        """How many numbers a vector holds."""
        compiler = find_compiler()
        assert not isinstance(compiler, str)
        return compiler.lanes_bytes // (8 if self.real == "double" else 4)

    @cached_property
    def formula(self) -> str:
        """The program as text, for the head of the C++."""
        return formula_text("out", self.request.written)

    @cached_property
    def needs_output_alone(self) -> bool:
        """Whether one sweep gives all that a call returns, and nothing is kept of its rows."""
        request = self.request
        more = request.wanted or request.observe or self.maxima or self.prepared
        one = self.lowered.finish is None and len(self.forward) == 1
        return not more and one and not self.forward[0].sweep.histograms

    @cached_property
    def conditions(self) -> tuple[n.Node | None, ...]:
        """When each term sees a pair; empty if all always see every one."""
        found = tuple(term.where for term in self.lowered.terms)
        return found if any(condition is not None for condition in found) else ()

    @cached_property
    def choices(self) -> list[Module[RankSweep]]:
        """The sweeps that choose keys, one after the other."""
        choices = self.lowered.choices
        return [self._module(make_choice_sweep(one, self._split()), "choice") for one in choices]

    @cached_property
    def thresholds(self) -> Module[RankSweep] | None:
        """The sweep that finds the threshold of each entmax, if there is one."""
        sweep = make_threshold_sweep(self.lowered, self._split("n"))
        return None if sweep is None else self._module(sweep, "threshold")

    @cached_property
    def prepared(self) -> bool:
        """Whether row values are found before the sweeps that give the output."""
        return bool(self.choices or self.counts or self.thresholds)

    @cached_property
    def counts(self) -> Module[RowSweep] | None:
        """The sweep that counts visible keys, if a term reads their number."""
        sweep = forward_sweeps.make_count_sweep(self.lowered, self._split())
        return None if sweep is None else self._module(sweep, "count")

    @cached_property
    def forward(self) -> list[Module[RowSweep]]:
        """The one sweep, or the two, that give the output."""
        fused = self._fused()
        return self._parted() if fused is None else [self._module(fused, "forward")]

    def _fused(self) -> RowSweep | None:
        """Return the one sweep that gives the output, if there is one."""
        return forward_sweeps.make_fused_sweep(
            self.lowered, self._split(*_FIRST), bool(self.wanted)
        )

    def _parted(self) -> list[Module[RowSweep]]:
        """Return the two sweeps that give the output, row sums first."""
        sums = forward_sweeps.make_sums_sweep(self.lowered, self._split(*_FIRST))
        spread = forward_sweeps.make_spread_sweep(self.lowered, self._split(*_FOUND))
        return [self._module(sums, "sums"), self._module(spread, "spread")]

    @cached_property
    def decode(self) -> Module[RowSweep] | None:
        """The one sweep for a few query rows, reading keys in place; None if it cannot."""
        sweep = self.forward[0].sweep
        if len(self.forward) > 1 or sweep.split.sums or sweep.histograms:
            return None
        if sweep.listed or sweep.receives:
            return None
        rows = [item for item in sweep.split.inputs.values() if item.kind == "key_row"]
        if not all(isinstance(item.node, n.Vector) for item in rows):
            return None
        return self._module(sweep, "decode")

    def reads_in_place(self, queries: int, keys: int) -> bool:
        """Tell whether the query rows of a call are so few that keys are not laid out for them.

        Args:
            queries: N.
            keys: M.

        Returns:
            Whether `decode` runs, if the rows of keys lie as it needs them.
        """
        few = queries <= _FEW_ROWS and keys >= _MANY_KEYS
        return few and not self.request.wanted and self.decode is not None

    @cached_property
    def read_again(self) -> frozenset[str]:
        """The row values that later sweeps, results and gradients read, by hole name."""
        lowered = self.lowered
        observe = frozenset(self.request.observe)
        gradient = self.gradient(observe) if self.wanted else None
        later = [*self.forward[1:], *self.watching, *(gradient.modules if gradient else ())]
        nodes = [item.node for module in later for item in module.inputs]
        nodes += lowered.rows.values()
        nodes += [] if lowered.finish is None else [lowered.finish]
        if self.top is not None or self.lists:
            nodes += [term.hole(letter) for term in lowered.terms for letter in "mr"]
        if gradient is not None:
            gradients = [gradient.adjoints.rows, gradient.adjoints.finish]
            nodes += [node for one in gradients if one is not None for node in one.expressions()]
        names = {part.name for node in nodes for part in n.walk(node) if isinstance(part, n.Hole)}
        tops = {f"top:{name[4:]}" for name in lowered.rows if name.startswith("max:")}
        sums = {one.hole.name for one in lowered.statistics}
        return frozenset(names | tops | sums | {"alive"})

    @cached_property
    def reads_summed(self) -> bool:
        """Whether a gradient reads the summed row again, which may be the output itself."""
        lowered = self.lowered
        if lowered.finish is not None or n.SUMMED.name in self.read_again:
            return True
        if not self.wanted or not lowered.single:
            return False
        # A gradient of what is observed reads it where the adjoint sweep alone need not.
        return bool(lowered.statistics) or self.gradient().rows_give

    def gradient(self, received: frozenset[str] = frozenset()) -> GradientSweeps:
        """Return the sweeps of the gradient.

        Args:
            received: What is observed and receives something, by name.

        Returns:
            The sweeps; the same for the same names.
        """
        watched = tuple(one for one in self.lowered.statistics if one.name in received)
        names = frozenset(one.name for one in watched)
        if names not in self.gradients:
            made = GradientSweeps(
                self.lowered, self.wanted, watched, self._split, self._module, self.apart
            )
            self.gradients[names] = made
        return self.gradients[names]

    @cached_property
    def later(self) -> Module[RowSweep] | None:
        """The sweep of observed sums that read row values or others."""
        found = {name for module in self.forward for name in module.row_results}
        sweep = make_later_sweep(self.lowered, found, self._split(*_OBSERVING))
        return None if sweep is None else self._module(sweep, "later")

    @cached_property
    def received(self) -> Module[KeySweep] | None:
        """The sweep that finds what each key received."""
        sweep = make_received_sweep(self.lowered, self._split(*_OBSERVING))
        return None if sweep is None else self._module(sweep, "received")

    @cached_property
    def top(self) -> Module[RankSweep] | None:
        """The sweep that finds the largest weights of each row, where the output's does not."""
        if self.lists:
            return None
        sweep = make_top_sweep(self.lowered, self._split(*_OBSERVING))
        return None if sweep is None else self._module(sweep, "top")

    @property
    def lists(self) -> int:
        """How many of the largest scores of each row the output's sweep lists."""
        return self.forward[0].sweep.listed

    def keeps_tiles(self, queries: int, keys: int) -> bool:
        """Tell whether the output's sweep finds what keys receive, for which it keeps tiles.

        Args:
            queries: N.
            keys: M.

        Returns:
            Whether it does: the tiles of a block of queries take no more than a thread may have.
        """
        sweep = self.forward[0].sweep
        rows = len(sweep.components) * min(QUERY_BLOCK, queries)
        return sweep.receives and rows * keys * self.dtype.itemsize <= _MOST_TILES_BYTES

    @property
    def apart(self) -> bool:
        """Whether forward keeps the sum of each part of the weights for the gradient."""
        return self.forward[0].sweep.apart

    @property
    def watching(self) -> list[Module]:
        """The sweeps of what is observed beside the output's, in the order in which they run."""
        found = (self.later, self.received, self.top)
        return [module for module in found if module is not None]

    def sweeps(self, queries: int, keys: int) -> list[Module]:
        """Return the sweeps of a call in the order in which they run.

        Args:
            queries: N.
            keys: M.

        Returns:
            The sweeps, those of the gradient last.
        """
        few = self.decode if self.reads_in_place(queries, keys) else None
        forward = self.forward if few is None else [few]
        apart = None if self.keeps_tiles(queries, keys) else self.received
        watching: list[Module | None] = [self.later, apart, self.top]
        modules = [*self.choices, self.counts, self.thresholds, *forward, *watching]
        modules += self.gradient().modules if self.wanted else []
        return [module for module in modules if module is not None]

    def code(self) -> str:
        """Return the C++ of the output's sweeps, or, if gradients are wanted, of the gradient's."""
        first = [*self.choices, self.counts, self.thresholds]
        modules = self.gradient().modules if self.wanted else [*first, *self.forward]
        conditions, indices = find_uses(self.request.root)

        def kind(item: Input) -> str:
            if item.kind in ("query_row", "key_row", "channels"):
                return "real"
            found = item.hole.kind
            if found == "any":
                found = "bool" if item.node in conditions else found
                found = "int" if item.node in indices else found
            return found if found in ("int", "bool") else "real"

        return "\n".join(
            module.source(tuple(kind(item) for item in module.inputs))
            for module in modules
            if module is not None
        )

    def _split(self, *letters: str) -> Split:
        """Return an empty split in which maxima over keys and these row values are known."""
        before = ("keymax", *letters)
        return Split(
            lambda hole: hole.name.partition(":")[0] in before, self.request.plain_positions
        )

    def _module(self, sweep: Sweep, what: str) -> Module[Sweep]:
        """Return a sweep as a library that has a name for people."""
        first = self.formula.splitlines()[1]
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", first)[:_NAME_LENGTH].strip("_")
        return Module(sweep, what, f"{name}-{what}", self.real, self.formula)


def compile_kernel(request: Request, kind: type[Kernel] = Kernel) -> Kernel:
    """Compile a program for a kind of call, without building anything; sizes do not matter.

    Args:
        request: The kind of call.
        kind: What is made: a kernel of this backend, or of one that writes its sweeps otherwise.

    Returns:
        The kernel.

    Raises:
        UnsupportedError: If the program needs something kernels do not have; the reason is given.
    """
    return _compile(
        replace(
            request,
            batch=0,
            heads=0,
            groups=0,
            queries=0,
            keys=0,
            value_width=0,
            pair_channels=0,
            lengths=False,
        ),
        kind,
    )


@lru_cache(maxsize=256)
def _compile(request: Request, kind: type[Kernel]) -> Kernel:
    maxima: dict[str, n.KeyMax] = {}

    def change(node: n.Node) -> n.Node | None:
        if node is n.Index("width"):
            return n.Const(request.width)
        if isinstance(node, n.KeyMax):
            hole = n.Hole(f"keymax:{len(maxima)}", axes_of(node))
            maxima[hole.name] = node
            return hole
        return None

    root = fold_constants(n.rewrite(request.root, change))
    assert isinstance(root, n.Output)
    lowered = unshift_bounded(lower(root, request.observe, request.seeded), request.observe)
    leaves = (node for node in n.walk(root) if isinstance(node, Leaf))
    wanted = tuple(leaf for leaf in leaves if leaf.name in request.wanted)
    kernel = kind(request, lowered, maxima, wanted)
    # All that may be unsupported is found now, not in the middle of a call.
    _ = kernel.forward, kernel.prepared, kernel.watching
    if wanted:
        _ = kernel.gradient().modules, kernel.gradient(frozenset(request.observe)).modules
    return kernel
