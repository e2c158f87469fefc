"""Blocks of pairs against every pair of them: never wrong, and exact where that is promised."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import regard as rg
from regard.backends.values import blocks, leaves
from regard.backends.values.blocks import EMPTY, FULL, MIXED, classify_blocks
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.operators import OPERATORS
from regard.ops.bind import arange
from regard.ops.check import named_inputs
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS
from regard.testing.random_programs import Maker

CPU = torch.device("cpu")
SIZES = Sizes(B=2, H=4, G=2, N=37, M=29, D=4, E=3)


def program_of(condition):
    return rg.program(lambda pair: rg.softmax(rg.dot(pair.q, pair.k), where=condition(pair)))


def where_of(condition):
    return program_of(condition).root.weights.where


def bound_of(root=None, sizes=SIZES, *, offset=0, seed=0, **changes):
    """Bind a program's inputs; positions are the cached ones if nothing moves them."""
    root = program_of(lambda pair: pair.i == pair.i).root if root is None else root
    tensors = make_inputs(root, sizes, torch.float32, seed)
    for name, leaf in named_inputs(root).items():
        if isinstance(leaf, n.Feature) and tensors[name].dim() < 3:
            tensors[name] = tensors[name].view(1, 1, -1)
    queries = arange(sizes.N, CPU)
    queries = queries if isinstance(offset, int) and offset == 0 else queries + offset
    return replace(Bound(tensors, queries, arange(sizes.M, CPU)), **changes)


def pairs_of(condition, bound):
    """Whether each pair is admitted, (b, h, N, M), lengths included."""
    at = Evaluator(bound, Tile(0, bound.queries, 0, bound.keys), {}, Cache())
    seen = torch.ones((1, 1, 1, 1, 1), dtype=torch.bool)
    seen = seen if condition is None else at.condition(condition)
    exists = at.exists()
    seen = seen if exists is None else seen & exists
    return seen.squeeze(-1).expand(bound.batch, bound.heads, bound.queries, bound.keys)


def truth_of(pairs, rows, keys):
    """What each block really is, counting its pairs."""
    seen, there = (_count(each, rows, keys) for each in (pairs, torch.ones_like(pairs)))
    return torch.where(seen == there, FULL, torch.where(seen > 0, MIXED, EMPTY))


def _count(pairs, rows, keys):
    beyond = (0, -pairs.shape[3] % keys, 0, -pairs.shape[2] % rows)
    padded = torch.nn.functional.pad(pairs.int(), beyond)
    return padded.unflatten(3, (-1, keys)).unflatten(2, (-1, rows)).sum((3, 5))


def assert_sound(condition, bound, rows, keys):
    said = classify_blocks(condition, bound, rows, keys)
    really = truth_of(pairs_of(condition, bound), rows, keys)
    assert said.dtype == torch.int8 and said.is_contiguous()
    assert said.shape[2:] == really.shape[2:]
    assert said.shape[0] in (1, bound.batch) and said.shape[1] in (1, bound.heads)
    assert_never_wrong(said, really)
    return said, really


def assert_never_wrong(said, really):
    wrong = (said != MIXED) & (said != really)
    assert not wrong.any(), f"wrong at {wrong.nonzero()[:5].tolist()}"


def assert_exact(condition, bound, rows, keys):
    said, really = assert_sound(condition, bound, rows, keys)
    assert torch.equal(said.expand_as(really).long(), really)
    return said


