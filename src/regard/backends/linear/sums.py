"""Sums over keys of f(i) · g(j) · exp(a(i) + b(j)) · v(j), by states, in time linear in the rows.

Under j <= i rows are cut into chunks: inside one every pair is computed, and everything before it
is a state, the sum of g(j) ⊗ v(j). Exponents are taken relative to the row's largest b, so that no
exponential exceeds 1 and a decaying sum never overflows. Leaves to others: the rows (`rows`), and
sums without exponents where kernels can be built (`cpu/states`).

Source: Katharopoulos et al. 2020, arXiv 2006.16236, equations 9 to 12; the chunks: Sun et al. 2023,
arXiv 2307.08621, equation 7.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.backends.cpu.states import has_states, spread_states, sum_states

# Rows of a chunk: states cost D · E per chunk and pairs D + E each; equal at this for 64 channels.
CHUNK = 64


@dataclass(frozen=True)
class State:
    """What the keys before a row come to.

    Attributes:
        sums: Σ g(j) ⊗ v(j) · exp(b(j) - largest), (B, H, D, E).
        totals: Σ g(j) · exp(b(j) - largest), (B, H, 1, D); None unless asked for.
        largest: The largest b so far, float64 (B, H); None without exponents, -inf without keys.
    """

    sums: Tensor
    totals: Tensor | None
    largest: Tensor | None


@dataclass(frozen=True)
class Keys:
    """The key rows of one sum, hidden ones 0 in g and v and -inf in b.

    Attributes:
        g: (B, H, M, D).
        v: What is summed, (B, H, M, E).
        b: Exponents, float64 (B, H, M), or None for 0.
        totals: Whether 1 is summed beside v.
    """

    g: Tensor
    v: Tensor
    b: Tensor | None = None
    totals: bool = False


@dataclass(frozen=True)
class Sums:
    """values · exp(exponent).

    Attributes:
        values: (B, H, N, E).
        totals: The sums of 1 instead of v, (B, H, N); None unless asked for.
        exponent: float64 (B, H, N), or None for 0.
    """

    values: Tensor
    totals: Tensor | None
    exponent: Tensor | None


def empty_state(keys: Keys) -> State:
    """Return the state that has seen nothing.

    Args:
        keys: Key rows to come.

    Returns:
        The state.
    """
    g, v, b = keys.g, keys.v, keys.b
    sums = g.new_zeros((*g.shape[:2], g.shape[-1], v.shape[-1]))
    totals = sums.new_zeros((*g.shape[:2], 1, g.shape[-1])) if keys.totals else None
    return State(sums, totals, None if b is None else b.new_full(tuple(b.shape[:2]), -math.inf))


def add_keys(before: State, keys: Keys) -> State:
    """Add keys to a state.

    Args:
        before: The state.
        keys: The keys.

    Returns:
        The state that has seen them too.
    """
    g, kept, largest = keys.g, None, None
    if keys.b is not None and before.largest is not None:
        if not keys.b.shape[-1]:
            return before
        largest = torch.maximum(before.largest, keys.b.detach().amax(-1))
        top = _finite(largest)
        g = g * _exp(keys.b - top[..., None], g)[..., None]
        kept = _exp(before.largest - top, g)[..., None, None]
    sums, totals = before.sums, before.totals
    if kept is not None:
        sums, totals = sums * kept, None if totals is None else totals * kept
    if totals is not None:
        totals = totals + g.sum(2, keepdim=True)
    return State(sums + g.mT @ keys.v, totals, largest)


def read_state(f: Tensor, a: Tensor | None, state: State) -> Sums:
    """Sum over all keys of a state.

    Args:
        f: Query rows, (B, H, N, D).
        a: Their exponents, float64 (B, H, N), or None for 0.
        state: The state.

    Returns:
        The sums.
    """
    exponent = a
    if state.largest is not None:
        top = _finite(state.largest)[..., None]
        exponent = top.expand(f.shape[:3]) if a is None else a + top
    totals = None if state.totals is None else (f * state.totals).sum(-1)
    return Sums(f @ state.sums, totals, exponent)


@dataclass(frozen=True)
class Known:
    """What a causal sum has come to in an earlier run, so that its gradient alone is computed.

    Attributes:
        values: (B, H, N, E).
        totals: (B, H, N), or None.
        after: The state after its keys.
    """

    values: Tensor
    totals: Tensor | None
    after: State


def is_compiled(rows: Tensor, state: State) -> bool:
    """Tell whether causal sums are taken in C++.

    Args:
        rows: Query rows, (B, H, N, D).
        state: The state before them.

    Returns:
        Whether they are: without decays, for whole chunks, where there is a compiler.
    """
    return state.largest is None and rows.shape[2] >= CHUNK and has_states(rows)


def sum_causal(
    f: Tensor,
    a: Tensor | None,
    keys: Keys,
    before: State,
    chunk: int = CHUNK,
    known: Known | None = None,
) -> tuple[Sums, State]:
    """Sum over the keys up to each row, and those of a state.

    Args:
        f: Query rows, (B, H, N, D).
        a: Their exponents, float64 (B, H, N), or None for 0.
        keys: As many key rows.
        before: What earlier keys come to.
        chunk: Rows of a chunk.
        known: What the sum comes to, if it is known and compiled.

    Returns:
        The sums, and the state that has seen all keys.
    """
    count = f.shape[2]
    if keys.b is None and is_compiled(f, before):
        found = _StateSums.apply(f, keys.g, keys.v, before.sums, before.totals, known)
        values, totals, sums, after = found
        return Sums(values, totals, a), State(sums, after, None)
    size = max(1, min(chunk, count))
    rows, g, v = (_cut(part, size) for part in (f, keys.g, keys.v))
    if keys.b is None:
        return _sum_plain(rows, a, Keys(g, v), before, count)
    return _sum_decaying(rows, a, Keys(g, v, keys.b), before, count)


class _StateSums(torch.autograd.Function):
    """`sum_states` with its gradient; totals of None stay None, what is known is not computed."""

    @staticmethod
    def forward(
        ctx: Any,
        f: Tensor,
        g: Tensor,
        v: Tensor,
        sums: Tensor,
        totals: Tensor | None,
        known: Known | None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        ctx.save_for_backward(f, g, v, sums, totals)
        if known is None:
            return sum_states(f, g, v, sums, totals)
        found = known.values, known.totals, known.after.sums, known.after.totals
        values, row_totals, after, last = (None if x is None else x.detach() for x in found)
        assert values is not None and after is not None
        return values, row_totals, after, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (*spread_states(ctx.saved_tensors, grads), None)


def _sum_plain(
    f: Tensor, a: Tensor | None, keys: Keys, before: State, count: int
) -> tuple[Sums, State]:
    scores = (f @ keys.g.mT).tril()
    # One state more than chunks: the last is what all keys come to.
    states = torch.cat([before.sums.unsqueeze(2), keys.g.mT @ keys.v], 2).cumsum(2)
    values = scores @ keys.v + f @ states[:, :, :-1]
    totals = after = None
    if before.totals is not None:
        past = [before.totals.unsqueeze(2), keys.g.sum(3, keepdim=True)]
        past = torch.cat(past, 2).cumsum(2)
        totals = _rows(scores.sum(-1) + (f * past[:, :, :-1]).sum(-1), count)
        after = past[:, :, -1]
    return Sums(_rows(values, count), totals, a), State(states[:, :, -1], after, None)


def _sum_decaying(
    f: Tensor, a: Tensor | None, keys: Keys, before: State, count: int
) -> tuple[Sums, State]:
    assert keys.b is not None and before.largest is not None
    g, v, size = keys.g, keys.v, f.shape[3]
    b = torch.nn.functional.pad(keys.b, (0, -count % size), value=-math.inf)
    b = b.unflatten(2, (-1, size))
    start = before.largest[..., None]
    highest = torch.cat([start, b.detach().flatten(2)], 2).cummax(2).values[..., 1:]
    own = highest.unflatten(2, (-1, size))
    ends = torch.cat([start, own[..., -1]], 2)
    seen = torch.ones(size, size, dtype=torch.bool, device=b.device).tril()
    decay = (b[..., None, :] - _finite(own)[..., None]).masked_fill(~seen, -math.inf)
    scores = (f @ g.mT) * _exp(decay, f)
    g = g * _exp(b - _finite(ends[..., 1:, None]), g)[..., None]
    fades = _exp(ends[..., :-1] - _finite(ends[..., 1:]), g)[..., None, None]
    past = f * _exp(ends[..., :-1, None] - _finite(own), f)[..., None]
    states, after = _scan(before.sums, g.mT @ v, fades)
    values = _rows(scores @ v + past @ states, count)
    totals = last = None
    if before.totals is not None:
        earlier, last = _scan(before.totals, g.sum(3, keepdim=True), fades)
        totals = _rows(scores.sum(-1) + (past * earlier).sum(-1), count)
    row = _finite(highest)[..., :count]
    exponent = row if a is None else a + row
    return Sums(values, totals, exponent), State(after, last, ends[..., -1])


def _scan(state: Tensor, parts: Tensor, fades: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states before each chunk, and the one after the last."""
    states = []
    for part, fade in zip(parts.unbind(2), fades.unbind(2), strict=True):
        states.append(state)
        state = state * fade + part
    return torch.stack(states, 2), state


def _rows(chunks: Tensor, count: int) -> Tensor:
    """Return chunks of rows as rows, without those that were added at the end."""
    return chunks.flatten(2, 3)[:, :, :count]


def _cut(rows: Tensor, size: int) -> Tensor:
    """Return (B, H, chunks, size, C), rows of 0 added at the end."""
    rest = -rows.shape[2] % size
    whole = torch.nn.functional.pad(rows, (0, 0, 0, rest)) if rest else rows
    return whole.unflatten(2, (-1, size))


def _finite(exponent: Tensor) -> Tensor:
    """Return 0 where there was no key to take the largest exponent of."""
    return exponent.masked_fill(exponent == -math.inf, 0.0)


def _exp(exponent: Tensor, like: Tensor) -> Tensor:
    """Return the exponential in the dtype of what it is multiplied with."""
    return exponent.to(like.dtype).exp()
