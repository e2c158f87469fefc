"""Calls like earlier ones are found again, and what changed is seen."""

import functools
import gc
import math
import weakref

import pytest
import torch

import regard as rg
from regard.flex import remember
from tests.flex.oracle import assert_same, flex_eager, rows

FACTOR = 1.0
TABLE = torch.ones(4)


@pytest.fixture
def traced(monkeypatch):
    """The names of the functions that were traced, in order."""
    names, trace = [], remember.trace

    def counted(score_mod, mask_mod, *rest):
        names.append(getattr(score_mod or mask_mod, "__name__", "?"))
        return trace(score_mod, mask_mod, *rest)

    monkeypatch.setattr(remember, "trace", counted)
    monkeypatch.setattr(remember, "_kept", type(remember._kept)())
    return names


def check(score_mod, q, k, v):
    found = rg.flex_attention(q, k, v, score_mod)
    assert_same([found], [flex_eager(q, k, v, score_mod)[0]])


def test_the_same_function_is_traced_once(traced):
    bias = torch.randn(4)
    mod = lambda score, b, h, i, j: score * bias[h]  # noqa: E731
    for _ in range(3):
        check(mod, *rows())
    assert len(traced) == 1


def test_a_function_made_again_with_other_tensors_is_not_traced_again(traced):
    def make(bias):
        return lambda score, b, h, i, j: score * bias[h].exp()

    for _ in range(3):
        check(make(torch.randn(4)), *rows())
    assert len(traced) == 1


def test_a_changed_tensor_is_read_and_a_changed_number_is_traced(traced):
    bias, size = torch.randn(4), 3

    def mod(score, b, h, q_idx, kv_idx):
        return torch.where(q_idx - kv_idx < size, score * bias[h], -float("inf"))

    q, k, v = rows()
    check(mod, q, k, v)
    bias.mul_(2)
    check(mod, q, k, v)
    bias = torch.randn(4)
    check(mod, q, k, v)
    assert len(traced) == 1
    size = 5
    check(mod, q, k, v)
    assert len(traced) == 2
    bias = torch.randn(4, dtype=torch.float64)
    check(mod, q, k, v)
    assert len(traced) == 3


def uses_globals(score, b, h, q_idx, kv_idx):
    return score * FACTOR + TABLE[h]


def test_changed_globals_are_seen(traced, monkeypatch):
    q, k, v = rows()
    check(uses_globals, q, k, v)
    monkeypatch.setitem(globals(), "TABLE", torch.randn(4))
    check(uses_globals, q, k, v)
    assert len(traced) == 1
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    check(uses_globals, q, k, v)
    assert len(traced) == 2


def test_changed_defaults_partials_and_inner_functions_are_seen(traced):
    def with_default(score, b, h, q_idx, kv_idx, size=2):
        return score + size * q_idx

    def by(factor):
        return lambda x: x * factor

    def outer(inner):
        return lambda score, b, h, i, j: inner(score) + [i, j][0]

    q, k, v = rows()
    for size in (2, 3, 2):
        with_default.__defaults__ = (size,)
        check(with_default, q, k, v)
        check(functools.partial(with_default, size=size + 5), q, k, v)
        check(outer(by(size)), q, k, v)
    assert len(traced) == 6


def test_changed_lists_and_dictionaries_are_seen(traced):
    held = {"tables": [torch.randn(4), torch.randn(4)], "names": {"a"}, "cut": slice(0, 3)}

    def mod(score, b, h, q_idx, kv_idx):
        return score + sum(table[h] for table in held["tables"])

    q, k, v = rows()
    check(mod, q, k, v)
    held["tables"][0] = torch.randn(4)
    check(mod, q, k, v)
    assert len(traced) == 1
    held["tables"].append(torch.randn(4))
    check(mod, q, k, v)
    assert len(traced) == 2


class Settings:
    size = 2


