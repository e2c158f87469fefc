"""The weights are those of published implementations, or of another form of the same formula."""

import math
from types import SimpleNamespace

import entmax
import torch
from torch.nn.functional import layer_norm
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward
from transformers.models.mamba2.modeling_mamba2 import segment_sum

from tests.catalogue.oracles import normaliser
from tests.catalogue.oracles.calls import Call
from tests.catalogue.oracles.dense import heads


def tensors(name):
    """Return what a variant reads, the keys and values repeated for each head."""
    given = normaliser.CALLS.get(name, Call()).tensors()
    given["k"], given["v"] = heads(given["q"], given["k"], given["v"])
    return given


def scores(given):
    return given["q"] @ given["k"].mT / math.sqrt(8)


def agree(name, wanted, given, **how):
    """Fail unless values and all gradients agree."""
    found = getattr(normaliser, name)(**given)
    torch.testing.assert_close(found, wanted, **how)
    learned = [one for one in given.values() if one.requires_grad]
    direction = torch.randn_like(found)
    for got, grad in zip(
        torch.autograd.grad(found, learned, direction),
        torch.autograd.grad(wanted, learned, direction),
        strict=True,
    ):
        torch.testing.assert_close(got, grad, **how)


def past(given):
    return torch.ones_like(scores(given), dtype=torch.bool).tril()


def test_sinks_are_gpt_oss():
    given = tensors("learned_sink")
    hidden = torch.zeros(16, 16).double().masked_fill(~past(given)[0, 0], float("-inf"))
    module = SimpleNamespace(num_key_value_groups=1, sinks=given["sink"], training=False)
    wanted, _ = eager_attention_forward(module, given["q"], given["k"], given["v"], hidden, 8**-0.5)
    agree("learned_sink", wanted.transpose(1, 2), given)


def test_softmax_one_is_a_sink_at_zero():
    given = tensors("softmax_one")
    sink = torch.zeros(4, dtype=torch.float64)
    agree("softmax_one", normaliser.learned_sink(**given, sink=sink), given)


def test_sparse_weights_are_the_entmax_packages():
    given = tensors("sparsemax")
    agree("sparsemax", entmax.sparsemax(scores(given), -1) @ given["v"], given)
    given = tensors("entmax")
    agree("entmax", entmax.entmax15(scores(given), -1) @ given["v"], given)
    given = tensors("learned_entmax")
    alpha = 1 + given["alpha"].sigmoid()[:, None, None].expand(2, 4, 16, 1)
    weights = entmax.entmax_bisect(scores(given), alpha, -1, n_iter=60)
    agree("learned_entmax", weights @ given["v"], given)


def test_adaptive_entmax_scales_the_scores_by_its_length():
    given = tensors("adaptive_entmax")
    length = past(given).sum(-1, keepdim=True).double()
    scale = 1 + given["beta_q"][..., None] * length.log() ** given["gamma_q"][..., None]
    score = (scale * scores(given)).masked_fill(~past(given), -1e4)
    agree("adaptive_entmax", entmax.entmax15(score, -1) @ given["v"], given)


def test_softpick_is_its_first_equation_up_to_its_guard():
    given = tensors("softpick")
    lifted = torch.expm1(scores(given)) * past(given)
    wanted = lifted.relu() / lifted.abs().sum(-1, keepdim=True) @ given["v"]
    agree("softpick", wanted, given, rtol=1e-4, atol=1e-4)
    assert not torch.equal(normaliser.softpick(**given), wanted)


def recurrent(queries, keys, v, decay):
    """Run a state of keys by values through the rows, decaying by (B, H, N)."""
    state = torch.zeros(*keys.shape[:2], keys.shape[-1], v.shape[-1]).double()
    out = []
    for i in range(v.shape[2]):
        state = decay[:, :, i, None, None] * state + keys[:, :, i, :, None] * v[:, :, i, None]
        out.append((queries[:, :, i, None] @ state)[:, :, 0])
    return torch.stack(out, 2)


def test_retention_is_recurrent():
    given = tensors("retention")
    decay = 1 - 2.0 ** -torch.arange(5, 9).double()
    decay = decay[:, None].expand(2, 4, 16)
    out = recurrent(given["q"] / 8**0.5, given["k"], given["v"], decay)
    agree("retention", layer_norm(out, (8,), eps=1e-6), given)


def test_gated_decay_is_recurrent_and_mamba_2s():
    given = tensors("gated_decay")
    gates = given["total_q"].diff(dim=-1, prepend=torch.zeros(2, 4, 1).double())
    wanted = recurrent(given["q"], given["k"], given["v"], gates.exp())
    torch.testing.assert_close(normaliser.gated_decay(**given), wanted)
    weights = given["q"] @ given["k"].mT * segment_sum(gates).exp()
    torch.testing.assert_close(normaliser.gated_decay(**given), weights @ given["v"])


def test_linear_attention_is_recurrent():
    def above(rows):
        return torch.where(rows > 0, rows + 1, rows.exp())

    def features(rows, weights):
        return torch.cat([rows @ weights, -(rows @ weights)], -1).exp()

    ones = torch.ones(2, 4, 16, dtype=torch.float64)

    def ratio(queries, keys, v):
        total = recurrent(queries, keys, ones[..., None], ones)
        return recurrent(queries, keys, v, ones) / total

    given = tensors("linear_elu_causal")
    wanted = ratio(above(given["q"]), above(given["k"]), given["v"])
    agree("linear_elu_causal", wanted, given)
    given = tensors("hedgehog")
    queries = features(given["q"], given["query_map"])
    agree("hedgehog", ratio(queries, features(given["k"], given["key_map"]), given["v"]), given)
    given = tensors("based")
    agree("based", ratio(taylor(given["q"]), taylor(given["k"]), given["v"]), given)


def taylor(rows):
    """Features whose product is the Taylor polynomial: 1, x / D^¼, x ⊗ x / √2D."""
    square = (rows[..., :, None] * rows[..., None, :]).flatten(-2)
    parts = [torch.ones_like(rows[..., :1]), rows / 8**0.25, square / math.sqrt(2 * 8)]
    return torch.cat(parts, -1)


def test_cosine_weights_split_into_features_of_each_side():
    given = tensors("cosformer")

    def turned(rows):
        angle = math.pi / 2 * torch.arange(rows.shape[2])[:, None].double() / 20
        return torch.cat([rows.relu() * angle.sin(), rows.relu() * angle.cos()], -1)

    weight = turned(given["q"]) @ turned(given["k"]).mT
    wanted = weight / weight.sum(-1, keepdim=True) @ given["v"]
    agree("cosformer", wanted, given)


def test_many_random_features_come_near_to_softmax():
    given = tensors("performer")
    features = torch.randn(8, 20_000, generator=torch.Generator().manual_seed(0)).double()
    small = {**given, "q": given["q"] / 2, "k": given["k"] / 2}
    wanted = scores(small).softmax(-1) @ given["v"]
    found = normaliser.performer(**{**small, "features": features})
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


def test_uniform_weights_average_the_past():
    given = tensors("uniform")
    mean = given["v"].cumsum(-2) / torch.arange(1, 17)[:, None]
    torch.testing.assert_close(normaliser.uniform(**given), mean)
