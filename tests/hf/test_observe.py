"""Weights of every layer of one role, whatever attention the model runs."""

import pytest
import torch

from regard import hf
from regard.errors import UnsupportedError
from tests.hf.models import EVERYWHERE, WORDS, marian, padded

CALL = {
    **padded(),
    "decoder_input_ids": torch.randint(
        2, WORDS, (3, 6), generator=torch.Generator().manual_seed(1)
    ),
}
NAMES = {
    "encoder": "encoder_attentions",
    "decoder": "decoder_attentions",
    "cross": "cross_attentions",
}


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("own", ["eager", "sdpa"])
def test_weights_of_a_model_are_its_own_and_it_stays_as_it_was(role, own):
    model = marian()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(**CALL, output_attentions=True)[NAMES[role]]
    model.set_attn_implementation(own)
    found = hf.record_weights(model, role, **CALL)
    assert model.config._attn_implementation == own
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("role", NAMES)
def test_weights_of_a_mode_are_those_of_its_programs(role):
    model = hf.apply(marian(), EVERYWHERE)
    with torch.no_grad():
        expected = model(**CALL, output_attentions=True)[NAMES[role]]
    found = hf.record_weights(model, role, **CALL)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    # Nothing goes on being recorded.
    assert NAMES[role] not in model(**CALL)


def test_a_model_is_put_back_when_a_call_fails():
    model = marian()
    own = model.config._attn_implementation
    with pytest.raises(UnsupportedError, match="MarianAttention passes 'indices'"):
        hf.record_weights(model, "cross", **CALL, indices=torch.ones(1))
    assert model.config._attn_implementation == own
    assert model(**CALL).cross_attentions is None
