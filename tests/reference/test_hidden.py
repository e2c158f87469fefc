"""A hidden pair contributes nothing, to values or to gradients, whatever it holds."""

import pytest
import torch

from regard.ir import nodes as n
from tests.reference.builders import (
    CAUSAL,
    SCORE,
    I,
    J,
    K,
    Q,
    V,
    bind,
    call,
    close,
    dot,
    entmax,
    inputs,
    minus,
    out,
    output,
    ratio,
    run,
    score_table,
    softmax,
    times,
    topk,
    total,
    weigh,
    weights_of,
    where,
)

EXP = call("exp", SCORE)
ROOT_DISTANCE = call("neg", call("sqrt", total(call("pow", minus(Q, K), 2))))
FIRST_FOUR = call("lt", J, 4)
PROGRAMS = {
    "softmax": lambda seen: softmax(where=seen),
    "softmax of a root distance": lambda seen: softmax(ROOT_DISTANCE, where=seen),
    "softmax with a sink": lambda seen: softmax(where=seen, sink=0.5),
    "weigh": lambda seen: weigh(EXP, where=seen),
    "ratio": lambda seen: ratio(EXP, where=seen),
    "ratio of absolutes": lambda seen: ratio(SCORE, call("abs", SCORE), where=seen),
    "entmax": lambda seen: entmax(where=seen),
    "softmax of logarithms": lambda seen: softmax(call("log", call("abs", SCORE)), where=seen),
    "a difference": lambda seen: minus(softmax(where=seen), weigh(SCORE, where=seen)),
    "a gated product": lambda seen: times(softmax(where=seen), EXP),
    "a map": lambda seen: n.Map(softmax(where=seen), call("sqrt", n.MAPPED)),
    "chosen keys": lambda seen: softmax(where=topk(SCORE, 3, seen)),
}


