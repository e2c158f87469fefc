"""Search for calls that tell heads, batch rows, positions or the order of rows apart; for scores
beyond a bound; for queries that see nothing.

Each search takes the program, the contract, and on how many calls to look: on all unless given.
Leaves to others: keys that matter and must not (`search_regions`).
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.contracts import Contract
from regard.ir.program import AttentionProgram
from regard.ops.check import named_inputs
from regard.ops.contracts.calls import Trial, alike_trials, empty_trials, loud_trials, make_call
from regard.ops.contracts.counterexample import Counterexample
from regard.ops.contracts.look import (
    Place,
    differing,
    differs,
    first_place,
    output_of,
    seen_in,
    show,
    weights_of,
)
from regard.passes.contracts.reads import has_sink, may_be_hidden

_SHIFTS = (1, 5, 64)
_ROWS = (n.Vector, n.Feature, n.PairInput)


def search_batch(
    program: AttentionProgram, _: Contract, most: int | None = None
) -> Counterexample | None:
    """Give two batch rows the same, and compare them."""
    return _search_copies(program, most, 0, "batch row 1 gets what batch row 0 has, and its output")


def search_head(
    program: AttentionProgram, _: Contract, most: int | None = None
) -> Counterexample | None:
    """Give two heads the same, and compare them."""
    return _search_copies(program, most, 1, "head 1 gets what head 0 has, and its output")


def _search_copies(
    program: AttentionProgram, most: int | None, axis: int, words: str
) -> Counterexample | None:
    trials = (replace(trial, batch=2) for trial in alike_trials(program.root))
    for bound in _calls(program, trials, most):
        names = _names(program.root)
        same = {name: _first_of(bound.tensors[name], axis) for name in names}
        call = bound.with_tensors(same)
        first, second = output_of(program.root, call).unbind(axis)[:2]
        place = first_place(differs(first, second).any(-1)[None])
        if place is not None:
            own = (place.head, place.row)
            at = Place(1, *own) if axis == 0 else Place(place.head, 1, place.row)
            numbers = differing(first[own], second[own])
            return show(program.root, call, at, words, *numbers)
    return None


def _calls(program: AttentionProgram, trials: Iterator[Trial], most: int | None) -> Iterator[Bound]:
    """Yield the calls of the first trials; none if no width of rows fits the program."""
    for trial in islice(trials, most):
        bound = make_call(program, trial)
        if bound is None:
            return
        yield bound


def _first_of(tensor: Tensor, axis: int) -> Tensor:
    return tensor.narrow(axis, 0, 1).expand_as(tensor).clone()


def _names(root: n.Output) -> list[str]:
    rows = [name for name, leaf in named_inputs(root).items() if isinstance(leaf, _ROWS)]
    return list(dict.fromkeys(["q", "k", "v", *rows]))


def search_shift(
    program: AttentionProgram, _: Contract, most: int | None = None
) -> Counterexample | None:
    """Raise all positions by the same number."""
    for bound in _calls(program, alike_trials(program.root), most):
        for by in _SHIFTS:
            moved = replace(
                bound,
                query_positions=bound.query_positions + by,
                key_positions=bound.key_positions + by,
            )
            found = _compare(program.root, bound, moved, f"all positions rise by {by}")
            if found is not None:
                return found
    return None


def search_order(
    program: AttentionProgram, _: Contract, most: int | None = None
) -> Counterexample | None:
    """Exchange two keys, or two queries, with all that belongs to them."""
    for bound in _calls(program, alike_trials(program.root), most):
        for side, first, second in _exchanges(bound):
            moved, order = _exchange(program.root, bound, side, first, second)
            words = f"{side} rows {first} and {second} change places"
            key = second if side == "key" else None
            found = _compare(program.root, bound, moved, words, key, order)
            if found is not None:
                return found
    return None


def _exchanges(bound: Bound) -> Iterator[tuple[str, int, int]]:
    for side, count in (("key", bound.keys), ("query", bound.queries)):
        for first in range(count - 1):
            yield side, first, first + 1
        yield side, 0, count - 1


def _exchange(
    root: n.Output, bound: Bound, side: str, first: int, second: int
) -> tuple[Bound, Tensor]:
    """Return the call with two rows exchanged, and the order of the query rows."""
    count = bound.keys if side == "key" else bound.queries
    order = torch.arange(count)
    order[[first, second]] = order[[second, first]]
    leaves = {"q": n.Vector("query", "q"), "k": n.Vector("key", "k"), "v": n.Vector("key", "v")}
    moved = {}
    for name, leaf in {**leaves, **named_inputs(root)}.items():
        if isinstance(leaf, n.PairInput):
            moved[name] = bound.tensors[name].index_select(3 if side == "key" else 2, order)
        elif isinstance(leaf, n.Vector | n.Feature) and leaf.side == side:
            moved[name] = bound.tensors[name].index_select(2, order)
    return bound.with_tensors(moved), order if side == "query" else torch.arange(bound.queries)


def _compare(
    root: n.Output,
    bound: Bound,
    moved: Bound,
    words: str,
    key: int | None = None,
    order: Tensor | None = None,
) -> Counterexample | None:
    """Return where the output of two calls differs, and the key whose weight differs most."""
    before, after = output_of(root, bound), output_of(root, moved)
    if order is not None:
        before = before.index_select(2, order)
    place = first_place(differs(before, after).any(-1))
    if place is None:
        return None
    own = (place.batch, place.head, place.row)
    if key is None and order is None:
        weights = (weights_of(root, moved)[own] - weights_of(root, bound)[own]).abs()
        key = int(weights.nan_to_num().argmax()) if len(weights) else None
    numbers = differing(before[own], after[own])
    return show(root, bound, replace(place, key=key), f"{words}, and the output", *numbers)


def search_bound(
    program: AttentionProgram, contract: Contract, most: int | None = None
) -> Counterexample | None:
    """Look for a score beyond the bound."""
    root, limit = program.root, contract.limit or 0.0
    for bound in _calls(program, loud_trials(root), most):
        for name, number, where in _numbers(root):
            values = weights_of(n.Output(n.Weigh(number, where, "a"), root.values, None), bound)
            beyond = (values.abs() > limit * (1 + 1e-9)) & (values != -torch.inf)
            place = first_place(beyond)
            if place is not None:
                own = (place.batch, place.head, place.row, place.key)
                words = f"the score of weights '{name}'"
                return show(root, bound, place, "", words, values[own].item())
    return None


def _numbers(root: n.Output) -> Iterator[tuple[str, n.Node, n.Node | None]]:
    """Yield what is bounded: by the term's name, the number and where it is seen."""
    for term in n.walk(root):
        match term:
            case n.Softmax() | n.Entmax():
                yield term.name, term.score, term.where
            case n.Ratio():
                yield term.name, term.num, term.where
                yield term.name, term.den, term.where
            case n.Weigh():
                yield term.name, term.weight, term.where


def search_empty(
    program: AttentionProgram, _: Contract, most: int | None = None
) -> Counterexample | None:
    """Look for a query that stands where a key stands, and sees none."""
    root = program.root
    sinks = [t.sink for t in n.walk(root) if isinstance(t, n.Softmax) and t.sink is not None]
    if has_sink(root.weights) or any(may_be_hidden(sink) is not n.Const(False) for sink in sinks):
        return None
    for bound in _calls(program, empty_trials(root), most):
        place = first_place(~seen_in(root, bound).any(-1))
        if place is not None:
            return show(root, bound, place, "", "the query sees", "no key, and no sink")
    return None
