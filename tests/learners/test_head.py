"""Layers between encoder and head: padding changes nothing, and they come back from a folder."""

import pytest
import torch
from transformers import BertConfig

from regard import hf
from regard.learners.head import HeadLayers
from regard.learners.text_model import TextConfig, TextModel

LAYERS = {
    "linear": {"layer": "linear", "width": 5, "activation": "tanh"},
    "convolution": {"layer": "convolution", "kernel": 5, "width": 6, "activation": "relu"},
    "gru": {"layer": "recurrent", "cell": "gru", "width": 4, "bidirectional": True},
    "lstm": {"layer": "recurrent", "cell": "lstm", "width": 7, "bidirectional": False},
    "attention": {"layer": "attention", "width": 3},
}
WIDTHS = {"linear": 5, "convolution": 6, "gru": 8, "lstm": 7, "attention": 8}
HEADS = {
    **{name: [layer] for name, layer in LAYERS.items()},
    "all": [LAYERS[name] for name in ("linear", "convolution", "gru", "attention", "linear")],
}


def model_with(head, pooling):
    encoder = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    return TextModel(TextConfig(encoder, outputs=3, pooling=pooling, head=head)).eval()


@pytest.mark.parametrize("name", LAYERS)
def test_layer_gives_the_channels_it_says(name):
    layers = HeadLayers(8, [LAYERS[name]])
    assert layers.outputs == WIDTHS[name]
    found = layers(torch.randn(2, 4, 8), torch.ones(2, 4))
    assert found.shape == ((2, 8) if name == "attention" else (2, 4, WIDTHS[name]))


@pytest.mark.parametrize("name", HEADS)
def test_padding_changes_nothing_whatever_it_holds(name):
    torch.manual_seed(1)
    layers, rows = HeadLayers(8, HEADS[name]).eval(), torch.randn(1, 4, 8)
    alone = layers(rows, torch.ones(1, 4))
    padded = torch.cat([rows, torch.full((1, 3, 8), 99.0)], dim=1)
    beside = torch.cat([padded, torch.randn(1, 7, 8)])
    there = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    found = layers(beside, there)[:1]
    torch.testing.assert_close(found if found.dim() == 2 else found[:, :4], alone)


@pytest.mark.parametrize("name", HEADS)
def test_text_is_answered_alike_alone_and_beside_a_longer_one(name):
    pools = name in ("attention", "all")
    model = model_with(HEADS[name], None if pools else "mean")
    short, long = torch.arange(3, 7)[None], torch.arange(3, 12)[None]
    batch = torch.cat([torch.nn.functional.pad(short, (0, 5)), long])
    there = torch.tensor([[1] * 4 + [0] * 5, [1] * 9])
    with torch.no_grad():
        torch.testing.assert_close(model(batch, there).logits[:1], model(short).logits)


def test_attention_weighs_tokens_by_what_they_hold():
    layers = HeadLayers(2, [{"layer": "attention", "width": 1}])
    pooling = layers.layers[0]
    pooling.inner.weight.data, pooling.inner.bias.data = torch.tensor([[1.0, 0.0]]), torch.zeros(1)
    pooling.score.weight.data = torch.tensor([[2.0]])
    rows = torch.tensor([[[1.0, 5.0], [-1.0, 7.0]]])
    weights = torch.softmax(2 * torch.tanh(torch.tensor([1.0, -1.0])), 0)
    wanted = (weights[:, None] * rows[0]).sum(0)
    torch.testing.assert_close(layers(rows, torch.ones(1, 2))[0], wanted)


@pytest.mark.parametrize("name", HEADS)
def test_head_comes_back_from_its_folder(name, tmp_path):
    pooling = None if name in ("attention", "all") else "first"
    model, ids = model_with(HEADS[name], pooling), torch.arange(3, 9)[None]
    model.save_pretrained(tmp_path)
    again = hf.from_pretrained(tmp_path, TextModel)
    assert again.config.head == HEADS[name]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