def settled(score, b, h, q_idx, kv_idx):
    return score * Settings.size


def test_changed_classes_sets_and_functions_that_call_themselves_are_seen(traced, monkeypatch):
    held = {1, 2}

    def times(x, count):
        return x if count == 0 else times(x, count - 1) * len(held)

    mod = lambda score, b, h, i, j: times(score, 2)  # noqa: E731
    q, k, v = rows()
    check(settled, q, k, v)
    monkeypatch.setattr(Settings, "size", 3)
    check(settled, q, k, v)
    assert len(traced) == 2
    for _ in range(2):
        check(mod, q, k, v)
    assert len(traced) == 3
    held.add(3)
    check(mod, q, k, v)
    assert len(traced) == 4


def test_functions_of_torch_and_its_operators_are_known(traced):
    def make(activation):
        return lambda score, b, h, i, j: activation(score)

    q, k, v = rows()
    for _ in range(2):
        for activation in (torch.tanh, torch.nn.functional.gelu, torch.ops.aten.sigmoid, abs):
            check(make(activation), q, k, v)
    assert len(traced) == 4


def test_one_tensor_held_twice_is_not_two(traced):
    def make(first, second):
        return lambda score, b, h, i, j: score * first[h] + second[h]

    one, two = torch.randn(4), torch.randn(4)
    q, k, v = rows()
    for pair in ((one, one), (one, two), (two, one), (two, two)):
        check(make(*pair), q, k, v)
    assert len(traced) == 2


def test_a_number_held_as_a_tensor_may_change_at_every_call(traced):
    offset = torch.tensor(0)
    mask = lambda b, h, q_idx, kv_idx: q_idx + offset >= kv_idx  # noqa: E731
    q, k, v = rows(N=1, M=18)
    found = set()
    for step in (3, 9, 17):
        offset.fill_(step)
        program, inputs = rg.from_flex(None, mask, q=q, k=k)
        found.add(program)
        output = rg.attend(program, q, k, v, **inputs)
        assert_same([output], [flex_eager(q, k, v, None, mask)[0]])
    assert len(found) == len(traced) == 1


def test_what_cannot_be_looked_into_is_traced_at_every_call(traced):
    class Holder:
        size = 3

    holder = Holder()

    def mod(score, b, h, q_idx, kv_idx):
        return score * holder.size

    q, k, v = rows()
    for size in (3, 4):
        holder.size = size
        check(mod, q, k, v)
    assert len(traced) == 2


def test_a_program_that_depends_on_numbers_of_a_tensor_is_traced_at_every_call(traced):
    size = torch.tensor(3)

    def mod(score, b, h, q_idx, kv_idx):
        return torch.where(q_idx - kv_idx < size.item(), score, 0.0)

    def chosen(score, b, h, q_idx, kv_idx):
        return score * 2 if size > 3 else score

    q, k, v = rows()
    for number in (3, 5):
        size.fill_(number)
        check(mod, q, k, v)
        found = rg.flex_attention(q, k, v, chosen)
        assert_same([found], [flex_eager(q, k, v, scale=(2 if number > 3 else 1) / 8**0.5)[0]])
    assert len(traced) == 4


NUMBERS = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 0.0])
COUNTS = torch.tensor([1, 2, 3])


class Marked(float):
    """A number that holds another one."""


MARKED = Marked(2.0)


def helper(x):
    return x * helper.factor


def reads_an_attribute(score, b, h, q_idx, kv_idx):
    return helper(score)


def reads_a_tensors_attribute(score, b, h, q_idx, kv_idx):
    return score * NUMBERS.factor


def reads_a_numbers_attribute(score, b, h, q_idx, kv_idx):
    return score * MARKED.factor


def imports(score, b, h, q_idx, kv_idx):
    from tests.flex.test_remember import helper as held

    return score * held.factor


def looks_up_by_name(score, b, h, q_idx, kv_idx):
    return score * globals()["helper"].factor


