"""The formulas of positions against published implementations of the same."""

import math

import pytest
import torch
from transformers import DebertaV2Config, LlamaConfig, Qwen2VLTextConfig, Swinv2Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.swin.modeling_swin import SwinRelativePositionBias
from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention
from transformers.models.t5.modeling_t5 import T5Attention

from tests.catalogue.oracles import position
from tests.catalogue.oracles.calls import Call, Draw, Sizes
from tests.catalogue.oracles.dense import causal, scaled, softmax

# The published ones compute angles and softmax in float32.
SINGLE = {"rtol": 1e-4, "atol": 1e-5}
WHOLE = Sizes(G=4)


def called(name, sizes=WHOLE):
    """Return the tensors of a variant's call with a key head per query head, and the output."""
    call = position.CALLS.get(name, Call())
    tensors = Call(call.inputs, sizes=sizes).tensors()
    tensors = {name: one.detach() for name, one in tensors.items()}
    return tensors, getattr(position, name)(**tensors, **call.knobs)


def heads_last(x):
    """(B, H, N, D) to (B, N, H·D), as layers of transformers have it."""
    return x.transpose(1, 2).flatten(2)


def identity(linear):
    torch.nn.init.eye_(linear.weight)
    if linear.bias is not None:
        torch.nn.init.zeros_(linear.bias)


@pytest.mark.parametrize("furthest", [128, 32])
@pytest.mark.parametrize("both_ways", [True, False])
def test_t5_buckets_are_those_of_t5(both_ways, furthest):
    relative = torch.arange(-1000, 1001)
    published = T5Attention._relative_position_bucket(relative, both_ways, 32, furthest)
    for r, bucket in zip(relative.tolist(), published.tolist(), strict=True):
        if both_ways:
            assert bucket == 16 * (r > 0) + position._t5_bucket(abs(r), 16, furthest)
        else:
            assert bucket == position._t5_bucket(max(-r, 0), 32, furthest)


@pytest.mark.parametrize("name", ["t5", "t5_causal"])
def test_t5_adds_the_published_bucket_of_the_key_seen_from_the_query(name):
    call = position.CALLS[name]
    t = {
        name: one.detach()
        for name, one in Call(call.inputs, sizes=Sizes(G=4, N=40, M=40)).tensors().items()
    }
    relative = torch.arange(40)[None, :] - torch.arange(40)[:, None]
    bucket = T5Attention._relative_position_bucket(relative, name == "t5", 32, 32)
    seen = causal(t["q"], t["k"]) if name == "t5_causal" else None
    expected = softmax(t["q"] @ t["k"].mT + t["bias"][:, bucket], seen) @ t["v"]
    torch.testing.assert_close(getattr(position, name)(**t, **call.knobs), expected)


def test_alibi_is_that_of_mpt():
    t, _ = called("alibi")
    slope = torch.tensor([2.0 ** (-8 * (h + 1) / 4) for h in range(4)], dtype=torch.float64)
    score = scaled(t["q"], t["k"]) + build_mpt_alibi_tensor(4, 16)
    expected = softmax(score, causal(t["q"], t["k"])) @ t["v"]
    torch.testing.assert_close(position.alibi(t["q"], t["k"], t["v"], slope), expected)


def test_sandwich_is_a_sum_of_cosines():
    t, out = called("sandwich")
    q, k, v = t["q"], t["k"], t["v"]
    bias = torch.zeros(4, 16, 16, dtype=torch.float64)
    for h in range(4):
        for i in range(16):
            for j in range(16):
                waves = sum(math.cos((i - j) / 10000 ** (2 * c / 16)) for c in range(8))
                bias[h, i, j] = waves / (8 * (h + 1) / 4)
    expected = softmax(scaled(q, k) + bias, causal(q, k)) @ v
    torch.testing.assert_close(out, expected)


