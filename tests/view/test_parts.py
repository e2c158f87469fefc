import numpy as np
import pytest
import torch

import regard as rg
from regard.view.imagine import choose_heads
from regard.view.parts import find_parts
from tests.view import samples


def parts_of(program, queries=12, keys=None, heads=None, **given):
    heads = heads or choose_heads(program, given)
    return find_parts(program, queries, keys or queries, heads, 16, given)


def test_mask_of_a_causal_program_hides_the_future():
    (mask,) = parts_of(samples.causal).of("mask")
    assert (mask.hidden[0] == ~np.tri(12, dtype=bool)).all()


def test_mask_that_hides_nothing_is_left_out():
    assert parts_of(samples.plain).of("mask") == []


def test_anchors_stay_visible():
    (mask,) = parts_of(samples.anchored, 32).of("mask")
    i, j = np.mgrid[:32, :32]
    assert (mask.values[0] == ((j <= i) & ((i - j < 8) | (j < 4)))).all()


def test_bias_of_alibi_is_the_slope_times_the_distance():
    (bias,) = parts_of(samples.alibi).of("bias")
    i, j = np.mgrid[:12, :12]
    expected = -(0.5 ** np.arange(1, 9))[:, None, None] * (i - j)
    np.testing.assert_allclose(bias.values, np.where(bias.hidden, 0, expected), rtol=1e-6)


def test_weights_of_alibi_are_the_softmax_of_its_bias():
    parts = parts_of(samples.alibi)
    (bias,), (weights,) = parts.of("bias"), parts.of("weights")
    scores = np.where(bias.hidden, -np.inf, bias.values)
    expected = torch.softmax(torch.from_numpy(scores), -1).numpy()
    np.testing.assert_allclose(weights.values, expected, atol=1e-6)


def test_heads_that_look_alike_are_drawn_once():
    parts = parts_of(samples.alibi)
    assert [len(part.values) for part in parts.parts] == [1, 8, 8]


def test_heads_with_masks_of_their_own_are_all_drawn():
    (mask,) = parts_of(samples.strides, 6, heads=3).of("mask")
    i, j = np.mgrid[:6, :6]
    assert (mask.values == [(i - j) % (head + 1) == 0 for head in range(3)]).all()