WINDOWS = {
    "causal": lambda p: p.j <= p.i,
    "strictly causal": lambda p: p.i > p.j,
    "difference": lambda p: p.i - p.j >= 0,
    "window": lambda p: (p.j <= p.i) & (p.i - p.j < 6),
    "window, moved": lambda p: (p.i < p.j + 6) & ~(p.j > p.i),
    "both sides": lambda p: abs(p.j - p.i) <= 5,
    "far": lambda p: ~(abs(p.i - p.j) < 9),
    "prefix": lambda p: (p.j <= p.i) | (p.j < 11),
    "sinks and window": lambda p: ((p.j < 2) | (p.i - p.j < 4)) & (p.j <= p.i),
    "chunks": lambda p: p.i // 8 == p.j // 8,
    "repeated": lambda p: (p.i - p.j) + p.j <= 2 * p.j - p.i + 3,
    "cancelled": lambda p: (p.i - p.j) - (p.i - 2 * p.j) > 4,
    "chosen": lambda p: rg.where(p.j <= p.i, p.i - p.j, 100) < 7,
    "clipped": lambda p: rg.clip(p.i - p.j, -3, 3) < 3,
    "sign": lambda p: rg.sign(p.i - p.j) + 1 > 0,
    "relu": lambda p: rg.relu(p.i - p.j) < 5,
    "halved": lambda p: (p.i - p.j) / 2 < 3.25,
    "by head": lambda p: (p.j <= p.i) & (p.i - p.j < 3 * (p.head + 1)),
    "whole": lambda p: p.keys > 0,
    "negated": lambda p: -(p.i - p.j) + p.i < 9,
    "either way": lambda p: rg.where(p.j % 2 == 0, p.j <= p.i, p.i >= p.j),
    "cube": lambda p: (p.i - p.j) ** 3 < 30,
    "square": lambda p: (p.i - p.j) ** 2 < 30,
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(
    "bound",
    [
        pytest.param({}, id="plain"),
        pytest.param({"offset": 9}, id="offset"),
        pytest.param({"offset": torch.tensor([[0], [-13]])}, id="offsets"),
        pytest.param({"key_positions": torch.arange(-7, 22)[None]}, id="left padding"),
        pytest.param({"first_head": 3, "total_heads": 9}, id="a group of heads"),
    ],
)
@pytest.mark.parametrize(("rows", "keys"), [(8, 5), (1, 1), (64, 64)])
def test_masks_of_positions_are_exact(name, bound, rows, keys):
    assert_exact(where_of(WINDOWS[name]), bound_of(**bound), rows, keys)


@pytest.mark.parametrize("name", WINDOWS)
def test_blocks_of_small_calls_are_sound_though_nobody_looks_into_them(name, monkeypatch):
    monkeypatch.setattr(blocks, "LEAST_PAIRS", 1 << 60)
    for memory in (blocks._same, blocks._equal):
        memory.clear()
    bound = bound_of()
    bound.query_lengths, bound.key_lengths = torch.tensor([20, 37]), torch.tensor([29, 7])
    said, really = assert_sound(where_of(WINDOWS[name]), bound, 8, 5)
    absent = truth_of(pairs_of(None, bound), 8, 5) == EMPTY
    assert (said.expand_as(really)[absent] == EMPTY).all()
    for memory in (blocks._same, blocks._equal):
        memory.clear()


def test_head_and_batch_have_size_one_where_nothing_depends_on_them():
    said = classify_blocks(where_of(WINDOWS["window"]), bound_of(), 8, 8)
    assert said.shape == (1, 1, 5, 4)
    assert classify_blocks(where_of(WINDOWS["by head"]), bound_of(), 8, 8).shape == (1, 4, 5, 4)
    moved = bound_of(offset=torch.tensor([[0], [3]]))
    assert classify_blocks(where_of(WINDOWS["causal"]), moved, 8, 8).shape == (2, 1, 5, 4)


def test_no_condition_is_full_and_no_row_has_no_block():
    assert (classify_blocks(None, bound_of(), 8, 8) == FULL).all()
    assert (classify_blocks(n.Const(False), bound_of(), 8, 8) == EMPTY).all()
    none = bound_of(sizes=replace(SIZES, M=0))
    assert classify_blocks(None, none, 8, 8).shape == (1, 1, 5, 0)


def test_absent_rows_are_never_full_and_blocks_of_them_are_empty():
    lengths = {"key_lengths": torch.tensor([29, 16]), "query_lengths": torch.tensor([0, 20])}
    said, really = assert_sound(None, bound_of(**lengths), 8, 8)
    assert said.shape == (2, 1, 5, 4)
    assert (said[0] == EMPTY).all()
    # Rows 16 … 19 exist, 20 … 23 do not.
    assert said[1, 0].tolist() == 2 * [[1, 1, 0, 0]] + [[2, 2, 0, 0]] + 2 * [[0, 0, 0, 0]]
    assert ((said == EMPTY) == (really == EMPTY)).all()


@pytest.mark.parametrize("name", ["causal", "window", "prefix", "chunks"])
def test_masks_of_positions_are_exact_beside_lengths(name):
    lengths = {"key_lengths": torch.tensor([16, 24]), "query_lengths": torch.tensor([37, 32])}
    assert_exact(where_of(WINDOWS[name]), bound_of(**lengths), 8, 8)


def features(condition, **data):
    """Bind a condition over features, tables or inputs to given data."""
    root = program_of(condition).root
    return root.weights.where, bound_of(root).with_tensors(data)


def same(pair):
    return rg.query_feature("a") == rg.key_feature("b")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.bfloat16])