def test_deberta_is_the_published_layer_where_nothing_is_clipped():
    """Its code reads the table of to_query the other way round than equation 3 of the paper."""
    span, config = 16, {"hidden_size": 32, "num_attention_heads": 4, "relative_attention": True}
    layer = DisentangledSelfAttention(
        DebertaV2Config(
            **config,
            position_buckets=-1,
            max_relative_positions=span,
            pos_att_type="c2p|p2c",
        )
    ).double()
    layer.eval()
    for linear in (layer.query_proj, layer.key_proj, layer.value_proj):
        identity(linear)
    t, _ = called("deberta")
    table = Draw(WHOLE).given(2 * span, 32)
    rows = {name: t[name] for name in "qkv"}
    # One input makes queries, keys and values.
    rows["k"] = rows["v"] = rows["q"]
    everything = torch.ones(2, 1, 16, 16)
    published, _ = layer(heads_last(rows["q"]), everything, rel_embeddings=table)
    to_key = layer.pos_key_proj(table).view(2 * span, 4, 8).transpose(0, 1)
    to_query = layer.pos_query_proj(table).view(2 * span, 4, 8).transpose(0, 1)
    other_way = to_query.flip(1).roll(1, dims=1)
    out = position.deberta(**rows, to_key=to_key, to_query=other_way, span=span)
    torch.testing.assert_close(heads_last(out), published)


def test_swin_relative_bias_is_that_of_swin():
    t, out = called("swin_relative_bias")
    published = SwinRelativePositionBias(4, (4, 4)).double()
    published.relative_position_bias_table.data = t["bias"].T.contiguous()
    expected = softmax(scaled(t["q"], t["k"]) + published()) @ t["v"]
    torch.testing.assert_close(out, expected)


def test_swin_continuous_bias_is_the_layer_of_swin_v2():
    t, _ = called("swin_continuous_bias")
    layer = Swinv2SelfAttention(Swinv2Config(qkv_bias=False), 32, 4, 4).double().eval()
    for linear in (layer.query, layer.value):
        identity(linear)
    layer.relative_coords_table = layer.relative_coords_table.double()
    layer.logit_scale.data = t["logit_scale"][:, None, None]
    first, _, last = layer.continuous_position_bias_mlp
    first.weight.data, first.bias.data = t["hidden"].T, t["hidden_bias"]
    last.weight.data = t["out"]
    t["v"] = t["q"]
    t["k"] = layer.key(heads_last(t["q"])).unflatten(-1, (4, 8)).transpose(1, 2).detach()
    (published,) = layer(heads_last(t["q"]))
    out = position.swin_continuous_bias(**t, side=4, width=6)
    torch.testing.assert_close(heads_last(out), published, **SINGLE)


def published_frequencies(kind, seq_len=None, **parameters):
    config = LlamaConfig(
        hidden_size=128,
        num_attention_heads=1,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": kind, "rope_theta": 10000.0, **parameters},
    )
    return ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=seq_len)


def test_llama3_frequencies_are_the_published_ones():
    found = position._llama3_frequencies(128, 8.0, 1.0, 4.0, 4096, 10000.0)
    published, _ = published_frequencies(
        "llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=4096,
    )
    torch.testing.assert_close(found.float(), published)


