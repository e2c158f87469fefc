"""How a row is normalised: shifts, sinks, ratios and their corner cases."""

import math

import pytest
import torch

from regard.ir import nodes as n
from tests.reference.builders import (
    CAUSAL,
    SCORE,
    I,
    J,
    Q,
    call,
    close,
    dot,
    inputs,
    minus,
    out,
    parameter,
    ratio,
    run,
    score_table,
    softmax,
    table,
    times,
    weigh,
    weights_of,
    where,
)

INFINITY = float("inf")
EXP = call("exp", SCORE)


def test_softmax_of_huge_scores_stays_finite():
    tensors = score_table([[1e4, 1e4 - 1, -1e4]], torch.float32)
    e = math.exp(-1)
    close(weights_of(softmax(), tensors), [1 / (1 + e), e / (1 + e), 0.0], rtol=1e-6)


def test_a_constant_score_weighs_all_visible_keys_alike():
    tensors = inputs(queries=3, keys=3)
    expected = torch.ones(3, 3).tril() / torch.arange(1, 4)[:, None]
    close(weights_of(softmax(1, where=CAUSAL), tensors), expected.double(), rtol=1e-6)


def test_a_sink_is_seen_by_rows_that_see_no_key():
    tensors = inputs(queries=2, keys=2)
    program = softmax(where=call("lt", J, I), sink=1.5)
    found = run(program, tensors, ["lse", "max", "entropy", "sink"])
    assert not found["output"][:, :, 0].any()
    close(found["lse"][:, :, 0], 1.5)
    close(found["max"][:, :, 0], 1.5)
    close(found["entropy"][:, :, 0], 0.0)
    close(found["sink"][:, :, 0], 1.0)


def test_a_sink_of_minus_infinity_is_no_sink():
    tensors = inputs(queries=2, keys=2) | {"s": torch.full((2,), -INFINITY, dtype=torch.float64)}
    tensors["s"].requires_grad_()
    seen = call("lt", J, I)
    found = run(softmax(where=seen, sink=parameter("s", "head")), tensors, ["lse", "sink"])
    expected = run(softmax(where=seen), tensors, ["lse"])
    assert torch.equal(found["output"], expected["output"])
    assert torch.equal(found["lse"], expected["lse"])
    assert not found["sink"].any()
    (gradient,) = torch.autograd.grad(found["output"].sum(), tensors["s"])
    assert not gradient.any()


def test_a_sink_may_be_computed_from_the_query_row():
    tensors = inputs()
    sink = dot(Q, Q)
    logits = torch.cat(
        [tensors["q"] @ tensors["k"].mT, tensors["q"].square().sum(-1)[..., None]], -1
    )
    close(weights_of(softmax(sink=sink), tensors), logits.softmax(-1)[..., :-1])


@pytest.mark.parametrize("size", [300.0, -300.0])
def test_a_homogeneous_ratio_is_exact_far_outside_the_range_of_exp(size):
    tensors = score_table([[size, size - 1, size + 1]], torch.float32)
    expected = torch.tensor([size, size - 1, size + 1]).double().softmax(-1)
    close(weights_of(ratio(EXP), tensors).double(), expected, rtol=1e-6)
    gated = ratio(times(0.5, EXP), call("div", call("neg", EXP), -2))
    close(weights_of(gated, tensors).double(), expected, rtol=1e-6)


def test_softpick_is_exact_at_scores_of_300():
    tensors = score_table([[300.0, -300.0, 299.0], [-300.0, -300.0, -299.0]], torch.float32)
    tensors["q"].requires_grad_()
    excess = minus(EXP, 1.0)
    found = weights_of(ratio(call("relu", excess), call("abs", excess), add=1e-6), tensors)
    e = math.exp(-1)
    close(found[0, 0, 0], [1 / (1 + e), 0.0, e / (1 + e)], rtol=1e-6)
    close(found[0, 0, 1], 0.0)
    (gradient,) = torch.autograd.grad(found.square().sum(), tensors["q"])
    assert gradient.isfinite().all()