def test_sorted_documents_are_exact(causal, dtype):
    document = torch.tensor([0] * 6 + [1] * 3 + [2] * 11 + [3] * 1 + [4] * 8).to(dtype)
    sizes = replace(SIZES, N=29)
    root = program_of(lambda p: same(p) & (p.j <= p.i) if causal else same(p)).root
    bound = bound_of(root, sizes)
    bound = bound.with_tensors({"a": document.view(1, 1, -1), "b": document.view(1, 1, -1)})
    assert (assert_exact(root.weights.where, bound, 4, 3) == FULL).any()


def test_key_feature_of_a_group_reaches_its_heads():
    data = torch.randint(0, 2, (2, 2, 29), dtype=torch.bool).sort(-1).values
    condition, bound = features(lambda p: rg.key_feature("real"), real=data)
    said = assert_exact(condition, bound, 4, 4)
    assert said.shape == (2, 4, 10, 8)


def test_shared_feature_of_one_number_is_exact():
    a, b = torch.tensor([[[3.0]], [[4.0]]]), torch.full((1, 1, 29), 3.0)
    assert_exact(*features(same, a=a, b=b), 4, 4)


def test_nan_feature_decides_nothing():
    a = torch.zeros(1, 1, 37)
    a[..., 3] = torch.nan
    b = torch.zeros(1, 1, 29)
    for condition in (
        same,
        lambda p: rg.query_feature("a") != rg.key_feature("b"),
        lambda p: rg.query_feature("a") - rg.key_feature("b") > -math.inf,
        lambda p: rg.min(rg.sign(rg.query_feature("a")), rg.key_feature("b")) <= math.inf,
        lambda p: rg.sqrt(rg.relu(rg.query_feature("a")) - rg.key_feature("b")) >= 0.0,
        lambda p: rg.query_feature("a") % 2 < 9 + rg.key_feature("b"),
    ):
        said, _ = assert_sound(*features(condition, a=a, b=b), 8, 8)
        assert (said[0, 0, 0] == MIXED).all()