def test_ntk_frequencies_are_the_published_ones_at_the_length_with_that_factor():
    found = position._frequencies(128, 10000.0 * 8 ** (128 / 126))
    published, _ = published_frequencies("dynamic", factor=8.0, seq_len=4096 * 15 // 8)
    torch.testing.assert_close(found.float(), published)


def test_yarn_frequencies_are_the_published_ones_outside_the_ramp():
    """The paper's ramp is linear in the number of turns, the published code's in the channel."""
    found = position._yarn_frequencies(128, 16.0, 4096, 1.0, 32.0, 10000.0).float()
    published, warmth = published_frequencies(
        "yarn", factor=16.0, original_max_position_embeddings=4096
    )
    theta = position._frequencies(128).float()
    torch.testing.assert_close(found[:21], published[:21])
    torch.testing.assert_close(found[46:], published[46:])
    torch.testing.assert_close(found[:21], theta[:21])
    torch.testing.assert_close(found[46:], theta[46:] / 16)
    assert warmth == pytest.approx(0.1 * math.log(16) + 1)


def test_yarn_warms_both_rows():
    t, _ = called("rotary_yarn")
    warmth = 0.1 * math.log(4) + 1
    frequency = position._yarn_frequencies(8, 4.0, 512, 1.0, 32.0, 10000.0)
    expected = position._rotated(t["q"] * warmth**2, t["k"], t["v"], frequency)
    found = position.rotary_yarn(**t, factor=4.0, original=512)
    torch.testing.assert_close(found, expected)


def test_interpolated_rows_turn_at_fractions_of_positions():
    t, found = called("rotary_interpolated")
    angle = torch.outer(torch.arange(16).double() / 4, position._frequencies(8))
    q, k = (position._turn(t[name], angle) for name in "qk")
    torch.testing.assert_close(found, softmax(scaled(q, k), causal(q, k)) @ t["v"])


def test_halves_turn_as_in_llama():
    t, found = called("rotary_halves")
    angle = torch.outer(torch.arange(16).double(), position._frequencies(8))[None].repeat(1, 1, 2)
    q, k = modeling_llama.apply_rotary_pos_emb(t["q"], t["k"], angle.cos(), angle.sin())
    torch.testing.assert_close(found, softmax(scaled(q, k), causal(q, k)) @ t["v"])


def test_neighbours_turn_as_in_gpt_j():
    t, found = called("rotary")
    angle = torch.outer(torch.arange(16).double(), position._frequencies(8))[None]
    q, k = (
        modeling_gptj.apply_rotary_pos_emb(t[name].transpose(1, 2), angle.sin(), angle.cos())
        for name in "qk"
    )
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    torch.testing.assert_close(found, softmax(scaled(q, k), causal(q, k)) @ t["v"])


def test_sections_turn_as_in_qwen2_vl():
    t, found = called("rotary_sections")
    rotation = Qwen2VLRotaryEmbedding(
        Qwen2VLTextConfig(
            hidden_size=32,
            num_attention_heads=4,
            num_key_value_heads=4,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
            },
        )
    )
    place = torch.stack([t["time_q"], t["row_q"], t["column_q"]]).squeeze(2)
    cos, sin = rotation(t["q"], place)
    q, k = modeling_llama.apply_rotary_pos_emb(t["q"], t["k"], cos, sin)
    expected = softmax(scaled(q, k), causal(q, k)) @ t["v"]
    torch.testing.assert_close(found, expected, **SINGLE)


