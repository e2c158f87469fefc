"""The sweeps of a gradient, which depend on what of a call's results receives anything.

Leaves to others: the derivatives (`passes/adjoint`), what a sweep computes (`adjoint_sweep`,
`forward_sweeps`), running them (`backward`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from regard.backends.cpu import forward_sweeps
from regard.backends.cpu.adjoint_sweep import make_key_sweep
from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.module import Module
from regard.backends.cpu.rowsweep import RowSweep
from regard.ir import nodes as n
from regard.ir.program import Leaf
from regard.passes.adjoint import Adjoints, derive_adjoints
from regard.passes.lower import Lowered
from regard.passes.split_pairs import Split
from regard.passes.statistics import Statistic

# The letters of the row values that are known in every gradient: those of forward, and adjoints.
_KNOWN = ("n", "z", "t", "m", "s", "r", "x", "o", "columns", "keys", "do", "g")


@dataclass(eq=False)
class GradientSweeps:
    """The sweeps of a gradient.

    Attributes:
        lowered: The program as sweeps.
        wanted: The leaves whose gradient is asked for.
        watched: The observed sums that receive something.
        split: Returns an empty split in which row values of some letters are known.
        module: Makes a library of a sweep and what it is for.
        apart: Whether forward keeps the sum of each part of the weights.
    """

    lowered: Lowered
    wanted: tuple[n.Node, ...]
    watched: tuple[Statistic, ...]
    split: Callable[..., Split]
    module: Callable[..., Module]
    apart: bool

    @cached_property
    def adjoints(self) -> Adjoints:
        """The adjoint sweeps in terms of the program's own leaves; `finish` and `rows` run so."""
        return derive_adjoints(self.lowered, self.wanted, watched=self.watched)

    @property
    def follows(self) -> bool:
        """Whether what normalisers receive follows from sums that forward kept, without a sweep."""
        if self.apart:
            return not self.watched
        known = all(one.linear and "i" in one.axes for one in self.watched)
        return self.lowered.single and known

    @property
    def delta_by_pairs(self) -> bool:
        """Whether the adjoint sweep finds that by itself, from the summed row alone."""
        return self.lowered.single and self.follows and not self.watched

    @cached_property
    def rows_give(self) -> bool:
        """Whether row expressions alone, such as sinks, give a leaf a gradient."""
        rows = self.adjoints.rows
        return bool(rows.indexed or rows.outer) or any(isinstance(x, Leaf) for x in rows.dense)

    @cached_property
    def inverses(self) -> Module[RowSweep] | None:
        """The sweep that finds what each normaliser receives, where that takes one."""
        if self.follows or not self.adjoints.inverses:
            return None
        bodies = self.adjoints.inverses
        sweep = forward_sweeps.make_inverse_sweep(self.lowered, self.split(*_KNOWN), bodies)
        return self.module(sweep, "inverses")

    @cached_property
    def backward(self) -> Module[KeySweep] | None:
        """The sweep that finds what every leaf receives; None if pairs give nothing."""
        split = self.split(*_KNOWN, "gl", *(() if self.delta_by_pairs else ("gd",)))
        sweep = make_key_sweep(
            self.lowered, split, self.wanted, self.adjoints.rows, self.watched, self.delta_by_pairs
        )
        return None if sweep is None else self.module(sweep, "backward")

    @property
    def modules(self) -> list[Module]:
        """The sweeps in the order in which they run."""
        return [one for one in (self.inverses, self.backward) if one is not None]
