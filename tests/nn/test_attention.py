"""`Attention`: projections around a program, with what a layer brings: lengths, masks, grouping."""

import copy
import pickle

import pytest
import torch

import regard as rg
from regard.errors import InputError
from tests.nn import programs as p

SLOPES = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8], dtype=torch.float64)
POSITIONS = torch.arange(7)
DISTANCE = (POSITIONS[:, None] - POSITIONS).double()


def make(program, width=32, heads=4, **options):
    return rg.nn.Attention(program, width, heads, **options).double().eval()


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def heads_of(linear, x, heads):
    batch, length, _ = x.shape
    return linear(x).view(batch, length, heads, -1).transpose(1, 2)


def by_hand(layer, x, context=None, bias=0.0, visible=None):
    """Scaled dot-product attention from a layer's own projections, in plain torch."""
    context = x if context is None else context
    q, k, v = (
        heads_of(linear, source, heads)
        for linear, source, heads in (
            (layer.q, x, layer.heads),
            (layer.k, context, layer.key_heads),
            (layer.v, context, layer.key_heads),
        )
    )
    k, v = (row.repeat_interleave(layer.heads // layer.key_heads, dim=1) for row in (k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5 + bias
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    mixed = scores.softmax(-1).nan_to_num() @ v
    return layer.o(mixed.transpose(1, 2).flatten(2))


def test_projections_are_separate_and_learned_parameters_keep_their_names():
    layer = make([((0, 2), p.alibi), ((2, 4), p.additive)])
    projections = {f"{name}.{part}" for name in "qkvo" for part in ("weight", "bias")}
    learned = {"programmed.groups.0.learned.slope", "programmed.groups.1.learned.a"}
    assert set(layer.state_dict()) == projections | learned
    assert {name for name, _ in layer.named_parameters()} == projections | learned


def test_attention_is_projections_around_the_program():
    layer, x = make(p.plain), rows(2, 7, 32)
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=0, atol=1e-12)


def test_learned_slopes_start_at_their_initialiser_and_belong_to_their_head():
    layer, x = make(p.alibi), rows(2, 7, 32)
    near = (DISTANCE >= 0) & (DISTANCE < 5)
    assert torch.equal(layer.programmed.groups[0].learned.slope, SLOPES)
    expected = by_hand(layer, x, bias=-SLOPES.view(4, 1, 1) * DISTANCE, visible=near)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_grouped_key_heads_equal_repeated_ones(key_heads):
    layer, x = make(p.alibi, key_heads=key_heads), rows(2, 7, 32)
    assert layer.k.out_features == layer.v.out_features == key_heads * 8
    near = (DISTANCE >= 0) & (DISTANCE < 5)
    expected = by_hand(layer, x, bias=-SLOPES.view(4, 1, 1) * DISTANCE, visible=near)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_heads_may_have_a_width_of_their_own():
    layer, x = make(p.plain, width=30, heads=4, head_width=5, bias=False), rows(2, 7, 30)
    assert layer.q.out_features == 20 and layer.q.bias is None
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=0, atol=1e-12)


def test_a_context_may_have_a_width_and_a_length_of_its_own():
    layer = make(p.plain, context_width=12)
    x, context, lengths = rows(2, 7, 32), rows(2, 5, 12), torch.tensor([5, 2])
    visible = (torch.arange(5) < lengths[:, None])[:, None, None]
    expected = by_hand(layer, x, context, visible=visible)
    found = layer(x, context, context_lengths=lengths)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("program", [p.plain, p.alibi, p.additive, p.counting])
def test_a_row_is_as_if_it_ended_at_its_length(program):
    layer, x = make(program), rows(2, 7, 32)
    x[1, 4:] = torch.nan
    found = layer(x, lengths=[7, 4])
    torch.testing.assert_close(found[:1], layer(x[:1]), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1:, :4], layer(x[1:, :4]), rtol=0, atol=1e-12)
    # What does not exist attends to nothing.
    assert torch.equal(found[1, 4:], layer.o.bias.expand(3, 32))


def test_a_mask_hides_what_a_where_would():
    layer, x = make(p.plain), rows(2, 7, 32)
    other = make(p.causal)
    other.load_state_dict(layer.state_dict())
    mask = (DISTANCE >= 0).view(1, 1, 7, 7)
    torch.testing.assert_close(layer(x, mask=mask), other(x), rtol=0, atol=1e-12)


def test_a_mask_may_differ_by_row_and_head_and_leave_nothing():
    layer, x = make(p.plain), rows(2, 7, 32)
    mask = torch.rand(2, 4, 7, 7) < 0.5
    mask[1, :, 3] = False
    found = layer(x, mask=mask)
    torch.testing.assert_close(found, by_hand(layer, x, visible=mask), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1, 3], layer.o.bias, rtol=0, atol=0)


