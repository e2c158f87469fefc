"""Blocks that intervals leave undecided, cut up until their parts decide.

A block is mixed for sure once one visible and one hidden part of it are known, so a few pairs are
looked at first, and what they leave open is cut in four again and again, where a quotient or
remainder begins anew if it does so inside. Leaves to others: intervals (`leaves`), the whole plan
(`blocks`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.backends.values.condition import Along
from regard.backends.values.leaves import Blocks, Leaves, Rows

EMPTY, FULL, MIXED = 0, 1, 2

# Parts looked at in one call. What is open after them stays mixed, which is never wrong.
_MOST_PARTS = 1 << 19
# Elements of a tensor that is computed with: a share of one core's cache.
_SLAB = 1 << 16


def codes_of(leaves: Leaves, blocks: Blocks) -> Tensor:
    """Return what intervals say of blocks.

    Args:
        leaves: The call.
        blocks: A grid or a list.

    Returns:
        int8 (B or 1, H or 1, x, y) of EMPTY, FULL and MIXED.
    """
    x, y = blocks.size
    step, parts = max(1, _SLAB // y), []
    for start in range(0, x, step):
        found = leaves.known(blocks if step >= x else blocks.slab(start, start + step))
        codes = 2 * found.may.to(torch.int8) - found.must.to(torch.int8)
        parts.append(codes.expand(*codes.shape[:2], min(step, x - start), y))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


@dataclass
class _Open:
    """What is known of blocks, each a place along dimension 2.

    Attributes:
        seen: Whether a visible pair is known, or nothing more can be known, (B or 1, H or 1, K).
        hidden: The same of a hidden pair.
        parts: How many parts have been looked at.
    """

    seen: Tensor
    hidden: Tensor
    parts: int = 0

    def note(self, block: Tensor, seen: Tensor, hidden: Tensor) -> None:
        """Note what parts show of their blocks, (B or 1, H or 1, parts)."""
        self.parts += block.numel()
        for known, shown in ((self.seen, seen), (self.hidden, hidden)):
            times = torch.zeros(known.shape, dtype=torch.int32, device=known.device)
            known |= times.index_add_(2, block, shown.expand(*known.shape[:2], -1).int()) > 0


def refine(leaves: Leaves, codes: Tensor, grid: Blocks) -> None:
    """Decide mixed blocks by their parts.

    Args:
        leaves: The call.
        codes: What intervals say of the grid, (B or 1, H or 1, x, y); corrected in place.
        grid: The blocks.
    """
    mixed = codes == MIXED
    x, y = mixed.flatten(0, 1).any(0).nonzero(as_tuple=True)
    if 4 * x.numel() > _MOST_PARTS or not x.numel():
        return
    settled = ~mixed[:, :, x, y]
    known = _Open(settled.clone(), settled.clone())
    which, parts = torch.arange(x.numel(), device=x.device), grid._replace(at=(x, y))
    for corner in range(4):
        if not which.numel():
            break
        _look_at_pairs(leaves, known, which, _corner(parts, corner))
        which, parts = _still_open(known, which, parts)
    _cut_up(leaves, known, which, parts)
    found = torch.where(known.seen, torch.where(known.hidden, MIXED, FULL), EMPTY)
    codes[:, :, x, y] = torch.where(settled, codes[:, :, x, y], found.to(torch.int8))


def _cut_up(leaves: Leaves, known: _Open, which: Tensor, parts: Blocks) -> None:
    """Cut what is open until it is decided, or too many parts were looked at."""
    while which.numel():
        which, parts = _halved(leaves, which, parts)
        if known.parts + which.numel() > _MOST_PARTS:
            known.seen[:, :, which] = known.hidden[:, :, which] = True
            return
        codes = codes_of(leaves, parts).squeeze(3)
        known.note(which, codes == FULL, codes == EMPTY)
        which, parts = _still_open(known, which, parts, codes == MIXED)
        if which.numel():
            _look_at_pairs(leaves, known, which, _middle_pair(parts))
            which, parts = _still_open(known, which, parts, _several(parts))


def _look_at_pairs(leaves: Leaves, known: _Open, which: Tensor, pairs: Blocks) -> None:
    """Note what a pair of each part shows of its block."""
    codes = codes_of(leaves, pairs).squeeze(3)
    # A pair that is not decided alone leaves its block mixed whatever else is found.
    known.note(which, codes != EMPTY, codes != FULL)


def _still_open(
    known: _Open, which: Tensor, parts: Blocks, mixed: Tensor | None = None
) -> tuple[Tensor, Blocks]:
    """Return those parts that are mixed and may decide their block."""
    unsettled = ~(known.seen & known.hidden)[:, :, which]
    kept = (unsettled if mixed is None else unsettled & mixed).flatten(0, 1).any(0)
    assert parts.at is not None
    return which[kept], parts._replace(at=(parts.at[0][kept], parts.at[1][kept]))


# ── Cutting ──────────────────────────────────────────────────────────────────────────────────
def _corner(parts: Blocks, corner: int) -> Blocks:
    """Return the pair at one of the four corners of each part."""
    i, j = parts.queries[corner // 2], parts.keys[corner % 2]
    return Blocks(Rows(i, i), Rows(j, j), parts.at)


def _middle_pair(parts: Blocks) -> Blocks:
    i, j = ((rows.first + rows.last) // 2 for rows in parts[:2])
    return Blocks(Rows(i, i), Rows(j, j), parts.at)


def _several(parts: Blocks) -> Tensor:
    """Return whether each part has more than one pair, (1, 1, W)."""
    assert parts.at is not None
    i, j = ((rows.last > rows.first)[at] for rows, at in zip(parts[:2], parts.at, strict=True))
    return (i | j).view(1, 1, -1)


def _halved(leaves: Leaves, which: Tensor, parts: Blocks) -> tuple[Tensor, Blocks]:
    """Return the parts of parts: two along each side that has more than one row."""
    assert parts.at is not None
    i, j = parts.at
    queries, i = _used(parts.queries, i)
    keys, j = _used(parts.keys, j)
    for along in range(2):
        several = (queries, keys)[along]
        at = (i, j)[along]
        more = (several.last > several.first)[at].nonzero().squeeze(1)
        which, i, j = (torch.cat([x, x[more]]) for x in (which, i, j))
        # The first half of range r is range 2r, the second 2r + 1.
        second = torch.arange(which.numel(), device=which.device) >= at.numel()
        if along == 0:
            i = 2 * i + second
        else:
            j = 2 * j + second
    return which, Blocks(_halves(leaves, "query", queries), _halves(leaves, "key", keys), (i, j))


def _used(rows: Rows, at: Tensor) -> tuple[Rows, Tensor]:
    """Return the ranges that are in use, and where each is among them."""
    used = torch.zeros_like(rows.first, dtype=torch.bool)
    used[at] = True
    return Rows(rows.first[used], rows.last[used]), (used.cumsum(0) - 1)[at]


def _halves(leaves: Leaves, side: Along, rows: Rows) -> Rows:
    """Return both halves of each range, cut where a period begins if one does inside."""
    first, last = rows
    middle = (first + last) // 2 + 1
    start, periods = leaves.periods(side)
    for period in periods:
        anew = (middle + start + period // 2) // period * period - start
        middle = torch.where((anew > first) & (anew <= last), anew, middle)
    # A single row is its first half; nobody asks for the second.
    firsts, lasts = torch.stack([first, middle], 1), torch.stack([middle - 1, last], 1)
    return Rows(firsts.flatten().minimum(last.repeat_interleave(2)), lasts.flatten())