INFINITE = {
    "difference": lambda a, b: a - b > -1e30,
    "product": lambda a, b: a * b >= -math.inf,
    "quotient": lambda a, b: a / b <= math.inf,
    "wave": lambda a, b: rg.cos(a + b) >= -1.1,
    "root": lambda a, b: rg.sqrt(a) + b >= 0.0,
    "logarithm": lambda a, b: rg.log(a) - rg.log(b) <= math.inf,
    "remainder": lambda a, b: a % 2 >= b - math.inf,
    "power": lambda a, b: a**2 - b**0.5 <= math.inf,
    "growth": lambda a, b: rg.exp(a * 200) - rg.exp(b * 200) <= math.inf,
    "tiny": lambda a, b: (a * 1e-30) * (1 + abs(b)) * 1e-30 > 0.0,
    "written": lambda a, b: (a <= 0.1) & (b < math.inf),
    "root of less than nothing": lambda a, b: (rg.sqrt(a) < 1e30) & (b < 2),
    "by what may be zero": lambda a, b: abs(rg.clip(a, 1, 2) / rg.clip(b, -1, 1)) < 1e3,
    "floor": lambda a, b: rg.floor(a) >= rg.floor(b),
}


@pytest.mark.parametrize("name", INFINITE)
def test_infinite_numbers_and_rounding_decide_nothing_wrongly(name):
    drawn = torch.tensor([-math.inf, -2.0, 0.0, 0.1, 1.0, 3e38, math.inf, 1e-20])
    a, b = drawn[torch.randint(0, 8, (37,))], drawn[torch.randint(0, 8, (29,))]
    for left, right in ((a, b), (a.sort().values, b.sort().values), (a, b.clamp(-1, 1))):
        condition, bound = features(
            lambda p: INFINITE[name](rg.query_feature("a"), rg.key_feature("b")),
            a=left.view(1, 1, -1),
            b=right.view(1, 1, -1),
        )
        assert_sound(condition, bound, 1, 1)
        assert_sound(condition, bound, 2, 2)
        assert_sound(condition, bound, 3, 4)


def test_whole_numbers_beyond_exactness_decide_nothing_wrongly():
    large = 2**53 + torch.arange(37).view(1, 1, -1)
    assert_sound(*features(same, a=large, b=large[..., :29] + 1), 1, 1)
    far = torch.full((1, 29), torch.iinfo(torch.int64).max)
    far[0, :5] -= 1
    bound = bound_of(key_positions=far)
    assert_sound(where_of(lambda p: p.j <= 2**62 + p.i + 2**62 - 2), bound, 4, 1)


def test_whole_numbers_that_single_precision_rounds_decide_nothing_wrongly():
    bound = bound_of(offset=2**24 - 9)
    for reach in range(4):
        limit = 2.0**24 + reach
        assert_sound(where_of(lambda p, limit=limit: p.i <= limit), bound, 1, 4)
        assert_sound(where_of(lambda p, limit=limit: p.i + 0.0 > limit), bound, 1, 4)


