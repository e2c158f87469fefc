"""Plans of published masks against every pair: equal, at the sizes of blocks that kernels ask for.

Beside them, what is sound but not always equal, how little is looked at, and steps of decoding.
"""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import regard as rg
from regard.backends.values import blocks, refine
from regard.backends.values.blocks import EMPTY, FULL, MIXED, classify_blocks
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.functions import Searched
from regard.backends.values.intervals import Range
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.print_text import text
from regard.ops.bind import arange
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.random_programs import Maker

CPU = torch.device("cpu")
# Neither is a multiple of a block's rows or keys.
N, M = 1500, 1483


def where_of(condition):
    program = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k), where=condition(p)))
    return program.root.weights.where


def bound_of(queries=N, keys=M, heads=1, offset=0, batch=1, **tensors):
    row = torch.zeros(1, 1, 1, 1)
    q, k = row.expand(batch, heads, queries, 1), row.expand(batch, heads, keys, 1)
    positions = arange(queries, CPU) if isinstance(offset, int) and not offset else (
        torch.as_tensor(offset).view(-1, 1) + torch.arange(queries)
    )  # fmt: skip
    return Bound({"q": q, "k": k, "v": k, **tensors}, positions, arange(keys, CPU))


def truth_of(condition, bound, rows, keys):
    """What each block really is, a range of query rows at a time."""
    found = []
    for i0 in range(0, bound.queries, rows):
        i1 = min(bound.queries, i0 + rows)
        at = Evaluator(bound, Tile(i0, i1, 0, bound.keys), {}, Cache())
        seen = torch.ones((), dtype=torch.bool) if condition is None else at.condition(condition)
        exists = at.exists()
        seen = seen if exists is None else seen & exists
        seen = seen.reshape(*seen.shape[:4]) if seen.dim() else seen
        seen = seen.expand(bound.batch, bound.heads, i1 - i0, bound.keys)
        some, every = (
            torch.nn.functional.pad(seen, (0, -bound.keys % keys), value=value)
            .unflatten(3, (-1, keys))
            for value in (False, True)
        )  # fmt: skip
        some, every = some.any(4).any(2), every.all(4).all(2)
        found.append(torch.where(every, FULL, torch.where(some, MIXED, EMPTY)))
    return torch.stack(found, 2)


