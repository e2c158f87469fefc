"""Functions of one whole number, known by all their values: their extremes over ranges of it.

Truth values are counted beforehand, so that a range costs two look-ups; numbers that only rise or
only fall have their extremes at the ends of a range; others are looked through, or the extremes of
runs of 2^k are kept if ranges are many.
Leaves to others: what is a function (`condition`), and the values (`leaves`).
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from regard.backends.values.intervals import Interval, Range, Truth


class Counted:
    """Truth values on a grid of one or more dimensions.

    Args:
        truth: (B or 1, H or 1, *sizes).
    """

    def __init__(self, truth: Truth) -> None:
        self.same = truth.must is truth.may or torch.equal(truth.must, truth.may)
        self.may = _prefix_counts(truth.may)
        self.must = self.may if self.same else _prefix_counts(truth.must)

    def within(self, ends: list[tuple[Tensor, Tensor]]) -> Truth:
        """Return what holds in boxes.

        Args:
            ends: The first and last place along each dimension, each (B or 1, H or 1, …).

        Returns:
            Whether all, and whether some, are true.
        """
        area: Tensor | int = 1
        for first, last in ends:
            area = area * (last - first + 1)
        may = _box_counts(self.may, ends)
        must = may if self.same else _box_counts(self.must, ends)
        return Truth(must == area, may > 0)


def _prefix_counts(truth: Tensor) -> Tensor:
    counts = truth.int()
    for dim in range(2, counts.dim()):
        counts = counts.cumsum(dim, dtype=torch.int32)
    return torch.nn.functional.pad(counts, (1, 0) * (counts.dim() - 2))


def _box_counts(counts: Tensor, ends: list[tuple[Tensor, Tensor]]) -> Tensor:
    total: Tensor | int = 0
    for corner in itertools.product((True, False), repeat=len(ends)):
        places = [end[1] + 1 if top else end[0] for top, end in zip(corner, ends, strict=True)]
        part = look_up(counts, *places)
        total = total + part if corner.count(False) % 2 == 0 else total - part
    assert isinstance(total, Tensor)
    return total


class Searched:
    """Numbers along one dimension.

    Args:
        numbers: (B or 1, H or 1, L), between `lo` and `hi`.
    """

    def __init__(self, numbers: Range) -> None:
        self.numbers = numbers
        step = numbers.lo[..., 1:] - numbers.lo[..., :-1]
        known = numbers.hi is numbers.lo
        self.rises = known and bool((step >= 0).all())
        self.falls = known and not self.rises and bool((step <= 0).all())
        self.runs: tuple[Tensor, Tensor] | None = None

    def within(self, first: Tensor, last: Tensor) -> Range:
        """Return the range of the numbers between two places, each (B or 1, H or 1, …)."""
        lo, hi, whole = self.numbers
        if first is last:
            one = look_up(lo, first)
            return Range(one, one if hi is lo else look_up(hi, first), whole)
        if self.rises or self.falls:
            a, b = look_up(lo, first), look_up(lo, last)
            return Range(a, b, whole) if self.rises else Range(b, a, whole)
        length = int((last - first).max()) + 1
        if self.runs is None and length * first.numel() <= 4 * lo.shape[2]:
            places = first.unsqueeze(-1) + torch.arange(length, device=first.device)
            places = places.minimum(last.unsqueeze(-1))
            return Range(look_up(lo, places).amin(-1), look_up(hi, places).amax(-1), whole)
        if self.runs is None:
            self.runs = _runs(lo, torch.minimum), _runs(hi, torch.maximum)
        # Two runs of the largest power of 2 that fits cover the range; frexp finds it exactly.
        level = torch.frexp((last - first + 1).double()).exponent.long() - 1
        second = last + 1 - (1 << level)
        (a, b), (c, d) = ([look_up(run, level, x) for x in (first, second)] for run in self.runs)
        return Range(torch.minimum(a, b), torch.maximum(c, d), whole)


def _runs(data: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the extremes of runs of 1, 2, 4, … from each place on, (B, H, runs, L)."""
    runs, step = [data], 1
    while 2 * step <= data.shape[2]:
        # Runs that would reach beyond the end stay shorter; nobody asks for them.
        longer = runs[-1].clone()
        longer[..., :-step] = join(runs[-1][..., :-step], runs[-1][..., step:])
        runs.append(longer)
        step *= 2
    return torch.stack(runs, dim=2)


def look_up(data: Tensor, *places: Tensor) -> Tensor:
    """Return elements of (B or 1, H or 1, …) at places, each (B or 1, H or 1, …)."""
    sizes, device = data.shape, data.device
    flat: Tensor = places[0]
    for place, size in zip(places[1:], sizes[3:], strict=True):
        flat = flat * size + place
    data = data.flatten(2)
    if flat.shape[0] == flat.shape[1] == 1:
        return pick(data, flat.flatten()).unflatten(2, flat.shape[2:])
    ones = [1] * (flat.dim() - 2)
    rows = torch.arange(sizes[0], device=device).view(-1, 1, *ones)
    heads = torch.arange(sizes[1], device=device).view(1, -1, *ones)
    return data[rows, heads, flat]


def pick(data: Tensor, places: Tensor) -> Tensor:
    """Return elements of (B or 1, H or 1, L) at places (W,), four times as fast as an index is."""
    if data.shape[0] == data.shape[1] == 1:
        return data.reshape(-1).index_select(0, places)[None, None]
    return data.index_select(2, places)


def extremes(value: Interval) -> Counted | Searched:
    """Return a function's values, (B or 1, H or 1, L), ready to be asked for ranges."""
    return Counted(value) if isinstance(value, Truth) else Searched(value)
