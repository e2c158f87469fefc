"""The formulas of scores against published implementations of the same."""

import math

import torch
import torch.nn.functional as F
from transformers import DiffLlamaConfig
from transformers.models.deepseek_v2.modeling_deepseek_v2 import apply_rotary_emb
from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from tests.catalogue.oracles import score
from tests.catalogue.oracles.calls import Call, Sizes
from tests.catalogue.oracles.dense import causal, heads, scaled, softmax

WHOLE = Sizes(G=4)


def called(name):
    """Return the tensors of a variant's call with a key head per query head, and the output."""
    call = score.CALLS.get(name, Call())
    tensors = Call(call.inputs, sizes=WHOLE).tensors()
    tensors = {name: one.detach() for name, one in tensors.items()}
    return tensors, getattr(score, name)(**tensors, **call.knobs)


def test_scaled_dot_product_is_that_of_torch_with_shared_heads():
    t = {name: one.detach() for name, one in Call().tensors().items()}
    expected = F.scaled_dot_product_attention(t["q"], t["k"], t["v"], enable_gqa=True)
    torch.testing.assert_close(score.scaled_dot_product(**t), expected)


def test_cosine_is_the_cosine_similarity_of_torch():
    t, found = called("cosine")
    alike = F.cosine_similarity(t["q"].unsqueeze(-2), t["k"].unsqueeze(-3), dim=-1)
    expected = softmax(t["strength"].unsqueeze(-1) * alike) @ t["v"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_query_key_norm_is_a_product_of_normalised_rows():
    t, found = called("query_key_norm")
    alike = F.normalize(t["q"], dim=-1) @ F.normalize(t["k"], dim=-1).mT
    torch.testing.assert_close(found, softmax(t["scale"][:, None, None] * alike) @ t["v"])


def test_qk_layer_norm_is_the_layer_norm_of_torch():
    t, found = called("qk_layer_norm")
    q = F.layer_norm(t["q"], (8,), weight=t["query_gain"], eps=1e-6)
    k = F.layer_norm(t["k"], (8,), weight=t["key_gain"], eps=1e-6)
    torch.testing.assert_close(found, softmax(scaled(q, k)) @ t["v"])


def test_qk_rms_norm_is_that_of_qwen3():
    t, found = called("qk_rms_norm")
    q, k = Qwen3RMSNorm(8, eps=1e-6), Qwen3RMSNorm(8, eps=1e-6)
    q.weight.data, k.weight.data = t["query_gain"], t["key_gain"]
    q, k = q(t["q"]), k(t["k"])
    expected = softmax(scaled(q, k), causal(q, k)) @ t["v"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_euclidean_and_manhattan_use_the_distances_of_torch():
    t, found = called("euclidean")
    far = torch.cdist(t["q"], t["k"], compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(found, softmax(-far.square() / math.sqrt(8)) @ t["v"])
    near = torch.cdist(t["q"], t["k"], p=1)
    torch.testing.assert_close(score.manhattan(**t), softmax(-near / math.sqrt(8)) @ t["v"])


def test_biaffine_is_the_bilinear_layer_of_torch():
    t, found = called("biaffine")
    q = t["q"].unsqueeze(-2).expand(-1, -1, -1, 16, -1).contiguous()
    k = t["k"].unsqueeze(-3).expand(-1, -1, 16, -1, -1).contiguous()
    forms = []
    for h in range(4):
        form = F.bilinear(q[:, h], k[:, h], t["matrix"][h][None], t["bias"][h][None]).squeeze(-1)
        forms.append(form + F.linear(q[:, h], t["query"][h]) + F.linear(k[:, h], t["key"][h]))
    torch.testing.assert_close(found, softmax(torch.stack(forms, dim=1)) @ t["v"])


def test_differential_is_the_layer_of_diff_llama():
    """Its heads h and h + H/2 are the two halves of one head of the paper, and it has no gain."""
    t, found = called("differential")
    layer = DiffLlamaAttention(
        DiffLlamaConfig(
            hidden_size=32,
            num_attention_heads=8,
            num_key_value_heads=8,
            head_dim=4,
            rms_norm_eps=1e-5,
            attn_implementation="eager",
        ),
        layer_idx=3,
    ).double()
    for number in (1, 2):
        getattr(layer, f"lambda_q{number}").data = t[f"query{number}"]
        getattr(layer, f"lambda_k{number}").data = t[f"key{number}"]
    rows = {}
    for name in "qkv":
        # (B, H, N, 2·4) to heads in the order of the layer: the first halves, then the second.
        split = torch.cat([t[name][..., :4], t[name][..., 4:]], dim=1)
        rows[name] = split.transpose(1, 2).flatten(2)
    layer.o_proj = torch.nn.Identity()
    place = torch.ones(1, 16, 4, dtype=torch.float64), torch.zeros(1, 16, 4, dtype=torch.float64)
    layer.q_proj, layer.k_proj, layer.v_proj = (_Given(rows[name]) for name in "qkv")
    hidden = torch.where(causal(t["q"], t["k"]), 0.0, -torch.inf)[None, None]
    published, _ = layer(rows["q"], place, attention_mask=hidden)
    found = (found / t["gain"]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, published, rtol=1e-4, atol=1e-5)


class _Given(torch.nn.Module):
    """Stands for a projection whose result is known."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, _):
        return self.rows


def test_latent_rotation_is_that_of_deepseek_v2():
    t, found = called("latent")
    angle = torch.outer(torch.arange(16).double(), 10000.0 ** (-torch.arange(2).double() / 2))
    turn = torch.polar(torch.ones_like(angle), angle)[None]
    (k_rope,) = heads(t["q"], t["k_rope"])
    q_rope, k_rope = apply_rotary_emb(t["q_rope"], k_rope, turn)
    q, k = torch.cat([t["q"], q_rope], dim=-1), torch.cat([t["k"], k_rope], dim=-1)
    expected = softmax(scaled(q, k), causal(q, k)) @ t["v"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_graph_scores_are_the_leaky_units_of_torch_over_neighbours():
    t, found = called("gat")
    hidden = torch.where(t["edge"], 0.0, -torch.inf)
    of_query = (t["q"] * t["source"][:, None]).sum(-1)[..., :, None]
    of_key = (t["k"] * t["target"][:, None]).sum(-1)[..., None, :]
    weights = F.softmax(F.leaky_relu(of_query + of_key, 0.2) + hidden, dim=-1).nan_to_num()
    torch.testing.assert_close(found, weights @ t["v"])
    assert (found[0, :, 3] == 0).all()
    t, found = called("gatv2")
    layer = F.leaky_relu(t["q"].unsqueeze(-2) + t["k"].unsqueeze(-3), 0.2)
    of_pair = (layer * t["units"][:, None, None]).sum(-1) + torch.where(t["edge"], 0.0, -torch.inf)
    torch.testing.assert_close(found, F.softmax(of_pair, dim=-1).nan_to_num() @ t["v"])


def test_concat_is_two_projections():
    t, found = called("concat")
    of_query = (t["q"] @ t["query"]).unsqueeze(-2)
    of_key = (t["k"] @ t["key"]).unsqueeze(-3)
    layer = torch.tanh(of_query + of_key) @ t["units"][:, None, :, None]
    torch.testing.assert_close(found, softmax(layer.squeeze(-1)) @ t["v"])


def test_rbf_is_a_softmax_of_distances():
    t, found = called("rbf")
    far = torch.cdist(t["q"], t["k"], compute_mode="donot_use_mm_for_euclid_dist").square()
    expected = softmax(-far / (2 * t["width"][:, None, None] ** 2)) @ t["v"]
    torch.testing.assert_close(found, expected)