def test_a_mask_adds_to_the_programs_own_where():
    layer, x = make(p.causal), rows(2, 7, 32)
    mask = torch.rand(2, 1, 7, 7) < 0.7
    expected = by_hand(layer, x, visible=mask & (DISTANCE >= 0))
    torch.testing.assert_close(layer(x, mask=mask), expected, rtol=0, atol=1e-12)


def test_further_inputs_of_the_program_are_keywords():
    layer, x = make(p.important), rows(2, 7, 32)
    importance = rows(2, 1, 7)
    expected = by_hand(layer, x, bias=importance[:, :, None])
    torch.testing.assert_close(layer(x, importance=importance), expected, rtol=0, atol=1e-12)
    layer = make(p.heated)
    q, k, v = (heads_of(linear, x, 4) for linear in (layer.q, layer.k, layer.v))
    mixed = (q @ k.mT / 8**0.5 / 0.5 * 2).softmax(-1) @ v
    expected = layer.o(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, temperature=0.5), expected, rtol=0, atol=1e-12)


def test_what_was_observed_comes_beside_the_output():
    layer, x = make([((0, 2), p.plain), ((2, 4), p.causal)]), rows(2, 7, 32)
    output, seen = layer(x, observe=("weights", "lse"))
    torch.testing.assert_close(output, layer(x), rtol=0, atol=1e-12)
    assert seen["weights"].shape == (2, 4, 7, 7) and seen["lse"].shape == (2, 4, 7)
    torch.testing.assert_close(seen["weights"].sum(-1), torch.ones(2, 4, 7, dtype=torch.float64))
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    assert seen["weights"][:, 2:, future].abs().max() == 0
    assert seen["weights"][:, :2, future].min() > 0


@pytest.mark.parametrize("program", [p.alibi, p.relative, p.additive])
def test_every_parameter_learns(program):
    layer = make(program).train()
    layer(rows(2, 7, 32)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        # Adding a number to all keys changes no softmax.
        small = name == "k.bias" and program is not p.additive
        assert (parameter.grad.abs().max() < 1e-10) == small, name


def test_gradients_of_the_program_are_right():
    layer, x = make(p.relative, width=4, heads=2), rows(1, 5, 4).requires_grad_()
    bias = layer.programmed.groups[0].learned.bias
    assert torch.autograd.gradcheck(lambda x, _: layer(x), (x, bias))


def test_reset_puts_every_learned_parameter_back():
    layer = make([((0, 2), p.alibi), ((2, 4), p.relative)])
    with torch.no_grad():
        for parameter in layer.programmed.parameters():
            parameter.fill_(7.0)
    layer.programmed.reset_parameters()
    assert torch.equal(layer.programmed.groups[0].learned.slope, SLOPES)
    drawn = layer.programmed.groups[1].learned.bias
    assert 0.5 < drawn.std() < 1.5 and abs(drawn.mean()) < 0.5


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_computes_the_same_and_learns_alone(again):
    layer, x = make([((0, 2), p.alibi), ((2, 4), p.additive)]), rows(2, 7, 32)
    other = again(layer)
    assert torch.equal(other(x), layer(x))
    with torch.no_grad():
        other.programmed.groups[0].learned.slope.add_(1)
    assert torch.equal(layer.programmed.groups[0].learned.slope, SLOPES)


def test_a_state_dict_carries_everything_learned():
    layer, x = make([((0, 2), p.relative), ((2, 4), p.additive)]), rows(2, 7, 32)
    other = make([((0, 2), p.relative), ((2, 4), p.additive)])
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_a_parameter_may_be_called_as_a_dictionarys_method():
    @rg.program
    def named(pair):
        gain = rg.parameter("keys", init=rg.init.ones) + rg.parameter("update", init=rg.init.zeros)
        return rg.softmax(p.score(pair) * gain)

    layer, x = make(named), rows(2, 7, 32)
    assert {"programmed.groups.0.learned.keys", "programmed.groups.0.learned.update"} < set(
        layer.state_dict()
    )
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=0, atol=1e-12)


def test_parameters_on_further_rows_learn_their_width():
    @rg.program
    def tagged(pair):
        tag = rg.key_vector("tag")
        weight = rg.parameter("weight", per="channel", init=rg.init.normal(1.0))
        return rg.softmax(p.score(pair) + rg.sum(weight * tag))

    layer, x, tag = make(tagged, widths={"tag": 3}), rows(2, 7, 32), rows(2, 4, 7, 3)
    weight = layer.programmed.groups[0].learned.weight
    assert weight.shape == (3,)
    expected = by_hand(layer, x, bias=(tag @ weight)[:, :, None])
    torch.testing.assert_close(layer(x, tag=tag), expected, rtol=0, atol=1e-12)


