"""The name "regard" alone, on tiny models of many architectures: exactly their own attention."""

import pytest
import torch

from regard.hf.bias import DistanceBias
from regard.hf.masks import Mask
from regard.hf.places import find_places
from tests.hf.architectures import ARCHITECTURES, SAMPLE, inputs, tiny

NAMES = [
    pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in ARCHITECTURES
]
WRITERS = [
    pytest.param(name, marks=() if name in SAMPLE[3:9] else pytest.mark.slow)
    for name in ARCHITECTURES
    if ARCHITECTURES[name][0].endswith(("CausalLM", "LMHeadModel", "Generation", "MTModel"))
]
WAYS = {
    "greedy": {},
    "without a cache": {"use_cache": False},
    "static": {"cache_implementation": "static"},
    "beams": {"num_beams": 3},
    "sampled": {"do_sample": True},
}


def numbers(model, call):
    """Return the floating outputs of a call that say something of real tokens."""
    mask, found = call.get("attention_mask"), []
    for name, value in model(**call).items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            continue
        if mask is not None and value.shape[:2] == mask.shape and not name.startswith("encoder"):
            value = value[mask.bool()]
        if name.startswith("encoder") and mask is not None and value.shape[:2] == mask.shape:
            value = value[mask.bool()]
        found.append(value)
    return found


@pytest.fixture
def made_dense(monkeypatch):
    """Count how often a mask or bias that is a program is made dense."""
    counts = []
    for kind in (Mask, DistanceBias):
        own = kind.dense
        monkeypatch.setattr(kind, "dense", lambda self, own=own: (counts.append(1), own(self))[1])
    return counts


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_models_own_and_no_mask_is_made_dense(name, side, made_dense):
    model = tiny(name)
    call = inputs(model, side)
    with torch.no_grad():
        model.set_attn_implementation("eager")
        expected = numbers(model, call)
        model.set_attn_implementation("regard")
        found = numbers(model, call)
        # T5's dense bias is given up from the second call on.
        again = numbers(model, call)
    assert expected and len(found) == len(expected)
    for one, other, own in zip(found, again, expected, strict=True):
        scale = max(1.0, own.abs().max().item())
        torch.testing.assert_close(one, own, rtol=0, atol=1e-5 * scale)
        torch.testing.assert_close(other, own, rtol=0, atol=1e-5 * scale)
    assert len(made_dense) == 0 or name in MADE_BY_THE_MODEL


# BEiT adds its bias to the mask.
MADE_BY_THE_MODEL = ("beit",)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_models_own(name):
    model = tiny(name)
    call = inputs(model, "right")
    found = []
    # Twice, because T5's dense bias is given up from the second call on.
    for implementation in ("eager", "regard", "regard"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        sum(one.square().sum() for one in numbers(model, call)).backward()
        found.append({key: x.grad for key, x in model.named_parameters() if x.grad is not None})
    own, *others = found
    # What rounds to zero, such as a key's bias gets, is compared with what does not.
    scale = max(gradient.abs().max().item() for gradient in own.values())
    for other in others:
        assert own.keys() == other.keys()
        for key, gradient in own.items():
            error = (other[key] - gradient).abs().max().item()
            assert error <= 1e-5 * scale, key


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WRITERS)
def test_generated_tokens_are_the_models_own(name, way):
    model = tiny(name)
    call = {key: value for key, value in inputs(model).items() if key != "decoder_input_ids"}
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, **WAYS[way]}
    written = []
    for implementation in ("eager", "regard"):
        model.set_attn_implementation(implementation)
        torch.manual_seed(0)
        written.append(model.generate(**call, **options))
    assert torch.equal(*written)


ROLES = {
    "bert": {"encoder": 2, "text": 2},
    "albert": {"encoder": 1, "text": 1},
    "gpt2": {"decoder": 2, "text": 2},
    "t5": {"encoder": 2, "decoder": 2, "cross": 2, "text": 4},
    "whisper": {"encoder": 2, "decoder": 2, "cross": 2, "audio": 2, "text": 2},
    "wav2vec2": {"encoder": 2, "audio": 2},
    "swin": {"encoder": 4, "vision": 4},
    "clip": {"encoder": 4, "text": 2, "vision": 2},
    "paligemma": {"encoder": 2, "decoder": 2, "text": 2, "vision": 2},
}
SIZES = {
    "bert": (4, 4, 8, 8),
    "gpt2": (4, 4, 8, 8),
    "gemma2": (4, 2, 8, 8),
    "deepseek_v3": (4, 4, 12, 6),
    "t5": (4, 4, 8, 8),
    "wav2vec2": (4, 4, 8, 8),
}


@pytest.mark.parametrize("name", ROLES)
def test_a_place_has_a_number_in_each_of_its_roles(name):
    counts = {}
    for _, place in find_places(tiny(name)).values():
        assert place.numbers[place.role] == place.layer
        for role, number in place.numbers.items():
            assert number == counts.setdefault(role, 0)
            counts[role] += 1
    assert counts == ROLES[name]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_a_place_are_those_of_its_calls(name, monkeypatch):
    model = tiny(name)
    found = {(p.heads, p.key_heads, p.width, p.value_width) for _, p in find_places(model).values()}
    assert found == {SIZES[name]}


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "marian"])
def test_assisted_generation_writes_the_same(name):
    model, helper = tiny(name), tiny(name)
    call = {key: value[:1] for key, value in inputs(model).items() if key != "decoder_input_ids"}
    written = []
    for implementation in ("eager", "regard"):
        for one in (model, helper):
            one.set_attn_implementation(implementation)
        options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
        written.append(model.generate(**call, assistant_model=helper, **options))
        written.append(model.generate(**call, **options))
    assert all(torch.equal(one, written[0]) for one in written)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_a_compiled_model_gives_the_same(name):
    model = tiny(name)
    call = inputs(model)
    with torch.no_grad():
        model.set_attn_implementation("eager")
        expected = numbers(model, call)[0]
        model.set_attn_implementation("regard")
        found = numbers(torch.compile(model, backend="eager"), call)[0]
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["bert", "gpt2", "gemma2", "t5", "gpt_oss"])
def test_a_row_of_padding_alone_gives_no_nan(name):
    model = tiny(name).train()
    call = inputs(model)
    call["attention_mask"][1] = 0
    model.set_attn_implementation("regard")
    found = model(**call)[0]
    found[0].square().sum().backward()
    assert found.isfinite().all()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert gradients and all(one.isfinite().all() for one in gradients)
