"""Encoder and decoder layers against the same computation with torch's own attention module."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

import regard as rg
from regard.errors import InputError
from tests.nn import programs as p

CAUSAL = torch.ones(7, 7, dtype=torch.bool).triu(1)


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def randomised(layer):
    """Give norms and biases, which start at 1 and 0, numbers that would show a mistake."""
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.eval()


def torchs(attention):
    """Return torch's multi-head attention with the same weights."""
    width = attention.q.in_features
    same = nn.MultiheadAttention(width, attention.heads, batch_first=True).double().eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            stacked = torch.cat([getattr(getattr(attention, one), name) for one in "qkv"])
            getattr(same, f"in_proj_{name}").copy_(stacked)
            getattr(same.out_proj, name).copy_(getattr(attention.o, name))
    return same


def block(part, x, function):
    if part.norm_first:
        return x + function(part.norm(x))
    return part.norm(x + function(x))


def feed_forward(layer, x):
    first, *_, last = layer.feed_forward
    return last(gelu(first(x)))


def beyond(lengths, size):
    return torch.arange(size) >= torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_layer_is_the_textbooks(norm_first):
    layer = randomised(rg.nn.EncoderLayer(p.plain, 32, 4, norm_first=norm_first).double())
    own, x, lengths = torchs(layer.attention), rows(2, 7, 32), [7, 4]

    def attend(y):
        return own(y, y, y, key_padding_mask=beyond(lengths, 7), need_weights=False)[0]

    expected = block(layer.attention_block, x, attend)
    expected = block(layer.feed_forward_block, expected, lambda y: feed_forward(layer, y))
    found = layer(x, lengths=lengths)
    kept = ~beyond(lengths, 7)
    torch.testing.assert_close(found[kept], expected[kept], rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_decoder_layer_is_the_textbooks(norm_first):
    layer = rg.nn.DecoderLayer(p.causal, p.plain, 32, 4, hidden=48, norm_first=norm_first)
    randomised(layer.double())
    own, cross = torchs(layer.attention), torchs(layer.cross)
    x, context, lengths = rows(2, 7, 32), rows(2, 5, 32), [5, 2]

    def attend(y):
        return own(y, y, y, attn_mask=CAUSAL, need_weights=False)[0]

    def look(y):
        hidden = beyond(lengths, 5)
        return cross(y, context, context, key_padding_mask=hidden, need_weights=False)[0]

    expected = block(layer.attention_block, x, attend)
    expected = block(layer.cross_block, expected, look)
    expected = block(layer.feed_forward_block, expected, lambda y: feed_forward(layer, y))
    found = layer(x, context, context_lengths=lengths)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert layer.feed_forward[0].out_features == 48


@pytest.mark.parametrize("chunks", [[1] * 7, [3, 1, 1, 2], [7]])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_decoder_layer_decodes_step_by_step(chunks, norm_first):
    layer = rg.nn.DecoderLayer(p.relative, p.distant, 32, 4, norm_first=norm_first)
    layer = randomised(layer.double())
    x, context, lengths = rows(2, 7, 32), rows(2, 5, 32), [5, 3]
    caches = rg.nn.KeyValueCache(), rg.nn.KeyValueCache()
    with torch.no_grad():
        whole = layer(x, context, context_lengths=lengths)
        steps = [
            layer(chunk, context, context_lengths=lengths, cache=caches)
            for chunk in x.split(chunks, dim=1)
        ]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-12)


def test_beams_of_a_decoder_layer_follow_both_caches():
    layer = randomised(rg.nn.DecoderLayer(p.relative, p.distant, 32, 4).double())
    x, context, beams = rows(3, 6, 32), rows(3, 5, 32), torch.tensor([1, 1, 2])
    caches = rg.nn.KeyValueCache(), rg.nn.KeyValueCache()
    with torch.no_grad():
        layer(x[:, :4], context, cache=caches)
        for cache in caches:
            cache.reorder(beams)
        found = layer(x[:, 4:], context[beams], cache=caches)
        whole = layer(torch.cat([x[beams, :4], x[:, 4:]], dim=1), context[beams])
    torch.testing.assert_close(found, whole[:, 4:], rtol=0, atol=1e-12)