def test_parameters_that_meet_no_row_have_the_width_said():
    @rg.program
    def agreeing(pair):
        small = rg.init.normal(1.0)
        one, other = (rg.parameter(name, per="channel", init=small) for name in ("one", "other"))
        return rg.softmax(p.score(pair) * rg.sum(one * other))

    layer, x = make(agreeing, widths={"one": 5, "other": 5}), rows(2, 7, 32)
    learned = layer.programmed.groups[0].learned
    assert learned.one.shape == learned.other.shape == (5,)
    q, k, v = (heads_of(made, x, 4) for made in (layer.q, layer.k, layer.v))
    scores = (learned.one @ learned.other) * (q @ k.mT) / q.shape[-1] ** 0.5
    expected = layer.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"parameter 'one' has; .* give a layer widths="):
        make(agreeing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30}, "width 30 is no multiple of 4 heads; give head_width"),
        ({"key_heads": 3}, "4 heads are no multiple of 3 key heads"),
        ({"heads": 0}, "heads=0 must be at least 1"),
        ({"width": -32}, "width=-32 must be at least 1"),
        ({"key_heads": 0}, "key_heads=0 must be at least 1"),
        ({"head_width": 0}, "head_width=0 must be at least 1"),
        ({"context_width": 0}, "context_width=0 must be at least 1"),
        ({"dropout": 1.0}, "dropout 1.0 is outside 0 … 1"),
        ({"dropout": -0.1}, "dropout -0.1 is outside 0 … 1"),
        (
            {"program": "plain"},
            "a layer runs a program, or ((first head, head after the last), program) pairs; "
            "found 'plain'; of a name of the catalogue, rg.catalogue.find(name).program is one",
        ),
    ],
)
def test_a_layer_that_cannot_be_says_why(options, message):
    with pytest.raises(InputError) as error:
        rg.nn.Attention(**{"program": p.plain, "width": 32, "heads": 4, **options})
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["layer_mask", "layer_dropout"])
def test_a_parameter_with_the_name_of_what_a_layer_adds_is_refused(name):
    @rg.program
    def confused(pair):
        return rg.softmax(p.score(pair) * rg.parameter(name))

    message = f"program 'confused': a layer has a '{name}' of its own; rename the input"
    with pytest.raises(InputError, match=message):
        make(confused)


@pytest.mark.parametrize("name", ["mask", "dropout", "context", "lengths", "cache"])
def test_an_input_with_the_name_of_a_layers_own_is_refused(name):
    @rg.program
    def confused(pair):
        return rg.softmax(p.score(pair) * rg.scalar(name))

    message = f"program 'confused': a layer has a '{name}' of its own; rename the input"
    with pytest.raises(InputError, match=message):
        make(confused)


def test_a_parameter_with_the_name_of_a_modules_method_is_refused():
    @rg.program
    def confused(pair):
        return rg.softmax(p.score(pair) * rg.parameter("half"))

    message = "program 'confused': torch's modules have a 'half' of their own; rename the parameter"
    with pytest.raises(InputError, match=message):
        make(confused)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"context_lengths": [3, 2]},
            "context_lengths are given without a context; for x itself, lengths=…",
        ),
        (
            {"mask": torch.ones(2, 7, 7, dtype=torch.bool)},
            "mask has shape (2, 7, 7); expected (2 or 1, 4 or 1, 7, 7)",
        ),
        (
            {"mask": torch.ones(2, 2, 7, 7, dtype=torch.bool)},
            "mask has shape (2, 2, 7, 7); expected (2 or 1, 4 or 1, 7, 7)",
        ),
        (
            {"mask": torch.ones(2, 1, 7, 7)},
            "mask has dtype torch.float32; it must be bool, true where visible",
        ),
        ({"lengths": [8, 2]}, "query_lengths holds 8 or a negative number; there are 7 rows"),
        ({"slope": torch.ones(4)}, "'slope' is learned by the layer and cannot be given"),
    ],
)
def test_a_call_that_does_not_fit_says_why(options, message):
    with pytest.raises(InputError) as error:
        make(p.alibi)(rows(2, 7, 32), **options)
    assert str(error.value) == message


def test_an_unknown_or_missing_input_is_named():
    with pytest.raises(InputError, match="the program reads no 'importanse'; did you mean 'import"):
        make(p.important)(rows(2, 7, 32), importanse=rows(2, 1, 7))
    with pytest.raises(InputError, match="reads the feature 'importance', which was not given"):
        make(p.important)(rows(2, 7, 32))
