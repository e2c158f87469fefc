"""Several programs in one layer, each on its own heads, as if the layer were many."""

import pytest
import torch

import regard as rg
from regard.errors import InputError
from regard.nn.programmed import Programmed
from tests.nn import programs as p


@rg.program
def per_head(pair):
    """Everything that may differ by head and is given with the call."""
    bias = rg.query_feature("asked") * rg.key_feature("offered") + rg.pair_input("link")
    return rg.softmax(p.score(pair) + bias + rg.dot(rg.query_vector("q2"), rg.key_vector("k2")))


@rg.program
def numbered(pair):
    return rg.softmax(p.score(pair) * (1 + pair.head), where=pair.j <= pair.i)


def qkv(heads=6, key_heads=6):
    q = torch.randn(2, heads, 7, 8, dtype=torch.float64)
    k, v = torch.randn(2, 2, key_heads, 7, 8, dtype=torch.float64)
    return q, k, v


def make(groups, heads=6, key_heads=None):
    return Programmed(groups, heads, 8, key_heads=key_heads).double().eval()


def test_each_head_runs_its_own_program():
    q, k, v = qkv()
    found = make([((0, 1), p.plain), ((1, 4), p.alibi), ((4, 6), p.causal)])(q, k, v)
    slope = torch.tensor(
        [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3], dtype=torch.float64
    )
    whole = (rg.attend(p.plain, q, k, v), rg.attend(p.alibi, q, k, v, slope=slope))
    last = rg.attend(p.causal, q, k, v)
    expected = torch.cat([whole[0][:, :1], whole[1][:, 1:4], last[:, 4:]], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("key_heads", [2, 3, 6])
def test_a_head_knows_its_number_in_the_layer(key_heads):
    q, k, v = qkv(key_heads=key_heads)
    at = {2: 3, 3: 2, 6: 1}[key_heads]
    grouped = make([((0, at), numbered), ((at, 6), numbered)], key_heads=key_heads)
    expected = rg.attend(numbered, q, k, v)
    torch.testing.assert_close(grouped(q, k, v), expected, rtol=0, atol=1e-12)


def test_parameters_of_one_name_are_learned_apart():
    layer = make([((0, 3), p.relative), ((3, 6), p.distant)])
    first, second = (group.learned.bias for group in layer.groups)
    q, k, v = qkv()
    layer(q, k, v)[:, 3:].sum().backward()
    assert not torch.equal(first, second)
    assert first.grad.abs().max() == 0
    # A table per head has a row for every head of the layer; a group touches its own.
    assert second.grad[:3].abs().max() == 0 and second.grad[3:].abs().amax(1).min() > 0


def test_a_program_may_read_what_the_others_do_not():
    q, k, v = qkv()
    layer = make([((0, 2), p.important), ((2, 4), p.plain), ((4, 6), p.heated)])
    importance = torch.randn(2, 1, 7, dtype=torch.float64)
    found = layer(q, k, v, importance=importance, temperature=0.5)
    first = rg.attend(p.important, q, k, v, importance=importance)[:, :2]
    second = rg.attend(p.plain, q, k, v)[:, 2:4]
    third = rg.attend(p.heated, q, k, v, temperature=0.5)[:, 4:]
    torch.testing.assert_close(found, torch.cat([first, second, third], 1), rtol=0, atol=1e-12)
    assert layer.needs == ["importance", "temperature"]


@pytest.mark.parametrize("key_heads", [3, 6])
@pytest.mark.parametrize("full", [True, False])
def test_inputs_with_an_axis_of_heads_are_given_for_the_whole_layer(key_heads, full):
    q, k, v = qkv(key_heads=key_heads)
    heads, groups = (6, key_heads) if full else (1, 1)
    given = {
        "asked": torch.randn(2, heads, 7, dtype=torch.float64),
        "offered": torch.randn(2, groups, 7, dtype=torch.float64),
        "link": torch.randn(1, heads, 7, 7, dtype=torch.float64),
        "q2": torch.randn(2, 6, 7, 3, dtype=torch.float64),
        "k2": torch.randn(2, key_heads, 7, 3, dtype=torch.float64),
    }
    grouped = make([((0, 2), per_head), ((2, 6), per_head)], key_heads=key_heads)
    expected = rg.attend(per_head, q, k, v, **given)
    torch.testing.assert_close(grouped(q, k, v, **given), expected, rtol=0, atol=1e-12)


def test_a_key_feature_may_be_given_per_query_head():
    q, k, v = qkv(key_heads=3)
    importance = torch.randn(2, 6, 7, dtype=torch.float64)
    grouped = make([((0, 2), p.important), ((2, 6), p.important)], key_heads=3)
    expected = rg.attend(p.important, q, k, v, importance=importance)
    torch.testing.assert_close(
        grouped(q, k, v, importance=importance), expected, rtol=0, atol=1e-12
    )


def test_a_mask_per_head_reaches_its_head():
    q, k, v = qkv()
    mask = torch.rand(2, 6, 7, 7) < 0.6
    grouped = make([((0, 2), p.plain), ((2, 6), p.plain)])
    whole = make(p.plain)
    torch.testing.assert_close(
        grouped(q, k, v, mask=mask), whole(q, k, v, mask=mask), rtol=0, atol=1e-12
    )


def test_groups_draw_dropout_as_one_layer_would():
    q, k, v = qkv()
    grouped = make([((0, 2), p.plain), ((2, 6), p.plain)]).train()
    whole = make(p.plain).train()
    found = grouped(q, k, v, dropout=0.5, seed=3)
    torch.testing.assert_close(found, whole(q, k, v, dropout=0.5, seed=3), rtol=0, atol=1e-12)
    same = q[:, :1].expand_as(q), k[:, :1].expand_as(k), v[:, :1].expand_as(v)
    heads = grouped(*same, dropout=0.5, seed=3).unbind(1)
    assert all(not torch.allclose(heads[0], head) for head in heads[1:])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 2), (3, 6)], "must follow each other from 0 to 6 without gaps"),
        ([(0, 4), (2, 6)], "must follow each other from 0 to 6 without gaps"),
        ([(2, 6)], "must follow each other from 0 to 6 without gaps"),
        ([(0, 0), (0, 6)], "must follow each other from 0 to 6 without gaps"),
        ([(0, 4)], "end at head 4; the layer has 6"),
        ([(0, 8)], "end at head 8; the layer has 6"),
    ],
)
def test_groups_that_do_not_cover_the_heads_are_refused(spans, message):
    with pytest.raises(InputError) as error:
        make([(span, p.plain) for span in spans])
    assert str(error.value) == f"head groups {spans} {message}"


def test_a_group_may_not_split_a_key_head():
    message = "heads 0:1 split a key head; 2 heads share one"
    with pytest.raises(InputError, match=message):
        make([((0, 1), p.plain), ((1, 6), p.plain)], key_heads=3)


@pytest.mark.parametrize("groups", [[], [p.plain], [((0, 6), "plain")], 5])
def test_what_is_no_list_of_groups_is_refused(groups):
    with pytest.raises(InputError) as error:
        make(groups)
    assert str(error.value) == (
        "a layer runs a program, or ((first head, head after the last), program) pairs; "
        f"found {groups!r}"
    )


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 3), (2, 4), (0, 1), (4, 0), (4, -2)])
def test_heads_that_are_no_multiple_of_key_heads_are_refused(heads, key_heads):
    message = f"{heads} heads are no multiple of {key_heads} key heads"
    with pytest.raises(InputError, match=message):
        Programmed(p.plain, heads, 8, key_heads=key_heads)