def test_an_encoder_layer_with_a_causal_program_decodes_too():
    layer = randomised(rg.nn.EncoderLayer(p.relative, 32, 4).double())
    x, cache = rows(2, 6, 32), rg.nn.KeyValueCache()
    with torch.no_grad():
        steps = [layer(x[:, i : i + 1], cache=cache) for i in range(6)]
        torch.testing.assert_close(torch.cat(steps, dim=1), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "places", [{"query_offset": 3}, {"query_positions": torch.tensor([3, 4, 5, 6])}]
)
def test_positions_given_hold_for_self_and_cross_attention(places):
    layer = randomised(rg.nn.DecoderLayer(p.distant, p.distant, 32, 4).double())
    x, context = rows(2, 4, 32), rows(2, 5, 32)
    found = layer(x, context, **places)

    def attend(y):
        return layer.attention(y, query_offset=3)

    def look(y):
        return layer.cross(y, context, query_offset=3)

    expected = layer.cross_block(layer.attention_block(x, attend), look)
    expected = layer.feed_forward_block(expected, layer.feed_forward)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found, layer(x, context))


def test_both_programs_of_a_decoder_layer_get_inputs_of_their_own():
    layer = randomised(rg.nn.DecoderLayer(p.heated, p.important, 32, 4).double())
    x, context, importance = rows(2, 4, 32), rows(2, 5, 32), rows(2, 1, 5)
    found = layer(x, context, temperature=0.5, cross_inputs={"importance": importance})
    other = layer(x, context, temperature=0.5, cross_inputs={"importance": 0 * importance})
    assert not torch.allclose(found, other)
    with pytest.raises(InputError, match="reads the feature 'importance', which was not given"):
        layer(x, context, temperature=0.5)


def test_a_context_may_be_wider_or_narrower_than_the_decoder():
    layer = rg.nn.DecoderLayer(p.causal, p.plain, 32, 4, context_width=12, key_heads=2).double()
    assert layer.attention.k.in_features == 32 and layer.cross.k.in_features == 12
    assert layer.attention.k.out_features == layer.cross.k.out_features == 16
    assert layer(rows(2, 7, 32), rows(2, 5, 12)).shape == (2, 7, 32)


def test_masks_of_a_decoder_layer_belong_to_its_self_attention():
    layer = randomised(rg.nn.DecoderLayer(p.plain, p.plain, 32, 4).double())
    same = copy.deepcopy(layer)
    same.attention = rg.nn.Attention(p.causal, 32, 4).double().eval()
    same.attention.load_state_dict(layer.attention.state_dict())
    x, context = rows(2, 7, 32), rows(2, 5, 32)
    found = layer(x, context, mask=~CAUSAL.view(1, 1, 7, 7))
    torch.testing.assert_close(found, same(x, context), rtol=0, atol=1e-12)


def test_layers_drop_in_training_alone_and_repeat_by_seed():
    layer = rg.nn.DecoderLayer(p.causal, p.plain, 32, 4, dropout=0.3).double()
    x, context = rows(2, 7, 32), rows(2, 5, 32)
    torch.manual_seed(3)
    first, second = layer(x, context), layer(x, context)
    torch.manual_seed(3)
    assert torch.equal(layer(x, context), first) and not torch.allclose(first, second)
    layer.eval()
    assert torch.equal(layer(x, context), layer(x, context))
    assert layer.attention.dropout == layer.cross.dropout == 0.3


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_layer_has_the_same_gradients(reentrant):
    layer = rg.nn.DecoderLayer(p.relative, p.distant, 32, 4, dropout=0.3).double()
    x, context = rows(2, 7, 32).requires_grad_(), rows(2, 5, 32).requires_grad_()
    leaves, found = [x, context, *layer.parameters()], []
    for run in (layer, lambda *a: checkpoint(layer, *a, use_reentrant=reentrant)):
        for leaf in leaves:
            leaf.grad = None
        torch.manual_seed(3)
        run(x, context).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for plain, recomputed in zip(*found, strict=True):
        assert torch.equal(plain, recomputed)


def test_a_layer_observes_nothing():
    message = r"a layer returns its output alone; to observe, call its attention: layer.attention"
    with pytest.raises(InputError, match=message):
        rg.nn.EncoderLayer(p.plain, 32, 4)(torch.randn(2, 7, 32), observe=("lse",))
    with pytest.raises(InputError, match=message):
        layer = rg.nn.DecoderLayer(p.plain, p.plain, 32, 4)
        layer(torch.randn(2, 7, 32), torch.randn(2, 7, 32), observe=("lse",))
