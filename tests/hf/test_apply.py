"""A model re-programmed by a mode: every role its own program, and nothing lost on the way."""

import copy
import pickle
import threading

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomModel,
    DynamicCache,
    MarianForCausalLM,
    MarianModel,
)
from transformers.cache_utils import EncoderDecoderCache

import regard as rg
from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf.apply import find_places
from regard.modes import Assignment, Mode
from tests.hf.models import (
    CROSS,
    DECODER,
    ENCODER,
    EVERYWHERE,
    MODES,
    WORDS,
    generate,
    marian,
    padded,
)
from tests.nn import programs as p

NEXT = torch.randint(2, WORDS, (3, 6), generator=torch.Generator().manual_seed(1))
OWN = Mode("own", "what the model does anyway", encoder=p.plain, decoder=p.plain, cross=p.plain)


@pytest.fixture(params=MODES)
def applied(request):
    return hf.apply(marian(), MODES[request.param])


def logits(model, inputs=None, **options):
    with torch.no_grad():
        call = {**(inputs or padded()), "decoder_input_ids": NEXT, **options}
        return model(**call).logits


def test_every_attention_has_a_place():
    places = [place for _, place in find_places(marian()).values()]
    assert [(one.role, one.layer, one.heads, one.width) for one in places] == [
        ("encoder", 0, 4, 8),
        ("encoder", 1, 4, 8),
        ("decoder", 0, 4, 8),
        ("cross", 0, 4, 8),
        ("decoder", 1, 4, 8),
        ("cross", 1, 4, 8),
    ]


@pytest.mark.parametrize(
    ("part", "roles"),
    [
        (lambda: marian(MarianModel), {"encoder", "decoder", "cross"}),
        (lambda: marian().get_encoder(), {"encoder"}),
        (lambda: marian().get_decoder(), {"decoder", "cross"}),
        (lambda: marian(MarianForCausalLM), {"decoder", "cross"}),
    ],
)
def test_parts_of_a_model_keep_their_roles(part, roles):
    assert {place.role for _, place in find_places(part()).values()} == roles


def test_a_mode_that_says_what_the_model_does_changes_nothing():
    model = marian()
    expected, tokens = logits(model), generate(model, padded(), num_beams=3)
    hf.apply(model, OWN)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    assert torch.equal(generate(model, padded(), num_beams=3), tokens)


def test_a_mode_changes_what_is_computed(applied):
    assert (logits(applied) - logits(marian())).abs().max() > 0.01


def test_learned_parameters_belong_to_the_model():
    model = hf.apply(marian(), EVERYWHERE)
    learned = {
        name.removeprefix("model."): tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if "regard" in name
    }
    table, groups = (4, 17), "regard.groups.{}.learned.{}"
    assert learned == {
        "encoder.layers.0.self_attn." + groups.format(0, "bias"): table,
        "encoder.layers.1.self_attn." + groups.format(0, "bias"): table,
        "decoder.layers.0.self_attn." + groups.format(0, "slope"): (4,),
        "decoder.layers.0.self_attn." + groups.format(1, "a"): (4, 8),
        "decoder.layers.0.encoder_attn." + groups.format(0, "bias"): table,
        "decoder.layers.1.self_attn." + groups.format(0, "bias"): table,
        "decoder.layers.1.encoder_attn." + groups.format(0, "bias"): table,
    }
    assert model.regard_mode is EVERYWHERE


def test_a_later_token_changes_nothing_before_it(applied):
    changed = NEXT.clone()
    changed[:, 3] = (changed[:, 3] + 1) % WORDS
    difference = (logits(applied) - logits(applied, decoder_input_ids=changed)).abs().amax((0, 2))
    assert (difference[:3] == 0).all() and (difference[3:] > 0).all()