def test_an_offset_keeps_its_true_scale_under_the_shift():
    tensors = score_table([[-3.0, -4.0], [60.0, 61.0], [-200.0, -201.0]], torch.float32)
    tensors["q"].requires_grad_()
    found = weights_of(ratio(EXP, add=0.25), tensors)
    scores = tensors["q"].detach().double()
    expected = scores.exp() / (scores.exp().sum(-1, keepdim=True) + 0.25)
    close(found.double(), expected, rtol=1e-5)
    assert torch.autograd.grad(found.sum(), tensors["q"])[0].isfinite().all()


def test_a_scaled_offset_applies_after_the_shift():
    tensors = score_table([[7.0, 6.0]])
    e = math.exp(-1)
    scaled = ratio(EXP, add=0.25, scaled=True)
    close(weights_of(scaled, tensors), [1 / (1.25 + e), e / (1.25 + e)])
    # A constant takes part, so the shift is the larger of 6, 7 and 0, then of -6, -7 and 0.
    excess = call("abs", minus(EXP, 1.0))
    below = score_table([[-7.0, -6.0]])
    one, two = 1 - math.exp(-7), 1 - math.exp(-6)
    total = one + two + 0.25
    found = weights_of(ratio(excess, add=0.25, scaled=True), below)
    close(found, [one / total, two / total])


def test_at_least_bounds_the_denominator_from_below():
    tensors = score_table([[0.1, 0.2], [3.0, 5.0]])
    close(weights_of(ratio(SCORE, at_least=2), tensors), [[0.05, 0.1], [3 / 8, 5 / 8]])


def test_a_row_whose_sum_is_zero_gives_zero_and_no_gradient():
    tensors = score_table([[0.0, -1.0], [2.0, 2.0]])
    tensors["q"].requires_grad_()
    result = out(ratio(call("relu", SCORE)), tensors)
    close(result, [[0.0, 0.0], [0.5, 0.5]])
    (gradient,) = torch.autograd.grad(result[..., 0].sum(), tensors["q"])
    close(gradient, [[0.0, 0.0], [1 / 8, -1 / 8]])


def test_a_ratio_whose_exponents_are_all_minus_infinity_gives_zero():
    tensors = score_table([[1.0, 2.0]])
    close(weights_of(ratio(call("exp", minus(SCORE, INFINITY))), tensors), 0.0)


def test_the_branch_a_where_leaves_out_does_not_move_the_shift():
    tensors = score_table([[300.0, -1.0], [-300.0, -301.0]], torch.float32)
    unit = where(call("gt", SCORE, 0.0), call("add", SCORE, 1.0), EXP)
    e = math.exp(-1)
    found = weights_of(ratio(unit), tensors)
    close(found[0, 0, 0], [301 / (301 + e), e / (301 + e)], rtol=1e-6)
    close(found[0, 0, 1], [1 / (1 + e), e / (1 + e)], rtol=1e-6)


def test_a_product_of_exponentials_is_computed_as_written():
    tensors = score_table([[1.0, 2.0]])
    close(
        weights_of(ratio(times(EXP, EXP)), tensors), torch.tensor([2.0, 4.0]).double().softmax(-1)
    )
    large = score_table([[100.0, 99.0]], torch.float32)
    assert weights_of(ratio(times(EXP, EXP)), large).isnan().any()


def test_numerator_and_denominator_share_one_shift():
    tensors = inputs()
    num, den = call("exp", times(SCORE, 2.0)), call("exp", SCORE)
    s = tensors["q"] @ tensors["k"].mT
    close(weights_of(ratio(num, den), tensors), (2 * s).exp() / s.exp().sum(-1, keepdim=True))