def test_axial_rotation_is_that_of_rope_vit_with_the_channels_relabelled():
    """Heo et al. turn pair 2t by the column and pair 2t + 1 by the row, at 100^(−t/(D/4))."""
    t, found = called("rotary_axial")
    turns = torch.stack([t["column_q"], t["row_q"]], dim=-1).squeeze()  # (N, 2)
    rows = {}
    for name in "qk":
        # The rows' half, then the columns', each of neighbours.
        half = t[name].reshape(2, 4, 16, 2, 2, 2)  # axis, c, part
        pair = torch.complex(half[..., 0], half[..., 1])  # (..., axis, c)
        rows[name] = torch.stack(
            [
                pair[..., 1 - number % 2, number // 2]
                * torch.exp(1j * turns[:, number % 2] * 100.0 ** (-(number // 2) / 2))
                for number in range(4)
            ],
            dim=-1,
        )
    score = (rows["q"] @ rows["k"].mH).real / math.sqrt(8)
    torch.testing.assert_close(found, softmax(score) @ t["v"])


def test_xpos_scores_decay_and_turn_by_the_distance():
    """Written by pair: Re Σ_c q_c k_c* ζ_c^((i−j)/512) e^(iθ_c(i−j))."""
    t, found = called("xpos")
    q, k = (torch.view_as_complex(t[name].reshape(2, 4, 16, 4, 2)) for name in "qk")
    far = (torch.arange(16)[:, None] - torch.arange(16)[None, :]).double()
    score = torch.zeros(2, 4, 16, 16, dtype=torch.float64)
    for c in range(4):
        zeta = (c / 4 + 0.4) / 1.4
        turned = q[..., c][..., :, None] * k[..., c][..., None, :].conj()
        turned = turned * torch.exp(1j * far * 10000.0 ** (-c / 4)) * zeta ** (far / 512)
        score = score + turned.real
    score = score / math.sqrt(8)
    torch.testing.assert_close(found, softmax(score, causal(t["q"], t["k"])) @ t["v"])


def test_partial_rotation_turns_the_first_channels_as_in_gpt_j():
    t, found = called("rotary_partial")
    angle = torch.outer(torch.arange(16).double(), position._frequencies(4))[None]
    # GPT-J's rows are (B, N, H, D).
    turned = [
        modeling_gptj.apply_rotary_pos_emb(
            t[name][..., :4].transpose(1, 2), angle.sin(), angle.cos()
        ).transpose(1, 2)
        for name in "qk"
    ]
    score = turned[0] @ turned[1].mT + t["q"][..., 4:] @ t["k"][..., 4:].mT
    score = softmax(score / math.sqrt(8), causal(t["q"], t["k"]))
    torch.testing.assert_close(found, score @ t["v"])


def shaw_pair(t, h, i, j):
    q, k = t["q"][0, h, i], t["k"][0, h, j]
    return q @ (k + t["keys"][max(-4, min(4, j - i)) + 4]) / math.sqrt(8)


def transformer_xl_pair(t, h, i, j):
    q, k = t["q"][0, h, i], t["k"][0, h, j]
    content, place = q + t["content"][h], q + t["position"][h]
    return (content @ k + place @ t["distances"][h, i - j]) / math.sqrt(8) if j <= i else None


def tupe_pair(t, h, i, j):
    place = t["q_position"][0, h, i] @ t["k_position"][0, h // 2, j] / 4
    if i == 0:
        place = t["reset_from"][h]
    elif j == 0:
        place = t["reset_to"][h]
    return t["q"][0, h, i] @ t["k"][0, h, j] / 4 + place


def deberta_pair(t, h, i, j):
    def delta(a, b):
        if a - b <= -4:
            return 0
        return 7 if a - b >= 4 else a - b + 4

    q, k = t["q"][0, h, i], t["k"][0, h, j]
    places = q @ t["to_key"][h, delta(i, j)] + k @ t["to_query"][h, delta(j, i)]
    return (q @ k + places) / math.sqrt(24)


def fire_pair(t, h, i, j):
    if j > i:
        return None
    rate, length = t["rate"].item(), t["length"].item()
    share = math.log(rate * (i - j) + 1) / math.log(rate * max(length, i) + 1)
    layer = torch.relu(t["hidden"] * share + t["hidden_bias"])
    bias = layer @ t["out"][h] + t["out_bias"][h]
    return t["q"][0, h, i] @ t["k"][0, h, j] / math.sqrt(8) + bias


def kerple_power_pair(t, h, i, j):
    bias = -t["scale"][h] * (i - j) ** t["power"][h] if j <= i else None
    return None if bias is None else t["q"][0, h, i] @ t["k"][0, h, j] / math.sqrt(8) + bias


def graphormer_pair(t, h, i, j):
    bias = t["bias"][h, min(t["distance"][0, 0, i, j].item(), 4)]
    return t["q"][0, h, i] @ t["k"][0, h, j] / math.sqrt(8) + bias


@pytest.mark.parametrize(
    "pair",
    [
        shaw_pair,
        transformer_xl_pair,
        tupe_pair,
        deberta_pair,
        fire_pair,
        kerple_power_pair,
        graphormer_pair,
    ],
)
def test_a_formula_is_that_of_single_pairs(pair):
    t, found = called(pair.__name__.removesuffix("_pair"))
    score = torch.full((4, 16, 16), -torch.inf, dtype=torch.float64)
    for h in range(4):
        for i in range(16):
            for j in range(16):
                value = pair(t, h, i, j)
                if value is not None:
                    score[h, i, j] = value
    weights = score.softmax(-1)
    expected = weights @ t["v"][0]
    if "values" in t:
        row = (torch.arange(16)[None, :] - torch.arange(16)[:, None]).clamp(-4, 4) + 4
        expected = expected + torch.einsum("hnm,nme->hne", weights, t["values"][row])
    torch.testing.assert_close(found[0], expected)
