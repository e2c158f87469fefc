"""What a traced value cannot do: each error shows the user's own line and what to write."""

import math
import re

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import regard as rg

TABLE = torch.randn(16)
VALUES = [1.0, 2.0]


def branches(score, b, h, q_idx, kv_idx):
    if q_idx > kv_idx:
        return score
    return score * 2


def branches_with_else(score, b, h, q_idx, kv_idx):
    if 2 < q_idx < 5 and not kv_idx > 3:
        score = score + 1
    else:
        score = score - 1
    return score


def chooses(score, b, h, q_idx, kv_idx):
    return score if q_idx >= kv_idx else score - 1


def combines(b, h, q_idx, kv_idx):
    return (q_idx >= kv_idx and q_idx - kv_idx < 4) or kv_idx == 0


def negates(b, h, q_idx, kv_idx):
    return not (q_idx >= kv_idx)


def chains(b, h, q_idx, kv_idx):
    return 0 <= q_idx - kv_idx < 4


def takes_max(score, b, h, q_idx, kv_idx):
    return score + max(q_idx, kv_idx)


def loops_while(score, b, h, q_idx, kv_idx):
    while q_idx > kv_idx:
        score = score + 1
    return score


def asserts(score, b, h, q_idx, kv_idx):
    assert q_idx >= 0
    return score


def uses_math(score, b, h, q_idx, kv_idx):
    return score + math.exp(score)


def counts(score, b, h, q_idx, kv_idx):
    for _ in range(q_idx):
        score = score + 1
    return score


def indexes_a_list(score, b, h, q_idx, kv_idx):
    return score * VALUES[h]


def makes_an_int(score, b, h, q_idx, kv_idx):
    return score + int(q_idx)


def makes_an_item(score, b, h, q_idx, kv_idx):
    return score + q_idx.item()


def loops_over(score, b, h, q_idx, kv_idx):
    return [part for part in score]


def measures(score, b, h, q_idx, kv_idx):
    return score + len(score)


def draws(score, b, h, q_idx, kv_idx):
    return score + torch.rand_like(score)


def draws_alone(score, b, h, q_idx, kv_idx):
    return score + torch.randn(())


def writes_captured(score, b, h, q_idx, kv_idx):
    TABLE[0] = 1.0
    return score


def writes_in_place(score, b, h, q_idx, kv_idx):
    return score.add_(1)


def adds_in_place(score, b, h, q_idx, kv_idx):
    return score + TABLE.mul_(2)[h]


def writes_out(score, b, h, q_idx, kv_idx):
    return score + torch.add(TABLE, 1, out=TABLE)[h]


def adds_a_whole_tensor(score, b, h, q_idx, kv_idx):
    return torch.zeros(2, 2) + score


def indexes_by_a_score(score, b, h, q_idx, kv_idx):
    return score + TABLE[score]


def indexes_by_a_condition(score, b, h, q_idx, kv_idx):
    return score + TABLE[q_idx > 3]


def slices_by_a_position(score, b, h, q_idx, kv_idx):
    return score + TABLE[:q_idx].sum()


def indexes_outside(score, b, h, q_idx, kv_idx):
    return score + TABLE[None][3, h]


def indexes_too_often(score, b, h, q_idx, kv_idx):
    return score + TABLE[h, q_idx]


def indexes_by_text(score, b, h, q_idx, kv_idx):
    return score + TABLE[None][h, "a"]


def indexes_a_number(score, b, h, q_idx, kv_idx):
    return score[0]


def asks_for_more(score, b, h, q_idx, kv_idx):
    return torch.linalg.det(score)


def misspells(score, b, h, q_idx, kv_idx):
    return score.sigmoidd()


def stops_gradients(score, b, h, q_idx, kv_idx):
    return score.detach()


def masks_by_numbers(score, b, h, q_idx, kv_idx):
    return torch.where(q_idx - kv_idx, score, 0.0)


def makes_complex(score, b, h, q_idx, kv_idx):
    return score.to(torch.complex64)


def makes_a_row(score, b, h, q_idx, kv_idx):
    return score + score.new_zeros(3).sum()


def shifts_by_positions(b, h, q_idx, kv_idx):
    return q_idx >> kv_idx == 0


def takes_bits_of_scores(score, b, h, q_idx, kv_idx):
    return score + (score & 3)