def test_no_gradient_comes_from_the_future(applied):
    rows = torch.randn(3, 6, 32, requires_grad=True)
    found = applied(**padded(), decoder_inputs_embeds=rows).logits
    (gradient,) = torch.autograd.grad(found[:, 2].square().sum(), rows)
    assert (gradient[:, 3:] == 0).all() and gradient[:, :3].abs().amax((0, 2)).min() > 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_of_the_encoder_may_hold_anything(applied, side):
    applied.double()
    inputs, mask = padded(side), padded(side)["attention_mask"].bool()
    rows = torch.randn(3, 7, 32, dtype=torch.float64)
    call = {"attention_mask": inputs["attention_mask"], "decoder_input_ids": NEXT}
    found = []
    for junk in (0.0, 100.0, torch.nan):
        filled = torch.where(mask[..., None], rows, junk).requires_grad_()
        output = applied(inputs_embeds=filled, **call).logits
        (gradient,) = torch.autograd.grad(output.square().sum(), filled)
        found.append((output.detach(), gradient))
    clean, dirty, broken = found
    assert (clean[1][~mask] == 0).all() and (dirty[1][~mask] == 0).all()
    torch.testing.assert_close(dirty, clean, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(broken[0], clean[0], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_of_the_decoder_may_hold_anything(applied, side):
    applied.double()
    mask = padded(side)["attention_mask"][:, 1:].bool()
    rows = torch.randn(3, 6, 32, dtype=torch.float64)
    clean, dirty = (
        logits(
            applied, decoder_input_ids=None, decoder_attention_mask=mask.long(),
            decoder_inputs_embeds=torch.where(mask[..., None], rows, junk),
        )[mask]
        for junk in (0.0, torch.nan)
    )  # fmt: skip
    torch.testing.assert_close(dirty, clean, rtol=1e-10, atol=1e-11)


def test_a_padded_sentence_is_as_if_alone(applied):
    inputs = padded()
    whole = logits(applied, inputs)
    for row, length in enumerate((7, 4, 6)):
        alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        found = logits(applied, alone, decoder_input_ids=NEXT[row : row + 1])
        torch.testing.assert_close(found, whole[row : row + 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("beams", [1, 3])
def test_caches_of_any_kind_give_the_tokens_that_no_cache_gives(applied, beams, side):
    inputs = padded(side)
    expected = generate(applied, inputs, use_cache=False, num_beams=beams)
    assert torch.equal(generate(applied, inputs, num_beams=beams), expected)
    static = generate(applied, inputs, num_beams=beams, cache_implementation="static")
    assert torch.equal(static, expected)


def test_cached_steps_are_the_whole_sequence_to_the_last_digit(applied):
    applied.double()
    inputs, cache = padded(), EncoderDecoderCache(DynamicCache(), DynamicCache())
    whole = logits(applied, inputs)
    parts = [
        logits(applied, inputs, decoder_input_ids=part, past_key_values=cache, use_cache=True)
        for part in NEXT.split([3, 1, 1, 1], dim=1)
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-11)


def test_cross_attention_knows_where_the_decoder_is():
    @rg.program
    def diagonal(pair):
        return rg.softmax(-10.0 * abs(pair.i - pair.j))

    model = hf.apply(marian(), Mode("m", cross=diagonal))
    found = generate(
        model, padded(), output_attentions=True, return_dict_in_generate=True, max_new_tokens=6,
        min_new_tokens=6,
    )  # fmt: skip
    looked_at = [step[1][0, :, 0].argmax(-1).tolist() for step in found.cross_attentions]
    assert looked_at == [[step] * 4 for step in range(6)]


def test_a_program_counts_the_tokens_there_are_not_the_cache_or_its_padding():
    model = hf.apply(marian(), Mode("m", encoder=p.counting, decoder=p.counting))
    inputs = padded()
    expected = generate(model, inputs)
    assert torch.equal(generate(model, inputs, cache_implementation="static"), expected)
    alone = {name: value[1:2, :4] for name, value in inputs.items()}
    found = logits(model, alone, decoder_input_ids=NEXT[1:2])
    torch.testing.assert_close(found, logits(model, inputs)[1:2], rtol=0, atol=1e-4)


def test_another_thread_between_two_attentions_changes_nothing():
    model = hf.apply(marian(), CROSS)
    expected, here = generate(model, padded()), threading.current_thread()
    module = model.get_decoder().layers[0].self_attn

    def elsewhere(*_):
        # Its last step stands at another position than ours.
        if threading.current_thread() is here:
            other = threading.Thread(target=generate, args=(model, padded("left")))
            other.start()
            other.join()

    with module.register_forward_hook(elsewhere):
        assert torch.equal(generate(model, padded()), expected)


def test_a_step_of_training_moves_every_learned_parameter():
    model = hf.apply(marian(), EVERYWHERE).train()
    learned = {name: one for name, one in model.named_parameters() if "regard" in name}
    before = {name: one.detach().clone() for name, one in learned.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(**padded(), labels=NEXT).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, one in learned.items():
        assert not torch.equal(one, before[name]), name


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_no_gradient(reentrant):
    model = hf.apply(marian(attention_dropout=0.3, dropout=0.2), EVERYWHERE).double().train()
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            options = {"use_reentrant": reentrant}
            model.activation_checkpointing_enable(options)
        model.zero_grad()
        torch.manual_seed(5)
        # Reentrant checkpoints follow tensors that need a gradient, which ids are not.
        rows = model.get_input_embeddings()(padded()["input_ids"])
        mask = padded()["attention_mask"]
        model(inputs_embeds=rows, attention_mask=mask, labels=NEXT).loss.backward()
        found.append({name: one.grad for name, one in model.named_parameters()})
    for name, gradient in found[0].items():
        if gradient is not None:
            torch.testing.assert_close(found[1][name], gradient, rtol=1e-12, atol=1e-14)


def test_restoring_brings_the_model_back():
    model = marian()
    names, own = set(model.state_dict()), model.config._attn_implementation
    expected, tokens = logits(model), generate(model, padded())
    hf.apply(model, EVERYWHERE)
    assert model.config._attn_implementation == "regard"
    assert hf.restore(model) is model
    assert set(model.state_dict()) == names and model.config._attn_implementation == own
    assert torch.equal(logits(model), expected)
    assert torch.equal(generate(model, padded()), tokens)
    assert not any("regard" in name for name, _ in model.named_modules())
    assert not any(hasattr(module, "regard_place") for module in model.modules())
    assert not hasattr(model, "regard_mode")


def test_restoring_twice_or_without_a_mode_does_nothing():
    model = marian()
    expected = logits(model)
    for _ in range(2):
        assert torch.equal(logits(hf.restore(model)), expected)


def test_applying_again_replaces_the_mode():
    model = marian()
    own = model.config._attn_implementation
    hf.apply(hf.apply(model, EVERYWHERE), ENCODER)
    learned = [name for name, _ in model.named_parameters() if "regard" in name]
    assert len(learned) == 2 and model.regard_mode is ENCODER
    hf.restore(model)
    assert model.config._attn_implementation == own
    assert torch.equal(logits(model), logits(marian()))


@rg.program
def lettered(pair):
    letters = rg.key_feature("letters")
    return rg.softmax(p.score(pair) * rg.scalar("gain", default=1.0) + letters)


@rg.program
def indexed(pair):
    return rg.softmax(p.score(pair) + rg.table("rows")[pair.i - pair.j + 50])


@rg.program
def halved(pair):
    return rg.softmax(p.score(pair) * rg.parameter("half"))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (
            Mode("m", "", [Assignment("decoder", p.causal, layers=(1, 3))]),
            "mode 'm': layers 1:3 of role 'decoder'; there are 2",
        ),
        (
            Mode("m", "", [Assignment("decoder", p.causal, heads=(2, 5))]),
            "mode 'm': heads 2:5 of role 'decoder'; there are 4",
        ),
        (
            Mode(
                "m",
                "",
                [Assignment("encoder", p.plain), Assignment("cross", p.plain, (1, 2), (0, 3))],
            ),
            "mode 'm' assigns no program to head 3 of cross layer 1",
        ),
        (
            Mode("m", encoder=p.plain, cross=lettered),
            "model.decoder.layers.0.encoder_attn: its program reads 'letters', which the model "
            "does not give",
        ),
        (
            Mode("m", encoder=p.plain, decoder=indexed),
            "model.decoder.layers.0.self_attn: its program reads 'rows', which the model does not "
            "give",
        ),
        (
            Mode("m", decoder=halved),
            "model.decoder.layers.0.self_attn: program 'halved': torch's modules have a 'half' of "
            "their own; rename the parameter",
        ),
        (
            "local",
            "hf.apply takes a mode, not 'local'; make one with rg.Mode(name, encoder=program, …)",
        ),
    ],
)
@pytest.mark.parametrize("first", [None, ENCODER])
def test_a_mode_that_does_not_fit_leaves_the_model_as_it_was(mode, message, first):
    model = marian() if first is None else hf.apply(marian(), first)
    expected, names = logits(model), list(model.state_dict())
    own = model.config._attn_implementation
    with pytest.raises(InputError) as error:
        hf.apply(model, mode)
    assert str(error.value) == message
    assert torch.equal(logits(model), expected) and list(model.state_dict()) == names
    assert model.config._attn_implementation == own
    assert getattr(model, "regard_mode", None) is first


def test_a_role_the_model_lacks_is_named():
    with pytest.raises(InputError) as error:
        hf.apply(marian(MarianForCausalLM), Mode("m", decoder=p.causal, encoder=p.plain))
    assert str(error.value) == (
        "mode 'm' has a program for role 'encoder', which this model lacks; "
        "it has cross, decoder, text"
    )


@pytest.mark.parametrize(
    ("model", "kind", "held"),
    [
        (
            lambda: BloomModel(BloomConfig(vocab_size=9, hidden_size=8, n_layer=2, n_head=2)),
            "bloom",
            ": h.0.self_attention and 1 more",
        ),
        (lambda: torch.nn.Linear(2, 2), "Linear", ""),
    ],
)
def test_a_model_that_never_asks_for_attention_is_refused_by_name(model, kind, held):
    with pytest.raises(UnsupportedError) as error:
        hf.apply(model(), ENCODER)
    assert str(error.value) == (
        f"models of type '{kind}' run attention of their own and never ask transformers for an "
        f"attention function, so it cannot be replaced{held}"
    )


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_is_programmed_too(again):
    model = hf.apply(marian(), EVERYWHERE)
    other = again(model)
    assert other.regard_mode == EVERYWHERE
    assert torch.equal(logits(other), logits(model))
    assert torch.equal(generate(other, padded()), generate(model, padded()))
    hf.restore(model)
    assert not torch.allclose(logits(other), logits(model))
    assert torch.equal(logits(hf.restore(other)), logits(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("after", [True, False])
def test_a_model_may_be_of_another_precision(dtype, after):
    exact = hf.apply(marian(), EVERYWHERE)
    model = marian() if after else marian().to(dtype)
    hf.apply(model, EVERYWHERE)
    if after:
        model = model.to(dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    model.load_state_dict(exact.state_dict())
    found, expected = logits(model), logits(exact)
    assert found.dtype == dtype
    error = (found.double() - expected.double()).abs().mean() / expected.abs().mean()
    assert error < 20 * torch.finfo(dtype).eps + 1e-6
    assert generate(model, padded(), num_beams=2).shape == (3, 9)


def test_a_decoder_alone_generates_with_its_program():
    model = hf.apply(marian(MarianForCausalLM), DECODER)
    inputs = padded("left")
    expected = generate(model, inputs, use_cache=False)
    assert torch.equal(generate(model, inputs), expected)
    assert not torch.equal(generate(hf.restore(model), inputs), expected)


def test_applying_keeps_training_or_evaluation():
    assert hf.apply(marian(), ENCODER).get_encoder().layers[0].self_attn.regard.training is False
    assert hf.apply(marian().train(), ENCODER).get_encoder().layers[0].self_attn.regard.training
