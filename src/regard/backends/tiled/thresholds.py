"""What needs all scores of a row at once: entmax thresholds, and the keys of the largest scores.

Query rows are taken a few at a time, so that their scores fit the memory of a tile.
Leaves to others: the sweeps that read the found row values (`forward`, `backward`).
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from regard.backends.tiled.kernel import TILE_NUMBERS, Kernel, key_ranges
from regard.backends.values.choices import most_chosen
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound

# A step of Newton's doubles the digits; far from the threshold it takes about ln M of them.
_MOST_STEPS = 64
# Halvings of an interval of length 1 until float64 can halve no further.
_HALVINGS = {torch.float32: 30, torch.float64: 60}


class Swept(Protocol):
    """What is read of a sweep over a call's tiles."""

    kernel: Kernel
    bound: Bound

    def admitted(self, at: Evaluator, which: int) -> Tensor:
        """Return whether pairs of a tile exist and a term's `where` admits them."""
        ...

    def visit(
        self,
        i0: int,
        i1: int,
        ranges: list[tuple[int, int]],
        holes: dict[str, Tensor],
        query: dict,
    ) -> Iterator[Evaluator]:
        """Yield an evaluator for each of some key ranges."""
        ...


def choose_columns(sweep: Swept, i0: int, i1: int, rows: dict[str, Tensor]) -> None:
    """Find the keys of each choice in a range of query rows: "columns:0", (B, H, rows, k, 1).

    Args:
        sweep: The call.
        i0: The first query row.
        i1: The row after the last.
        rows: Row values of the range, to which the chosen key rows are added; -1 is none.
    """
    for choice in sweep.kernel.lowered.choices:
        score, where = choice.score, choice.where

        def admitted(at: Evaluator, where: n.Node | None = where) -> Tensor | None:
            exists = at.exists()
            if where is None:
                return exists
            return at.condition(where) if exists is None else exists & at.condition(where)

        found = []
        for at, scores in whole_rows(sweep, i0, i1, rows, score, admitted):
            k = at.number(choice.k)
            most = most_chosen(k, scores.shape[3])
            ordered = scores.sort(dim=3, descending=True, stable=True)
            rank = torch.arange(most, device=scores.device).view(1, 1, 1, -1, 1)
            chosen = (rank < k) & (ordered.values[:, :, :, :most] != -torch.inf)
            found.append(torch.where(chosen, ordered.indices[:, :, :, :most], -1))
        width = max(part.shape[3] for part in found)
        padded = [_pad(part, width) for part in found]
        rows[choice.columns] = torch.cat(padded, dim=2)


def _pad(columns: Tensor, width: int) -> Tensor:
    missing = width - columns.shape[3]
    return torch.nn.functional.pad(columns, (0, 0, 0, missing), value=-1)


def find_thresholds(sweep: Swept, i0: int, i1: int, rows: dict[str, Tensor]) -> None:
    """Find each entmax's largest score z and threshold t in a range of query rows.

    Args:
        sweep: The call.
        i0: The first query row.
        i1: The row after the last.
        rows: Row values of the range, to which z and t, (B, H, rows, 1, 1), are added.
    """
    for which, term in enumerate(sweep.kernel.lowered.terms):
        if term.gain is None:
            continue
        assert term.score is not None
        tops, found = [], []

        def admitted(at: Evaluator, which: int = which) -> Tensor:
            return sweep.admitted(at, which)

        for at, scores in whole_rows(sweep, i0, i1, rows, term.score, admitted):
            top = scores.amax(3, keepdim=True)
            top = torch.where(top == -torch.inf, 0.0, top)
            gain = at.real(term.gain).to(scores.dtype)
            tops.append(top)
            found.append(solve_threshold((scores - top) * gain, gain))
        rows[f"z:{term.name}"], rows[f"t:{term.name}"] = torch.cat(tops, 2), torch.cat(found, 2)


def whole_rows(
    sweep: Swept,
    i0: int,
    i1: int,
    rows: dict[str, Tensor],
    score: n.Node,
    admitted: Callable[[Evaluator], Tensor | None],
) -> Iterator[tuple[Evaluator, Tensor]]:
    """Yield the numbers of all pairs of a few query rows at a time.

    Args:
        sweep: The call.
        i0: The first query row.
        i1: The row after the last.
        rows: Row values of the range.
        score: The number of a pair.
        admitted: Returns which pairs of a tile take part; None if all do.

    Yields:
        What evaluates row expressions of a few rows, and their numbers (B, H, a few, M, 1), -inf
        where a pair takes no part.
    """
    bound = sweep.bound
    step = max(1, TILE_NUMBERS // max(1, bound.batch * bound.heads * bound.keys))
    for a in range(i0, max(i1, i0 + 1), step):
        b = min(i1, a + step)
        holes = {
            name: value[:, :, a - i0 : b - i0] if value.shape[2] == i1 - i0 else value
            for name, value in rows.items()
        }
        query: dict = {}
        parts = []
        for at in sweep.visit(a, b, list(key_ranges(sweep.kernel, bound)), dict(holes), query):
            seen = admitted(at)
            value = at.real(score)
            shape = (bound.batch, bound.heads, b - a, at.sizes["j"], 1)
            hidden = value if seen is None else torch.where(seen, value, -torch.inf)
            parts.append(hidden.expand(shape))
        at = Evaluator(bound, Tile(a, b, 0, 0), holes, Cache(query, {}, {}))
        yield at, torch.cat(parts, 3)


def solve_threshold(scaled: Tensor, gain: Tensor) -> Tensor:
    """Return t such that the sum over keys of (scaled - t)₊^(1 / gain) is 1.

    Args:
        scaled: Scores times gain, (B, H, rows, M, 1), of which the largest of a row is 0, or all
            are -inf.
        gain: α - 1, broadcastable to (B, H, rows, 1, 1), above 0.

    Returns:
        (B, H, rows, 1, 1), from -1 to 0, not above the root; 0 in rows without keys.
    """
    power = 1 / gain
    below = torch.full_like(scaled[:, :, :, :1], -1.0)
    found = _by_newton(scaled, power, below) if bool((power >= 1).any()) else below
    if bool((power < 1).any()):
        found = torch.where(power < 1, _by_halving(scaled, power, below), found)
    return torch.where(scaled.amax(3, keepdim=True) == -torch.inf, 0.0, found)


def _by_newton(scaled: Tensor, power: Tensor, below: Tensor) -> Tensor:
    """Rise from below: the sum is convex in t and falls, so that no step passes the root."""
    at = below
    for _ in range(_MOST_STEPS):
        above = (scaled - at).clamp_min(0)
        inner = torch.where(above > 0, above ** (power - 1), 0.0)
        excess = (inner * above).sum(3, keepdim=True) - 1
        risen = at + excess / (power * inner.sum(3, keepdim=True))
        # Written so that NaN stops too.
        if not bool((risen > at).any()):
            break
        at = torch.where(risen > at, risen, at)
    return at


def _by_halving(scaled: Tensor, power: Tensor, below: Tensor) -> Tensor:
    low, high = below, torch.zeros_like(below)
    for _ in range(_HALVINGS.get(scaled.dtype, 60)):
        middle = (low + high) / 2
        enough = ((scaled - middle).clamp_min(0) ** power).sum(3, keepdim=True) >= 1
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low