def documents(size, length=113):
    return (torch.arange(size) // length).view(1, 1, -1)


def chosen_cells(cells=24):
    """Three key blocks for each query block."""
    table = torch.zeros(cells, cells, dtype=torch.bool)
    return table.scatter_(1, torch.randint(0, cells, (cells, 3)), True)


def same_document(p):
    return rg.query_feature("a") == rg.key_feature("b")


def near(p, reach, *sizes):
    """A neighbourhood in a grid of so many cells along each further dimension."""
    seen, i, j = None, p.i, p.j
    for size in (*reversed(sizes), None):
        x, y = (i, j) if size is None else (i % size, j % size)
        one = abs(x - y) <= reach
        seen = one if seen is None else seen & one
        i, j = (i, j) if size is None else (i // size, j // size)
    return seen


MASKS = {
    "causal": lambda p: p.j <= p.i,
    "window": lambda p: (p.j <= p.i) & (p.i - p.j < 256),
    "window of both sides": lambda p: abs(p.i - p.j) <= 100,
    "dilated": lambda p: (p.j <= p.i) & (p.i - p.j < 512) & ((p.i - p.j) % 4 == 0),
    "thinly dilated": lambda p: (p.j <= p.i) & ((p.i - p.j) % 64 == 0),
    "either side of a gap": lambda p: (p.i - p.j < 64) | (p.i - p.j >= 64),
    "strided": lambda p: (p.j <= p.i) & ((p.i - p.j < 128) | (p.j % 128 >= 120)),
    "window and sinks": lambda p: (p.j <= p.i) & ((p.i - p.j < 256) | (p.j < 4)),
    "chunks": lambda p: (p.i // 200 == p.j // 200) & (p.j <= p.i),
    "prefix": lambda p: (p.j <= p.i) | (p.j < 300),
    "packed": same_document,
    "packed, causal": lambda p: same_document(p) & (p.j <= p.i),
    "block diffusion": lambda p: p.j // 48 <= p.i // 48,
    "plane": lambda p: near(p, 6, 256),
    "narrow plane": lambda p: near(p, 3, 48),
    "space": lambda p: near(p, 3, 32, 32),
    "narrow space": lambda p: near(p, 2, 10, 20),
    "BigBird": lambda p: (
        (abs(p.i // 64 - p.j // 64) <= 1) | (p.i < 128) | (p.j < 128)
        | rg.table("cells", per=("rows", "rows"))[p.i // 64, p.j // 64]
    ),
    "by head": lambda p: (p.j <= p.i) & (p.i - p.j < 64 * (p.head + 1)),
    "some keys for all": lambda p: (abs(p.i - p.j) <= 64) | rg.key_feature("special"),
    "parity": lambda p: p.i % 4 == p.j % 4,
}  # fmt: skip


def data_of(queries=N, keys=M):
    chosen = (torch.arange(keys) % 397 == 5).view(1, 1, -1)
    return {"a": documents(queries), "b": documents(keys), "cells": chosen_cells(),
            "special": chosen}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(
    ("rows", "keys", "coarse"), [(96, 64, False), (128, 64, False), (32, 64, True)]
)
def test_plan_of_a_published_mask_is_exact(name, rows, keys, coarse, monkeypatch):
    if coarse:
        monkeypatch.setattr(blocks, "_FEW_BLOCKS", 0)
    blocks._same.clear()
    blocks._equal.clear()
    bound = bound_of(heads=2 if name == "by head" else 1, offset=13, **data_of())
    condition = where_of(MASKS[name])
    said = classify_blocks(condition, bound, rows, keys)
    assert torch.equal(said.long(), truth_of(condition, bound, rows, keys))


@pytest.mark.parametrize("name", ["causal", "window", "plane", "packed, causal", "BigBird"])
def test_plan_beside_lengths_is_exact(name):
    bound = bound_of(batch=2, offset=[0, 300], **data_of())
    bound.key_lengths, bound.query_lengths = torch.tensor([700, M]), torch.tensor([N, 901])
    condition = where_of(MASKS[name])
    said = classify_blocks(condition, bound, 96, 64)
    assert torch.equal(said.long(), truth_of(condition, bound, 96, 64))


def test_features_in_no_order_are_sound_and_cutting_up_leaves_little_excess(monkeypatch):
    groups = torch.randint(0, 9, (1, 1, 80)).repeat_interleave(20, -1)
    condition = where_of(MASKS["packed, causal"])
    bound = bound_of(a=groups[..., :N], b=groups[..., :M])
    really, excess = truth_of(condition, bound, 96, 64), []
    for most in (0, 1500, refine._MOST_PARTS):
        monkeypatch.setattr(refine, "_MOST_PARTS", most)
        blocks._equal.clear()
        said = classify_blocks(condition, bound, 96, 64)
        assert ((said == MIXED) | (said == really)).all()
        excess.append(int((said != really).sum()))
    # What is still open when enough has been looked at stays mixed.
    assert excess[0] >= excess[1] > excess[2] == 0


# ── Steps of decoding ────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["causal", "window", "window and sinks", "by head"])
@pytest.mark.parametrize("lengths", [False, True])
def test_steps_of_decoding_share_a_plan_and_hide_nothing(name, lengths):
    condition, plans = where_of(MASKS[name]), []
    for step in range(500, 640):
        bound = bound_of(1, 900 if lengths else step + 1, heads=2, offset=step)
        bound.key_lengths = torch.tensor([step + 1]) if lengths else None
        said = classify_blocks(condition, bound, 96, 64)
        really = truth_of(condition, bound, 96, 64)
        assert ((said == MIXED) | (said == really)).all()
        # A few blocks at the edges, of 8 … 15.
        assert ((said == MIXED) & (really != MIXED)).sum(-1).max() <= 3
        plans.append(said)
    assert len({id(plan) for plan in plans}) <= 6


def test_steps_of_decoding_may_be_at_different_places():
    condition = where_of(MASKS["window"])
    for step in (0, 63, 64, 700):
        bound = bound_of(1, 900, batch=2, offset=[step, 2 * step + 5])
        said, really = classify_blocks(condition, bound, 96, 64), truth_of(condition, bound, 96, 64)
        assert ((said == MIXED) | (said == really)).all()


# ── What a plan depends on ───────────────────────────────────────────────────────────────────
def test_plan_is_made_again_only_where_data_changed():
    condition, data = where_of(same_document), data_of()
    first = classify_blocks(condition, bound_of(**data), 96, 64)
    copied = {name: tensor.clone() for name, tensor in data.items()}
    assert classify_blocks(condition, bound_of(**copied), 96, 64) is first
    # Written to behind torch's back, as numpy may.
    copied["a"].numpy()[...] = 0
    bound = bound_of(**copied)
    again = classify_blocks(condition, bound, 96, 64)
    assert torch.equal(again.long(), truth_of(condition, bound, 96, 64))
    assert not torch.equal(again, first)


def test_inference_tensors_written_to_are_read_again():
    condition = where_of(MASKS["causal"])
    with torch.inference_mode():
        bound = bound_of()
        bound.query_positions = torch.arange(N).view(1, -1)
        classify_blocks(condition, bound, 96, 64)
        bound.query_positions += 700
        said = classify_blocks(condition, bound, 96, 64)
    assert torch.equal(said.long(), truth_of(condition, bound, 96, 64))


def test_positions_that_follow_one_another_in_two_rows_are_no_single_row():
    condition = where_of(MASKS["causal"])
    two = torch.arange(750).repeat(2, 1)
    bound = bound_of()
    bound.query_positions = two.view(1, -1)
    said = classify_blocks(condition, bound, 96, 64)
    really = truth_of(condition, bound, 96, 64)
    assert ((said == MIXED) | (said == really)).all()


# ── Random masks ─────────────────────────────────────────────────────────────────────────────
def random_case(data):
    """Check a random mask at several sizes of blocks; return how many blocks that were."""
    sizes = Sizes(B=1, H=2, G=1, N=data.draw(st.integers(1, 40)), M=data.draw(st.integers(1, 40)),
                  D=2, E=2)  # fmt: skip

    def drawn(pair):
        maker = Maker(data.draw, pair, sizes)
        seen = maker.condition("ij", 2)
        return rg.softmax(0.0 * pair.j, where=seen & maker.condition("ij", 3))

    root = rg.program(drawn).root
    tensors = make_inputs(root, sizes, torch.float32, data.draw(st.integers(0, 9)))
    features = {node.name for node in n.walk(root) if isinstance(node, n.Feature)}
    for name in features:
        tensors[name] = tensors[name].view(1, 1, -1) if tensors[name].dim() < 3 else tensors[name]
    bound = bound_of(sizes.N, sizes.M, offset=data.draw(st.integers(-9, 9)))
    bound = bound.with_tensors(tensors)
    checked = 0
    for rows, keys in itertools.product((1, 5, 16), (1, 4, 11)):
        said = classify_blocks(root.weights.where, bound, rows, keys)
        really = truth_of(root.weights.where, bound, rows, keys)
        wrong = (said != MIXED) & (said != really)
        told = f"{text(root.weights.where)}, N {sizes.N}, M {sizes.M}, {rows} x {keys}"
        assert not wrong.any(), f"{told}: wrong at {wrong.nonzero()[:5].tolist()}"
        checked += really.numel()
    return checked


@given(st.data())
def test_random_masks_are_sound(data):
    random_case(data)


@pytest.mark.slow
def test_a_hundred_thousand_random_blocks_are_sound():
    checked = 0

    @settings(max_examples=400, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def some(data):
        nonlocal checked
        checked += random_case(data)

    some()
    assert checked >= 100_000


def test_numbers_that_rise_and_fall_are_between_their_least_and_largest():
    numbers = torch.tensor([-1.0, -3.0, 2.0, 0.5, 7.0, -2.0], dtype=torch.float64).view(1, 1, -1)
    searched = Searched(Range(numbers, numbers, False))
    places = [(a, b) for a in range(6) for b in range(a, 6)]
    first, last = torch.tensor(places).T.reshape(2, 1, 1, -1)
    found = searched.within(first, last)
    assert searched.runs is not None, "many ranges are looked up by runs"
    parts = [numbers[0, 0, a : b + 1] for a, b in places]
    assert found.lo.flatten().tolist() == [part.min() for part in parts]
    assert found.hi.flatten().tolist() == [part.max() for part in parts]


def test_table_of_distances_that_rises_and_falls_is_sound():
    """Found by random masks: the least of a range was taken for the largest."""

    @rg.program
    def program(pair):
        near = rg.parameter("t", per=(3,))[pair.i - pair.j] * rg.query_feature("f") > 0
        return rg.softmax(0.0 * pair.j, where=near & (pair.j <= pair.i))

    given = {"t": torch.tensor([-1.0, -3.0, 2.0]), "f": torch.tensor([[[-1.0, 1.0, 2.0, -1.0]]])}
    bound = bound_of(4, 5, offset=1).with_tensors(given)
    where = program.root.weights.where
    said, really = classify_blocks(where, bound, 1, 4), truth_of(where, bound, 1, 4)
    assert ((said == MIXED) | (said == really)).all()
