"""What hides whole keys is found in a program, and not where hidden keys can be told."""

import pytest
import torch
from hypothesis import given

import regard as rg
from regard.ir import nodes as n
from regard.ir.print_text import text
from regard.ir.program import AttentionProgram
from regard.ops.gather import seen_keys
from regard.ops.prepare import Options, prepare
from regard.passes.find_key_condition import find_key_condition
from regard.passes.restrict_where import restrict_where
from regard.testing.contract import run_both
from regard.testing.random_calls import calls

SHOWN = n.Feature("key", "shown")


def keep():
    return rg.key_feature("keep")


def large():
    return rg.key_feature("score") > 0.5


def past(p):
    return p.j <= p.i


def score(p):
    return rg.dot(p.q, p.k)


def found(weights, seeded=False):
    condition = find_key_condition(rg.program(weights).root, seeded)
    return None if condition is None else text(condition)


def test_conditions_on_keys_are_taken_out_of_a_conjunction():
    # Before: softmax(q·k, where = (j <= i) & keep & (score > 0.5)).   After: keep & (score > 0.5).
    assert found(lambda p: rg.softmax(score(p), where=past(p) & keep() & large())) == (
        "keep_j ∧ score_j > 0.5"
    )


CONDITIONS = {
    "one alone": (lambda p: rg.softmax(score(p), where=keep()), "keep_j"),
    "positions": (lambda p: rg.softmax(score(p), where=past(p) & (p.j % 3 == 0)), "j mod 3 == 0"),
    "neither of two": (
        lambda p: rg.softmax(score(p), where=~(keep() | (p.j > p.i) | large())),
        "¬keep_j ∧ ¬(score_j > 0.5)",
    ),
    "either of two": (lambda p: rg.softmax(score(p), where=keep() | past(p)), None),
    "no mask": (lambda p: rg.softmax(score(p)), None),
    "pairs alone": (lambda p: rg.softmax(score(p), where=past(p)), None),
    "heads alone": (lambda p: rg.softmax(score(p), where=p.head > 1), None),
    "some heads": (
        lambda p: rg.softmax(score(p), where=keep() | (p.head > 1)),
        "keep_j ∨ h > 1",
    ),
    "rows of channels": (lambda p: rg.softmax(score(p), where=rg.dot(p.k, p.k) > 1), None),
    "two terms": (
        lambda p: rg.softmax(score(p), where=keep()) - rg.weigh(p.j, where=large() & past(p)),
        "keep_j ∨ score_j > 0.5",
    ),
    "a term that sees all": (
        lambda p: rg.softmax(score(p), where=keep()) - rg.weigh(p.j, where=past(p)),
        None,
    ),
    "a choice among all": (
        lambda p: rg.softmax(score(p), where=keep() & rg.topk(score(p), 3)),
        None,
    ),
    "a choice among the kept": (
        lambda p: rg.softmax(score(p), where=keep() & rg.topk(score(p), 3, where=keep())),
        "keep_j",
    ),
    "how many keys there are": (lambda p: rg.softmax(score(p) / p.keys, where=keep()), None),
    "how many are visible": (
        lambda p: rg.softmax(score(p) / p.visible, where=keep()),
        "keep_j",
    ),
    "the largest of all keys": (
        lambda p: rg.output(rg.softmax(score(p), where=keep()), values=rg.max_over_keys(p.v) * p.v),
        None,
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_is_found_where_hidden_keys_cannot_be_told(name):
    weights, expected = CONDITIONS[name]
    assert found(weights) == expected


DRAWS = {
    "weights": lambda p: rg.dropout(rg.softmax(score(p), where=keep()), 0.1),
    "keys": lambda p: rg.softmax(score(p), where=keep() & rg.keep(0.1, "bj")),
    "pairs": lambda p: rg.softmax(rg.where(rg.keep(0.1, "bhij"), 1, score(p)), where=keep()),
}


@pytest.mark.parametrize("drawn", DRAWS)
def test_draws_by_the_number_of_a_row_tell_hidden_keys(drawn):
    assert found(DRAWS[drawn], seeded=True) is None
    assert found(DRAWS[drawn]) == "keep_j"


def test_draws_of_heads_do_not():
    dropped = rg.program(lambda p: rg.softmax(score(p), where=keep()) * rg.keep(0.1, "bh"))
    assert find_key_condition(dropped.root, seeded=True) is not None


def test_a_condition_thousands_of_parts_deep_is_read():
    def deep(p):
        where = keep()
        for number in range(1000):
            where = where & (p.j != p.i + number)
        return rg.softmax(score(p), where=where)

    assert found(deep) == "keep_j"


@pytest.mark.filterwarnings("ignore:the mask of")
@given(calls(lengths=(5, 9, 3)))
def test_a_program_never_notices_what_hidden_keys_hold(call):
    program = AttentionProgram(restrict_where(call.program.root, SHOWN), "restricted")
    condition = find_key_condition(program.root, call.seed is not None)
    if condition is None:
        return
    batch, keys = call.inputs["k"].shape[0], call.inputs["k"].shape[2]
    inputs = {**call.inputs, "shown": torch.rand(batch, 1, keys) < 0.5}
    given = dict(inputs)
    rows = (given.pop(name) for name in "qkv")
    _, bound = prepare(program, *rows, given, Options(**call.options))
    hidden = ~seen_keys(condition, bound)
    spoilt = dict(inputs)
    for name in ("k", "v"):
        fill = torch.where(hidden[:, None, :, None], torch.nan, 0.0)
        spoilt[name] = spoilt[name] + fill
    results = [
        run_both(program, inputs, seed=call.seed, backend="reference", **call.options)
        for inputs in (inputs, spoilt)
    ]
    for one, other in zip(results[0].values(), results[1].values(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)