@pytest.mark.parametrize(
    ("mod", "held"),
    [
        (reads_an_attribute, helper),
        (reads_a_tensors_attribute, NUMBERS),
        (reads_a_numbers_attribute, MARKED),
        (imports, helper),
        (looks_up_by_name, helper),
    ],
)
def test_what_is_read_past_closure_and_globals_is_seen(mod, held):
    q, k, v = rows()
    for factor in (1.0, 3.0, 1.0):
        held.factor = factor
        check(mod, q, k, v)


SHAPED = {
    "nonzero": lambda: torch.nonzero(NUMBERS).shape[0],
    "conditions": lambda: NUMBERS[NUMBERS > 0].numel(),
    "masked_select": lambda: NUMBERS.masked_select(NUMBERS > 0).numel(),
    "unique": lambda: torch.unique(NUMBERS).numel(),
    "repeated": lambda: torch.repeat_interleave(COUNTS, COUNTS).numel(),
    "bincount": lambda: torch.bincount(COUNTS).numel(),
    "arange": lambda: torch.arange(COUNTS[0]).numel(),
    "slice": lambda: NUMBERS[: COUNTS[1]].numel(),
    "text": lambda: float(f"{NUMBERS[0]:.3f}"),
    "trained": lambda: 2 if NUMBERS.requires_grad else 3,
    "setting": lambda: 2 if torch.is_grad_enabled() else 3,
}


@pytest.mark.parametrize("ask", list(SHAPED.values()), ids=list(SHAPED))
def test_what_a_tensor_tells_beside_its_shape_is_seen(ask):
    mod = lambda score, b, h, i, j: score * ask()  # noqa: E731
    q, k, v = rows()
    before = NUMBERS.clone(), COUNTS.clone()
    try:
        check(mod, q, k, v)
        NUMBERS.copy_(torch.tensor([5.0, 3.0, 4.0, 1.0, 0.0, 2.0]))
        COUNTS.add_(1)
        NUMBERS.requires_grad_()
        with torch.no_grad():
            check(mod, q, k, v)
    finally:
        NUMBERS.requires_grad_(False).copy_(before[0])
        COUNTS.copy_(before[1])


def test_functions_that_ask_for_shapes_are_traced_once(traced):
    def mod(score, b, h, q_idx, kv_idx):
        found = TABLE.to(score.dtype).cumsum(0) / TABLE.shape[0] + TABLE.size(0) + len(TABLE)
        return score + found.reshape(2, -1).flatten()[h] * TABLE.dim()

    for _ in range(3):
        check(mod, *rows())
    assert len(traced) == 1


def test_zeros_of_both_signs_are_two_numbers(traced):
    for zero in (0.0, -0.0):
        mod = lambda score, b, h, i, j, zero=zero: score * math.copysign(1.0, zero)  # noqa: E731
        check(mod, *rows())
    assert len(traced) == 2


def test_other_lengths_cut_other_parts_of_what_is_held(traced):
    table = torch.randn(40)
    mod = lambda score, b, h, i, j: score + table[j]  # noqa: E731
    for length in (8, 18, 8):
        check(mod, *rows(N=length))
    assert len(traced) == 2


def test_nothing_that_is_kept_holds_a_tensor():
    def call():
        table = torch.randn(4)
        rg.flex_attention(
            *rows(), lambda score, b, h, i, j: score + table[h].exp() + torch.exp(table)[h]
        )
        return weakref.ref(table)

    watched = call()
    assert len(remember._kept) > 0
    gc.collect()
    assert watched() is None


def test_only_so_many_traces_are_kept(monkeypatch):
    monkeypatch.setattr(remember, "_MOST_KEPT", 3)
    monkeypatch.setattr(remember, "_kept", type(remember._kept)())
    for number in range(5):
        rg.from_flex(lambda score, b, h, i, j, number=number: score * number)
    assert len(remember._kept) == 3
