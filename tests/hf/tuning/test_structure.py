"""Where the sublayers of common architectures end, and which rows belong to what."""

import pytest
import transformers as t
from torch import nn

from regard.errors import UnsupportedError
from regard.hf.apply import find_places
from regard.hf.tuning.structure import Part, find_ends, find_parts, sizes
from tests.hf.tuning.models import SIZES, bert, make

ENDS = {
    "bert": (["encoder.layer.{}.attention.output.dense"], ["encoder.layer.{}.output.dense"]),
    "roberta": (["encoder.layer.{}.attention.output.dense"], ["encoder.layer.{}.output.dense"]),
    "distilbert": (
        ["transformer.layer.{}.attention.out_lin"],
        ["transformer.layer.{}.ffn.lin2"],
    ),
    "gpt2": (["transformer.h.{}.attn.c_proj"], ["transformer.h.{}.mlp.c_proj"]),
    "llama": (["model.layers.{}.self_attn.o_proj"], ["model.layers.{}.mlp.down_proj"]),
    "phi3": (["model.layers.{}.self_attn.o_proj"], ["model.layers.{}.mlp.down_proj"]),
    "modernbert": (["layers.{}.attn.Wo"], ["layers.{}.mlp.Wo"]),
    "vit": (["layers.{}.attention.o_proj"], ["layers.{}.mlp.fc2"]),
    "t5": (
        [
            "encoder.block.{}.layer.0.SelfAttention.o",
            "decoder.block.{}.layer.0.SelfAttention.o",
            "decoder.block.{}.layer.1.EncDecAttention.o",
        ],
        [
            "encoder.block.{}.layer.1.DenseReluDense.wo",
            "decoder.block.{}.layer.2.DenseReluDense.wo",
        ],
    ),
    "bart": (
        [
            "encoder.layers.{}.self_attn.out_proj",
            "decoder.layers.{}.self_attn.out_proj",
            "decoder.layers.{}.encoder_attn.out_proj",
        ],
        ["encoder.layers.{}.fc2", "decoder.layers.{}.fc2"],
    ),
}
ENDS["marian"] = ENDS["bart"]


def twice(paths):
    return {path.format(layer) for path in paths for layer in range(2)}


@pytest.mark.parametrize("kind", ENDS)
def test_every_sublayer_ends_where_its_last_projection_stands(kind):
    attention, forward = find_ends(make(kind))
    assert (set(attention), set(forward)) == tuple(map(twice, ENDS[kind]))
    assert len(attention) == len(set(attention)) and len(forward) == len(set(forward))


def test_layers_that_share_one_module_share_its_ends():
    layer = "encoder.albert_layer_groups.0.albert_layers.0"
    assert find_ends(make("albert")) == ([f"{layer}.attention.dense"], [f"{layer}.ffn_output"])


def test_feed_forward_as_narrow_as_the_model_is_found():
    model = t.BertModel(t.BertConfig(**{**SIZES, "intermediate_size": 16}))
    assert set(find_ends(model)[1]) == twice(["encoder.layer.{}.output.dense"])


def parts_of(kind, number=0):
    model = make(kind)
    place = [place for _, place in find_places(model).values()][number]
    return place.path, find_parts(model, place)


def test_projections_of_their_own_belong_to_them_whole():
    path, parts = parts_of("llama")
    assert parts == {
        "q": Part(f"{path}.q_proj", 0, 16),
        "k": Part(f"{path}.k_proj", 0, 8),
        "v": Part(f"{path}.v_proj", 0, 8),
        "o": Part(f"{path}.o_proj", 0, 16),
    }


def test_fused_projection_is_split_into_queries_keys_and_values():
    path, parts = parts_of("gpt2")
    assert [parts[letter] for letter in "qkv"] == [
        Part(f"{path}.c_attn", start, 16) for start in (0, 16, 32)
    ]
    assert parts["o"].path == f"{path}.c_proj"


def test_fused_projection_has_fewer_rows_of_shared_key_heads():
    path, parts = parts_of("phi3")
    rows = {"q": (0, 16), "k": (16, 8), "v": (24, 8)}
    assert {letter: parts[letter] for letter in "qkv"} == {
        letter: Part(f"{path}.qkv_proj", *own) for letter, own in rows.items()
    }


def test_transposed_projection_tells_its_sizes():
    model = make("gpt2")
    assert sizes(model.get_submodule("transformer.h.0.mlp.c_fc")) == (16, 64)
    assert sizes(make("bert").get_submodule("encoder.layer.0.intermediate.dense")) == (16, 24)


def test_attention_without_a_known_end_is_refused_by_name():
    model = bert()
    output = model.encoder.layer[1].attention.output
    output.unusual = output.dense
    del output.dense
    with pytest.raises(
        UnsupportedError, match=r"layer\.1\.attention\.self: no last projection.*o_pr"
    ):
        find_ends(model)


def test_layer_without_a_feed_forward_block_is_refused_by_name():
    model = bert()
    model.encoder.layer[0].output.dense = nn.Identity()
    with pytest.raises(UnsupportedError, match=r"layer\.0.*gives 16 numbers, in the layer around"):
        find_ends(model)


def test_experts_are_refused():
    model = make("llama")
    model.model.layers[0].mlp.experts = nn.ParameterList([nn.Parameter(model.lm_head.weight[None])])
    with pytest.raises(UnsupportedError, match="experts are not supported"):
        find_ends(model)