def test_products_of_weights_need_no_common_name():
    tensors = inputs()
    s = tensors["q"] @ tensors["k"].mT
    product = times(softmax(), weigh(SCORE))
    close(weights_of(product, tensors), s.softmax(-1) * s)
    close(weights_of(call("div", product, 2), tensors), s.softmax(-1) * s / 2)
    close(weights_of(call("neg", product), tensors), -s.softmax(-1) * s)


def test_equal_scores_at_the_edge_of_top_k_take_the_lower_key():
    tensors = score_table([[1.0, 2.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    program = run(weigh(1.0, where=n.TopK(SCORE, n.Const(2), None)), tensors, ["weights"])
    close(program["weights"], [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])


def test_top_k_ranks_only_the_keys_its_own_where_admits():
    tensors = score_table([[4.0, 3.0, 2.0, 1.0]])
    inner = n.TopK(SCORE, n.Const(2), call("ge", J, 1))
    close(weights_of(weigh(1.0, where=inner), tensors), [0.0, 1.0, 1.0, 0.0])
    outer = call("and", call("ge", J, 1), n.TopK(SCORE, n.Const(2), None))
    close(weights_of(weigh(1.0, where=outer), tensors), [0.0, 1.0, 0.0, 0.0])


def test_top_k_never_chooses_a_score_of_minus_infinity_or_more_keys_than_there_are():
    tensors = score_table([[0.0, 1.0, 2.0]]) | {"many": torch.tensor([[[9]]])}
    score = where(call("eq", J, 1), -INFINITY, SCORE)
    program = weigh(1.0, where=n.TopK(score, n.Feature("query", "many"), None))
    close(weights_of(program, tensors), [1.0, 0.0, 1.0])
    close(weights_of(program, tensors, key_lengths=[1]), [1.0, 0.0, 0.0])


def test_top_k_has_a_count_per_row():
    tensors = score_table([[1.0, 2.0, 3.0]] * 3)
    program = weigh(1.0, where=n.TopK(SCORE, I, None))
    close(weights_of(program, tensors), [[0.0, 0, 0], [0, 0, 1], [0, 1, 1]])


def test_visible_counts_existing_admitted_keys():
    tensors = inputs(batch=2, queries=4, keys=4)
    program = weigh(n.Visible(), where=CAUSAL)
    found = weights_of(program, tensors, key_lengths=[4, 2])
    close(found.amax(-1)[:, 0], [[1.0, 2, 3, 4], [1, 2, 2, 2]])


def test_visible_counts_keys_hidden_by_their_score():
    tensors = score_table([[0.0, 1.0, 2.0]])
    hidden = where(call("eq", J, 1), -INFINITY, times(0.0, SCORE))
    counted = call("add", hidden, times(n.Visible(), J))
    expected = torch.tensor([0.0, -INFINITY, 6.0]).double().softmax(-1)
    close(weights_of(softmax(counted), tensors), expected)


def test_a_table_of_weights_needs_no_score():
    tensors = inputs(queries=2, keys=2) | {"w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    program = weigh(n.Gather(table("w", "rows", "rows"), (I, J)))
    close(weights_of(program, tensors), tensors["w"])


def test_a_denominator_that_is_not_positive_gives_zero():
    tensors = score_table([[-1.0, -2.0], [3.0, -4.0], [3.0, -2.0]])
    close(weights_of(ratio(SCORE, call("relu", SCORE)), tensors)[0, 0, 0], 0.0)
    found = weights_of(ratio(SCORE), tensors)
    close(found, [[0.0, 0.0], [0.0, 0.0], [3.0, -2.0]])


def test_zero_is_no_constant_that_holds_the_shift():
    tensors = score_table([[-300.0, -301.0, 0.0]], torch.float32)
    e = math.exp(-1)
    found = weights_of(ratio(where(call("lt", J, 2), EXP, 0)), tensors)
    close(found, [1 / (1 + e), e / (1 + e), 0.0], rtol=1e-6)