def gradients(program, tensors, **options):
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    result = run(program, leaves, **options)["output"]
    weight = torch.linspace(1, 2, result.numel(), dtype=result.dtype).view_as(result)
    return result.detach(), torch.autograd.grad((result * weight).sum(), list(leaves.values()))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_hidden_keys_and_values_may_hold_anything(name, poison):
    clean = inputs(keys=5)
    dirty = {key: tensor.clone() for key, tensor in clean.items()}
    dirty["k"][:, :, 4] = poison
    dirty["v"][:, :, 4] = poison
    program = PROGRAMS[name](FIRST_FOUR)
    expected, expected_gradients = gradients(program, clean)
    actual, actual_gradients = gradients(program, dirty)
    assert torch.equal(actual, expected)
    for one, other in zip(actual_gradients, expected_gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_key_beyond_its_length_is_as_if_absent(name):
    tensors = inputs(batch=1, keys=5)
    tensors["k"][:, :, 3:] = float("nan")
    tensors["v"][:, :, 3:] = float("nan")
    short = tensors | {"k": tensors["k"][:, :, :3], "v": tensors["v"][:, :, :3]}
    program = PROGRAMS[name](None)
    actual, (query, key, value) = gradients(program, tensors, key_lengths=[3])
    expected, (short_query, short_key, short_value) = gradients(program, short)
    close(actual, expected)
    close(query, short_query)
    close(key[:, :, :3], short_key)
    close(value[:, :, :3], short_value)
    assert not key[:, :, 3:].any() and not value[:, :, 3:].any()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_pair_hidden_from_some_queries_gives_the_others_their_gradients(name):
    tensors = inputs(queries=5, keys=5)
    tensors["q"][:, :, 0] = tensors["k"][:, :, 4] = float("nan")
    seen = call("and", CAUSAL, call("ge", J, 1))
    _, (query, key, _) = gradients(PROGRAMS[name](seen), tensors)
    # Query 0 sees nothing, and key 4 is seen by query 4 alone.
    assert not query[:, :, 0].any() and not key[:, :, 0].any()
    assert query[:, :, 1:4].isfinite().all()
    assert query[:, :, 4].isnan().all() or name == "entmax"


def test_the_slope_of_a_root_at_zero_stays_with_the_hidden_pair():
    tensors = inputs(queries=4, keys=4)
    tensors["k"] = tensors["q"].clone()
    others = call("ne", I, J)
    assert all(g.isfinite().all() for g in gradients(softmax(ROOT_DISTANCE, others), tensors)[1])
    assert gradients(softmax(ROOT_DISTANCE), tensors)[1][0].isnan().any()


def test_a_score_of_minus_infinity_means_hidden():
    infinity = float("inf")
    tensors = score_table([[0.0, 1.0, 2.0, 3.0]])
    for term in (softmax, entmax):
        by_where = term(where=call("ne", J, 2))
        by_score = term(where(call("eq", J, 2), -infinity, SCORE))
        expected, expected_gradients = gradients(by_where, tensors)
        actual, actual_gradients = gradients(by_score, tensors)
        close(actual, expected)
        for one, other in zip(actual_gradients, expected_gradients, strict=True):
            close(one, other)


def test_a_score_of_minus_infinity_hides_the_value_too():
    tensors = score_table([[0.0, -float("inf"), 2.0]]) | {"bias": torch.zeros(1, 1, 1, 3)}
    tensors["q"] = torch.zeros(1, 1, 1, 3, dtype=torch.float64)
    tensors["bias"][..., 1] = -float("inf")
    tensors["v"][:, :, 1] = float("nan")
    score = call("add", SCORE, n.PairInput("bias"))
    close(out(softmax(score), tensors), [0.5, 0.0, 0.5])


def test_the_smallest_number_is_an_ordinary_score():
    least = torch.finfo(torch.float32).min
    tensors = score_table([[0.0, 0.0]], torch.float32)
    close(weights_of(softmax(call("add", SCORE, least)), tensors), 0.5)


def test_values_are_read_where_any_term_sees():
    tensors = inputs(keys=4)
    tensors["v"][:, :, 3] = float("nan")
    first, second = softmax(where=call("lt", J, 2)), weigh(1.0, where=call("eq", J, 2))
    clean = tensors | {"v": tensors["v"].nan_to_num(0.0)}
    assert torch.equal(
        out(call("add", first, second), tensors), out(call("add", first, second), clean)
    )


def test_a_factor_is_read_where_its_own_weights_see():
    tensors = inputs(keys=3) | {"gate": torch.tensor([[[1.0, 2.0, float("nan")]]]).double()}
    gated = times(weigh(1.0, where=call("lt", J, 2)), n.Feature("key", "gate"))
    both = call("add", gated, weigh(1.0, name="other"))
    found = weights_of(both, tensors)
    close(found, [2.0, 3.0, 1.0])
    assert out(both, tensors).isfinite().all()


def test_a_map_leaves_hidden_pairs_at_zero():
    tensors = inputs(keys=3)
    mapped = n.Map(softmax(where=call("lt", J, 2)), call("add", n.MAPPED, 1.0))
    both = call("add", mapped, weigh(0.0, name="other"))
    assert not weights_of(both, tensors)[..., 2].any()


def test_rows_that_see_nothing_are_zero_even_after_finish():
    tensors = inputs(queries=3, keys=3)
    finish = call("add", call("log", call("abs", n.SUMMED)), 1.0)
    program = output(softmax(where=call("lt", J, I)), finish=finish)
    result, found = gradients(program, tensors)
    assert not result[:, :, 0].any() and result[:, :, 1:].any()
    assert all(gradient.isfinite().all() for gradient in found)
    assert not found[0][:, :, 0].any()


def test_a_row_some_term_sees_is_finished():
    tensors = inputs(queries=2, keys=2)
    sum_of_two = call("add", softmax(where=call("lt", J, I)), weigh(0.0, name="other"))
    result = out(output(sum_of_two, finish=call("add", n.SUMMED, 1.0)), tensors)
    close(result[:, :, 0], 1.0)


def test_query_rows_beyond_their_length_are_zero():
    tensors = inputs(batch=2, queries=4)
    tensors["q"][1, :, 2:] = float("nan")
    program = output(softmax(sink=0.0), finish=call("add", n.SUMMED, dot(Q, Q)))
    result, found = gradients(program, tensors, query_lengths=[4, 2])
    assert not result[1, :, 2:].any()
    assert result.isfinite().all() and all(gradient.isfinite().all() for gradient in found)
    assert not found[0][1, :, 2:].any()


def test_a_visible_nan_is_not_covered_up():
    tensors = score_table([[0.0, float("nan"), 1.0]])
    tensors["k"] = torch.eye(3, dtype=torch.float64)[None, None]
    tensors["q"] = torch.tensor([[[[0.0, float("nan"), 1.0], [0.0, 1.0, 2.0]]]]).double()
    for program in (softmax(), entmax(), ratio(EXP)):
        result = out(program, tensors)
        assert result[0, 0, 0].isnan().all() and result[0, 0, 1].isfinite().all()


def test_where_may_compare_a_nan():
    tensors = inputs(keys=3) | {"time": torch.tensor([[[0.0, float("nan"), 1.0]]]).double()}
    program = softmax(where=call("ge", n.Feature("key", "time"), 0.0))
    assert not weights_of(program, tensors)[..., 1].any()


def test_an_empty_call_has_an_empty_answer():
    for sizes in ({"keys": 0}, {"queries": 0}, {"batch": 0}):
        tensors = inputs(**sizes)
        for program in (softmax(sink=0.0), entmax(), ratio(EXP), weigh(SCORE)):
            result = run(program, tensors, ["weights"])
            assert result["output"].shape == (*tensors["q"].shape[:3], 2)
            assert not result["output"].any()


def test_key_max_passes_over_what_is_not_finite():
    tensors = inputs(batch=1, heads=2, groups=1, keys=3)
    tensors["v"][0, 0, :, 0] = torch.tensor([1.0, float("nan"), 2.0])
    tensors["v"][0, 0, :, 1] = torch.tensor([float("inf"), 5.0, 7.0])
    program = output(weigh(1.0, where=call("eq", J, 0)), n.KeyMax(V))
    close(out(program, tensors), [2.0, 7.0])
    close(out(program, tensors, key_lengths=[2]), [1.0, 5.0])
    assert bind(tensors).groups == 1