ERRORS = {
    branches: "write torch.where(q_idx > kv_idx, score, score * 2)",
    branches_with_else: "write torch.where(((2 < q_idx) & (q_idx < 5)) & (~(kv_idx > 3)), "
    "score + 1, score - 1)",
    chooses: "write torch.where(q_idx >= kv_idx, score, score - 1)",
    combines: "write ((q_idx >= kv_idx) & (q_idx - kv_idx < 4)) | (kv_idx == 0)",
    negates: "write ~(q_idx >= kv_idx)",
    chains: "write (0 <= q_idx - kv_idx) & (q_idx - kv_idx < 4)",
    takes_max: "write torch.maximum(q_idx, kv_idx)",
    loops_while: "write the loop out, with torch.where",
    asserts: "write the assertion outside of the function",
    uses_math: "write torch.exp(score)",
    counts: "a traced value cannot count or index in Python",
    indexes_a_list: "torch.tensor(values)[index]",
    makes_an_int: "x.long() makes a whole number of it",
    makes_an_item: "has no item()",
    loops_over: "cannot be looped over",
    measures: "has no length",
    draws: "torch.rand_like draws random numbers",
    draws_alone: "torch.randn draws random numbers",
    writes_captured: "'__setitem__' writes into a tensor",
    writes_in_place: "'add_' writes into a tensor",
    adds_in_place: "'mul_' writes into a tensor",
    writes_out: "'add' writes into a tensor",
    adds_a_whole_tensor: "a captured tensor of shape (2, 2) meets a pair's number",
    indexes_by_a_score: "an index must be a whole number, not torch.float32",
    indexes_by_a_condition: "an index must be a whole number, not torch.bool",
    slices_by_a_position: "a slice cannot begin or end at a traced value",
    indexes_outside: "index 3 is outside of an axis of 1",
    indexes_too_often: "2 indices for a captured tensor of 1 axes",
    indexes_by_text: "whole numbers, slices and traced numbers, not 'a'",
    indexes_a_number: "a pair's value has shape () and cannot be indexed by 0",
    asks_for_more: "torch's 'linalg_det' is not among what a program can compute",
    misspells: "did you mean 'sigmoid'?",
    stops_gradients: "detach() of a pair's value",
    masks_by_numbers: "the first argument of torch.where must be a condition",
    makes_complex: "a program computes with real numbers",
    makes_a_row: "a tensor of shape (3,) made for a pair",
    shifts_by_positions: "a shift by a traced number of bits",
    takes_bits_of_scores: "take whole numbers or conditions, not numbers of torch.float32",
}


@pytest.mark.parametrize("function", list(ERRORS), ids=lambda function: function.__name__)
def test_what_has_no_meaning_for_a_pair_is_refused_at_its_line(function):
    takes_score = function.__code__.co_argcount == 5
    with pytest.raises(rg.ProgramError) as caught:
        rg.from_flex(function) if takes_score else rg.from_flex(None, function)
    message = str(caught.value)
    assert ERRORS[function] in message
    name, line = re.search(r"\n  (\w+|<listcomp>) \(test_advice.py:(\d+)\): ", message).groups()
    assert name in (function.__name__, "<listcomp>")
    code = function.__code__
    last = max(line for *_, line in code.co_lines() if line is not None)
    assert code.co_firstlineno < int(line) <= last


def returns_nothing(score, b, h, q_idx, kv_idx):
    score + 1


def returns_a_row(score, b, h, q_idx, kv_idx):
    return score + TABLE


def returns_a_number(b, h, q_idx, kv_idx):
    return q_idx - kv_idx


@pytest.mark.parametrize(
    ("score_mod", "mask_mod", "message"),
    [
        (returns_nothing, None, "one score per pair, not nothing (is a `return` missing?)"),
        (returns_a_row, None, "one score per pair, not <traced tensor of shape (16,)>"),
        (None, returns_a_number, "a mask_mod returns a condition such as q_idx >= kv_idx"),
        (returns_a_number, None, "score_mod 'returns_a_number' must take (score, b, h, q_idx,"),
        (None, returns_nothing, "mask_mod 'returns_nothing' must take (b, h, q_idx, kv_idx)"),
        ("relu", None, "score_mod must be a function, not 'relu'"),
        (
            create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device="cpu"),
            None,
            "score_mod must be a function, not a BlockMask; give it as block_mask",
        ),
    ],
)
def test_what_is_no_score_and_no_condition_is_refused(score_mod, mask_mod, message):
    with pytest.raises(rg.ProgramError, match=re.escape(message)):
        rg.from_flex(score_mod, mask_mod)


def test_an_operator_that_torch_does_not_own_is_refused():
    library = torch.library.Library("flex_test", "DEF")
    library.define("odd(Tensor x) -> Tensor")
    with pytest.raises(rg.ProgramError, match=r"flex_test\.odd is not torch's own"):
        rg.from_flex(lambda score, b, h, i, j: torch.ops.flex_test.odd(score))


def test_a_traced_value_kept_after_tracing_is_refused():
    kept = []

    def keeps(score, b, h, q_idx, kv_idx):
        kept.append(score)
        return score

    rg.from_flex(keeps)
    with pytest.raises(rg.ProgramError, match="kept after tracing"):
        torch.exp(kept[0])


def test_a_line_without_source_gets_the_general_advice():
    space = {}
    exec("def mod(score, b, h, q, k): return score if q > k else -score", space)
    with pytest.raises(rg.ProgramError, match=r"write torch\.where\(condition, a, b\)"):
        rg.from_flex(space["mod"])