@pytest.mark.parametrize(
    ("program", "contents"),
    [
        (samples.causal, "none"),
        (samples.alibi, "none"),
        (samples.plain, "random"),
        (samples.additive, "random"),
        (samples.rotary, "alike"),
        (samples.cosine, "alike"),
        (samples.best, "random"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_contents_are_those_that_show_most(program, contents):
    assert parts_of(program).contents == contents


def test_parts_of_several_terms_are_named():
    parts = parts_of(samples.mixture)
    named = [(part.kind, part.term) for part in parts.parts]
    assert named == [("mask", "local"), ("bias", "wide"), ("weights", "")]
    assert not parts.of("weights")[0].hidden.any()


def test_table_that_starts_at_zero_is_imagined_and_said_so():
    parts = parts_of(samples.buckets)
    assert parts.notes == ("bias starts at 0 and is shown with random values",)
    (bias,) = parts.of("bias")
    assert (np.diff(bias.values[0].diagonal()) == 0).all() and bias.values.std() > 0.5


def test_given_table_is_drawn_as_given():
    table = torch.arange(18.0).view(2, 9)
    parts = parts_of(samples.buckets, bias=table)
    (bias,) = parts.of("bias")
    assert parts.notes == ()
    assert bias.values.shape == (2, 12, 12) and (bias.values[1].diagonal() == 13).all()


def test_conditions_are_imagined_so_that_queries_see():
    parts = parts_of(samples.masked)
    assert parts.of("mask") == []
    assert parts.notes == ("dense = 0", "real is true everywhere", "padding is false everywhere")


def test_score_of_minus_infinity_hides():
    dense = torch.zeros(1, 1, 12, 12)
    dense[..., 5:] = -torch.inf
    (mask,) = parts_of(samples.masked, dense=dense).of("mask")
    assert mask.hidden[..., 5:].all() and not mask.hidden[..., :5].any()


def test_given_features_decide_what_is_seen():
    numbers = torch.tensor([0] * 4 + [1] * 8)
    (mask,) = parts_of(samples.documents, doc_q=numbers, doc_k=numbers).of("mask")
    assert 1 - mask.hidden.mean() == pytest.approx((16 + 64) / 144)


def test_weights_that_are_no_number_are_hidden_and_said_so():
    parts = parts_of(samples.never_finite)
    (weights,) = parts.of("weights")
    assert np.isfinite(weights.values).all() and weights.hidden.all()
    assert parts.notes == ("54% of the weights are no finite numbers",)


def test_given_contents_are_used():
    q = torch.zeros(1, 1, 12, 16)
    q[..., 0] = 40.0
    k = torch.zeros(1, 1, 12, 16)
    k[..., 3, 0] = 1.0
    (weights,) = parts_of(samples.plain, q=q, k=k).of("weights")
    assert (weights.values[0, :, 3] > 0.99).all()


def test_given_contents_are_called_so_and_no_bias():
    rows = torch.ones(1, 8, 12, 16)
    found = parts_of(samples.alibi, q=rows, k=rows)
    assert found.contents == "given" and not found.of("bias")
    assert parts_of(samples.alibi).contents == "none" and parts_of(samples.alibi).of("bias")


def test_widths_that_nothing_decides_are_imagined():
    @rg.program
    def free(pair):
        rows = rg.query_vector("rows")
        score = rg.dot(rows[20:24], pair.k[:4]) + rg.dot(rg.query_vector("a"), rg.key_vector("b"))
        units = rg.parameter("units", per="channel", init=rg.init.ones)
        return rg.softmax(score + rg.sum(units * rg.relu(units * pair.i)))

    (weights,) = parts_of(free).of("weights")
    assert np.isfinite(weights.values).all()


def test_matrix_of_a_projection_is_imagined_as_wide_as_it_must_be():
    @rg.program
    def mapped(pair):
        matrix = rg.table("matrix", per=("channel", "channel"))
        return rg.softmax(rg.sum(rg.project(pair.q, matrix, 5) * rg.project(pair.k, matrix, 5)))

    assert parts_of(mapped).of("weights")


def test_what_only_values_and_finish_read_is_not_needed():
    assert parts_of(samples.finished).notes == ()


def test_queries_and_keys_may_differ():
    (weights,) = parts_of(samples.alibi, 5, 9).of("weights")
    assert weights.values.shape == (8, 5, 9)


def test_drawing_takes_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    parts_of(samples.additive)
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_input_is_an_error_with_the_nearest_name():
    with pytest.raises(rg.InputError, match=r"alibi reads no 'slop'; did you mean 'slope'"):
        parts_of(samples.alibi, slop=torch.ones(8))


def test_given_input_of_a_wrong_shape_is_an_error():
    with pytest.raises(rg.InputError, match=r"parameter 'slope' has shape \(3,\); expected \(2\)"):
        parts_of(samples.alibi, heads=2, slope=torch.ones(3))


def test_data_of_every_kind_is_imagined():
    @rg.program
    def rich(pair):
        near = rg.clip(pair.j - pair.i + 4, 0, 8)
        layout = rg.table("layout", per=("rows", "rows"))
        score = rg.dot(pair.q, pair.k + rg.table("keys", per=("rows", "channel"))[near])
        score = score / rg.scalar("heat") + rg.scalar("cold", 0.5)
        score = score + rg.table("kinds")[rg.key_feature("kind")] + rg.table("far")[near]
        return rg.softmax(score, where=layout[pair.i // 4, pair.j // 4])

    parts = parts_of(rich)
    assert set(parts.notes) == {
        "layout is true everywhere",
        "keys is shown with random values",
        "heat = 1",
        "kind = 0",
        "kinds is shown with random values",
        "far is shown with random values",
    }
    assert parts.contents == "none" and parts.of("mask") == []
    (bias,) = parts.of("bias")
    assert len({float(bias.values[0, i, i]) for i in range(12)}) == 1