TABLES = {
    "truth": (lambda p: rg.table("t", per="rows")[p.i - p.j], (11,)),
    "truth by head": (lambda p: rg.table("t", per=("head", 11))[p.j % 5 + p.i // 9], (4, 11)),
    "one for all heads": (lambda p: rg.table("t", per=("head", 11))[p.j], (1, 11)),
    "layout": (lambda p: rg.table("t", per=(9, 7))[p.i // 4, p.j // 5], (9, 7)),
    "layout by head": (lambda p: rg.table("t", per=(9, "head", 7))[p.i // 4, p.j // 5], (9, 4, 7)),
    "number": (lambda p: rg.table("t", per="rows")[p.i - p.j] > 0.5, (23,)),
    "number by head": (lambda p: rg.table("t", per=("head", 16))[abs(p.i - p.j)] > 0.2, (4, 16)),
    "numbers of two": (lambda p: rg.table("t", per=(9, 7))[p.i // 4, p.j // 5] > -9.0, (9, 7)),
    "unknown place": (
        lambda p: rg.table("t", per="rows")[rg.floor(rg.sum(p.q))] > -9.0,
        (9,),
    ),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("rows", "keys"), [(4, 5), (8, 3), (64, 64)])
def test_tables_are_exact_within_ranges_of_places(name, rows, keys):
    condition, shape = TABLES[name]
    if "number" in name or "unknown" in name:
        data = torch.randn(shape).cumsum(-1)
        data = data.clamp(min=-8.0)
    else:
        data = torch.rand(shape).sort(-1).values < 0.5
    check = assert_sound if name.startswith("truth by") else assert_exact
    check(*features(condition, t=data), rows, keys)


def test_large_table_is_known_as_a_whole(monkeypatch):
    monkeypatch.setattr(leaves, "_LARGEST_COUNTED", 3)
    monkeypatch.setattr(leaves, "_LARGEST_SEARCHED", 3)
    condition, bound = features(
        lambda p: rg.table("t", per="rows")[p.i] & (rg.table("u", per="rows")[p.j] > 0),
        t=torch.ones(9, dtype=torch.bool),
        u=torch.ones(9),
    )
    assert (assert_exact(condition, bound, 4, 4) == FULL).all()


@pytest.mark.parametrize("shape", [(1, 1, 37, 29), (2, 4, 37, 29)])
def test_pair_inputs_are_exact(shape):
    allowed = torch.rand(shape).cumsum(-1) < 9
    assert_exact(*features(lambda p: rg.pair_input("m"), m=allowed), 4, 4)
    assert_exact(*features(lambda p: rg.pair_input("m") > 0.5, m=allowed.half()), 4, 4)


def _wheres():
    for name, made in PROGRAMS.items():
        for place, node in enumerate(n.walk(made.root)):
            if isinstance(node, n.Term) and node.where is not None:
                if not any(isinstance(part, n.TopK) for part in n.walk(node.where)):
                    yield pytest.param(made.root, node.where, id=f"{name}-{place}")


@pytest.mark.parametrize(("root", "condition"), list(_wheres()))
@pytest.mark.parametrize("seed", [None, 5])
def test_programs_are_sound(root, condition, seed):
    changes = {"seed": seed, "key_lengths": torch.tensor([29, 17]), "first_head": 0}
    for rows, keys in ((4, 4), (16, 3)):
        assert_sound(condition, bound_of(root, seed=1), rows, keys)
        assert_sound(condition, replace(bound_of(root), **changes), rows, keys)


def test_chosen_keys_decide_nothing():
    chosen = PROGRAMS["best_keys"].root.weights.where
    said = classify_blocks(chosen, bound_of(PROGRAMS["best_keys"].root), 8, 8)
    assert (said == MIXED).all()


@given(st.data())
def test_random_conditions_are_sound(data):
    sizes = Sizes(
        B=2, H=2, G=data.draw(st.integers(1, 2)), N=data.draw(st.sampled_from([5, 12, 1])),
        M=data.draw(st.sampled_from([7, 12, 2])), D=2, E=2,
    )  # fmt: skip

    def drawn(pair):
        maker = Maker(data.draw, pair, sizes)
        return rg.softmax(0.0 * pair.j, where=maker.condition("ij", 3) | maker.condition("ij", 2))

    root = rg.program(drawn).root
    changes = {}
    if data.draw(st.booleans()):
        changes["key_lengths"] = torch.tensor([data.draw(st.integers(0, sizes.M)), sizes.M])
    if data.draw(st.booleans()):
        changes["query_lengths"] = torch.tensor([sizes.N, data.draw(st.integers(0, sizes.N))])
    if data.draw(st.booleans()):
        changes["key_positions"] = torch.randperm(sizes.M).view(1, -1) * 2 - 3
    offset = data.draw(st.sampled_from([0, 3, torch.tensor([[0], [-4]])]))
    bound = bound_of(root, sizes, offset=offset, seed=data.draw(st.integers(0, 5)), **changes)
    rows, keys = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    for node in n.walk(root):
        if isinstance(node, n.Term) and node.where is not None:
            assert_sound(node.where, bound, rows, keys)


OPERANDS = [
    n.Index("i"), n.Index("j"), n.Index("head"), n.Feature("query", "a"), n.Feature("key", "b"),
    n.Feature("query", "c"), n.Const(2), n.Const(-3), n.Const(0.1), n.Const(-1.5), n.Const(0),
    n.Array("parameter", "d", ("head",)), n.Const(True),
]  # fmt: skip
EXPONENTS = [n.Const(0.5), n.Const(2), n.Const(3.0), n.Const(-1.0), n.Const(0.0), n.Const(-2.0)]


def a_number(draw, depth):
    """Draw any number from all operators, without care for its size or domain."""
    if depth == 0:
        return draw(st.sampled_from(OPERANDS))
    op = draw(st.sampled_from([op for op in OPERATORS.values() if op.takes != "bool"]))
    args = [a_number(draw, draw(st.integers(0, depth - 1))) for _ in range(op.arity)]
    if op.name == "pow":
        args[1] = draw(st.sampled_from(EXPONENTS))
    if op.name == "where":
        args[0] = n.Call("lt", (args[0], args[2]))
    return n.Call(op.name, tuple(args))


@given(st.data())
def test_any_number_lies_within_its_block(data):
    sizes = replace(SIZES, N=7, M=6)
    tensors = {
        "a": torch.tensor([-2.0, -0.5, 0.1, 1.0, 3.0, 3.1, 40.0]).view(1, 1, -1),
        "b": torch.tensor([-3, -1, 0, 2, 2, 5]).view(1, 1, -1),
        "c": torch.tensor([0.0, 0.25, 0.5, 1.0, 20.0, 1e20, -1e-30]).view(1, 1, -1),
        "d": torch.tensor([1.0, -1.0, 0.5, 0.0]),
    }
    bound = bound_of(sizes=sizes, offset=data.draw(st.sampled_from([0, -3]))).with_tensors(tensors)
    for _ in range(2):
        node = a_number(data.draw, 3)
        at = Evaluator(bound, Tile(0, 7, 0, 6), {}, Cache())
        values = at.number(node).double().flatten()
        # Comparing with a value that some pair has is where rounding would show.
        value = values[data.draw(st.integers(0, 10**6)) % values.numel()].item()
        other = n.Const(0.5 if math.isnan(value) else value)
        op = data.draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]))
        for rows, keys in ((1, 1), (3, 2)):
            assert_sound(n.Call(op, (node, other)), bound, rows, keys)


def test_what_reads_positions_alone_is_remembered():
    condition, bound = where_of(WINDOWS["window"]), bound_of()
    first = classify_blocks(condition, bound, 8, 8)
    assert classify_blocks(condition, bound_of(seed=3), 8, 8) is first
    assert classify_blocks(condition, bound, 8, 4) is not first


def test_positions_written_to_are_read_again():
    positions = torch.arange(37).view(1, -1)
    condition, bound = where_of(WINDOWS["causal"]), bound_of(query_positions=positions)
    classify_blocks(condition, bound, 8, 8)
    positions += 5
    assert_exact(condition, bound, 8, 8)


def test_what_was_found_without_gradients_serves_training():
    blocks._same.clear()
    blocks._equal.clear()
    condition = where_of(WINDOWS["causal"])
    with torch.inference_mode():
        found = classify_blocks(condition, bound_of(query_positions=torch.arange(37)[None]), 8, 8)
    assert not found.is_inference()


@pytest.mark.parametrize(("block", "wrong"), [((0, 0), FULL), ((0, 1), FULL), ((4, 0), EMPTY)])
def test_a_wrong_answer_is_caught(block, wrong):
    condition, bound = where_of(WINDOWS["causal"]), bound_of()
    said, really = assert_sound(condition, bound, 8, 8)
    assert really[0, 0, 0].tolist() == [2, 0, 0, 0] and really[0, 0, 4].tolist() == [1, 1, 1, 1]
    said = said.clone()
    said[0, 0, *block] = wrong
    with pytest.raises(AssertionError, match="wrong at"):
        assert_never_wrong(said, really)
