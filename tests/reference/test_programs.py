"""Published programs against dense PyTorch written by hand from their formulas."""

import math

import torch
from torch.nn import functional

from regard.ir import nodes as n
from tests.reference.builders import (
    CAUSAL,
    HEAD,
    SCORE,
    I,
    J,
    K,
    Q,
    V,
    c,
    call,
    close,
    dot,
    entmax,
    inputs,
    minus,
    out,
    output,
    parameter,
    ratio,
    run,
    softmax,
    table,
    times,
    topk,
    total,
    weigh,
    weights_of,
    where,
)

SCALED = call("div", SCORE, call("sqrt", n.Index("width")))
DISTANCE = minus(I, J)


def scores(tensors):
    return tensors["q"] @ tensors["k"].mT


def position_difference(tensors):
    queries, keys = tensors["q"].shape[2], tensors["k"].shape[2]
    return torch.arange(queries)[:, None] - torch.arange(keys)


def test_scaled_dot_product_is_torchs():
    tensors = inputs()
    expected = functional.scaled_dot_product_attention(tensors["q"], tensors["k"], tensors["v"])
    close(out(softmax(SCALED), tensors), expected)


def test_grouped_causal_attention_is_torchs():
    tensors = inputs(heads=6, groups=2, queries=5, keys=5)
    expected = functional.scaled_dot_product_attention(
        tensors["q"], tensors["k"], tensors["v"], is_causal=True, enable_gqa=True
    )
    close(out(softmax(SCALED, where=CAUSAL), tensors), expected)


def test_alibi_adds_a_slope_per_head():
    tensors = inputs() | {"slope": torch.randn(2, dtype=torch.float64)}
    score = minus(SCALED, times(parameter("slope", "head"), call("abs", DISTANCE)))
    bias = tensors["slope"][:, None, None] * position_difference(tensors).abs()
    expected = (scores(tensors) / math.sqrt(3) - bias).softmax(-1) @ tensors["v"]
    close(out(softmax(score), tensors), expected)


def test_additive_attention_is_a_tanh_layer_per_pair():
    double = {"dtype": torch.float64}
    tensors = inputs() | {
        "a": torch.randn(4, **double),
        "Wq": torch.randn(3, 4, **double),
        "Wk": torch.randn(2, 3, 4, **double),
    }
    u = n.Project(Q, parameter("Wq", "channel", "channel"), 4)
    w = n.Project(K, parameter("Wk", "head", "channel", "channel"), 4)
    score = total(times(parameter("a", "channel"), call("tanh", call("add", u, w))))
    rows = (tensors["q"] @ tensors["Wq"])[:, :, :, None] + (tensors["k"] @ tensors["Wk"])[
        :, :, None
    ]
    expected = (rows.tanh() @ tensors["a"]).softmax(-1) @ tensors["v"]
    close(out(softmax(score), tensors), expected)


def test_t5_adds_a_bias_from_buckets_of_distance():
    tensors = inputs() | {"bias": torch.randn(2, 3, dtype=torch.float64)}
    bucket = call("min", call("abs", DISTANCE), 2)
    bias = n.Gather(parameter("bias", "head", 3), (bucket,))
    dense = tensors["bias"][:, position_difference(tensors).abs().clamp(max=2)]
    expected = (scores(tensors) + dense).softmax(-1) @ tensors["v"]
    close(out(softmax(call("add", SCORE, bias)), tensors), expected)


def test_shaw_multiplies_queries_with_relative_keys_and_values():
    double = {"dtype": torch.float64}
    tensors = inputs() | {"rk": torch.randn(5, 3, **double), "rv": torch.randn(5, 2, **double)}
    index = (call("add", DISTANCE, 2),)
    keys = n.Gather(table("rk", "rows", "channel"), index)
    values = n.Gather(table("rv", "rows", "channel"), index)
    program = output(softmax(call("add", SCORE, dot(Q, keys))), call("add", V, values))
    at = (position_difference(tensors) + 2).clamp(0, 4)
    score = scores(tensors) + torch.einsum("bhid,ijd->bhij", tensors["q"], tensors["rk"][at])
    weights = score.softmax(-1)
    expected = weights @ tensors["v"] + torch.einsum("bhij,ije->bhie", weights, tensors["rv"][at])
    close(out(program, tensors), expected)


def test_soft_cap_bounds_the_score():
    tensors = inputs()
    score = times(2.0, call("tanh", call("div", SCORE, 2.0)))
    expected = (2 * (scores(tensors) / 2).tanh()).softmax(-1) @ tensors["v"]
    close(out(softmax(score), tensors), expected)


def test_sigmoid_attention_is_not_normalised():
    tensors = inputs()
    weight = call("sigmoid", minus(SCORE, call("log", n.Index("keys"))))
    expected = (scores(tensors) - math.log(5)).sigmoid() @ tensors["v"]
    close(out(weigh(weight), tensors), expected)


def test_softpick_is_rectified_on_top_and_absolute_below():
    tensors = inputs()
    num = call("relu", minus(call("exp", SCORE), 1.0))
    den = call("abs", minus(call("exp", SCORE), 1.0))
    s = scores(tensors)
    weights = s.expm1().relu() / (s.expm1().abs().sum(-1, keepdim=True) + 1e-6)
    close(out(ratio(num, den, add=1e-6), tensors), weights @ tensors["v"])


def test_linear_attention_divides_by_the_sum_of_features():
    tensors = inputs(queries=5)

    def feature(rows):
        return where(call("gt", rows, 0.0), call("add", rows, 1.0), call("exp", rows))

    similarity = dot(feature(Q), feature(K))
    q, k = functional.elu(tensors["q"]) + 1, functional.elu(tensors["k"]) + 1
    weights = (q @ k.mT).tril()
    expected = weights / weights.sum(-1, keepdim=True) @ tensors["v"]
    close(out(ratio(similarity, where=CAUSAL), tensors), expected)


def test_differential_attention_subtracts_and_normalises_each_row():
    tensors = inputs(width=4) | {"lam": torch.tensor(0.3, dtype=torch.float64)}
    halves = [(n.Slice(Q, *part), n.Slice(K, *part)) for part in ((0, 2), (2, None))]
    first, second = (
        softmax(dot(*half), name=name) for half, name in zip(halves, ("one", "two"), strict=True)
    )
    weights = minus(first, times(n.Scalar("lam"), second))
    mean = call("div", dot(n.SUMMED, n.SUMMED), 2)
    finish = call("div", n.SUMMED, call("sqrt", call("add", mean, 1e-5)))
    q, k = tensors["q"], tensors["k"]
    one = (q[..., :2] @ k[..., :2].mT).softmax(-1)
    two = (q[..., 2:] @ k[..., 2:].mT).softmax(-1)
    row = (one - 0.3 * two) @ tensors["v"]
    expected = row / (row.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    close(out(output(weights, finish=finish), tensors), expected)


def rotated(rows, positions, pairs):
    half = rows.shape[-1] // 2
    angle = positions[:, None] * 100.0 ** (-torch.arange(half, dtype=rows.dtype) / half)
    if pairs == "halves":
        number = torch.complex(rows[..., :half], rows[..., half:])
    else:
        number = torch.complex(rows[..., 0::2], rows[..., 1::2])
    number = number * torch.polar(torch.ones_like(angle), angle)
    parts = (number.real, number.imag)
    return torch.cat(parts, -1) if pairs == "halves" else torch.stack(parts, -1).flatten(-2)


def test_rotary_turns_queries_and_keys_by_their_position():
    tensors = inputs(width=6)
    half = 3
    frequency = call("pow", 100.0, call("div", call("neg", n.Channel()), half))
    for pairs in ("halves", "interleaved"):
        q = n.Rotate(Q, times(I, frequency), pairs)
        k = n.Rotate(K, times(J, frequency), pairs)
        rows = rotated(tensors["q"], torch.arange(4), pairs)
        columns = rotated(tensors["k"], torch.arange(5), pairs)
        expected = (rows @ columns.mT).softmax(-1) @ tensors["v"]
        close(out(softmax(dot(q, k)), tensors), expected)


def test_one_angle_turns_every_pair_of_channels():
    tensors = inputs(width=4)
    turned = n.Rotate(Q, c(math.pi / 2), "interleaved")
    q = tensors["q"]
    rows = torch.stack([-q[..., 1], q[..., 0], -q[..., 3], q[..., 2]], -1)
    expected = (rows @ tensors["k"].mT).softmax(-1) @ tensors["v"]
    close(out(softmax(dot(turned, K)), tensors), expected)


def test_a_learned_sink_is_one_more_logit_without_a_value():
    tensors = inputs() | {"sink": torch.randn(2, dtype=torch.float64)}
    sink = tensors["sink"][:, None, None].expand(2, 2, 4, 1)
    weights = torch.cat([scores(tensors), sink], -1).softmax(-1)[..., :-1]
    program = softmax(sink=parameter("sink", "head"))
    close(out(program, tensors), weights @ tensors["v"])


def test_distances_of_rows_score_pairs():
    tensors = inputs()
    difference = tensors["q"][:, :, :, None] - tensors["k"][:, :, None]
    city = softmax(call("neg", total(call("abs", minus(Q, K)))))
    close(out(city, tensors), (-difference.abs().sum(-1)).softmax(-1) @ tensors["v"])
    radial = ratio(call("exp", call("neg", total(call("pow", minus(Q, K), 2)))))
    close(out(radial, tensors), (-difference.square().sum(-1)).softmax(-1) @ tensors["v"])


def test_clipped_softmax_reaches_exact_zero():
    tensors = inputs()
    stretched = minus(times(1.2, n.MAPPED), 0.1)
    program = n.Map(softmax(where=CAUSAL), call("min", call("max", stretched, 0.0), 1.0))
    masked = scores(tensors).masked_fill(position_difference(tensors) < 0, -math.inf)
    weights = (1.2 * masked.softmax(-1) - 0.1).clamp(0, 1)
    close(out(program, tensors), weights @ tensors["v"])


def test_laser_averages_exponentials_of_values():
    tensors = inputs(heads=4, groups=2)
    largest = n.KeyMax(V)
    values = call("exp", minus(V, largest))
    program = output(softmax(), values, call("add", call("log", n.SUMMED), largest))
    k, v = (tensors[name].repeat_interleave(2, 1) for name in "kv")
    weights = (tensors["q"] @ k.mT).softmax(-1)
    close(out(program, tensors), (weights @ v.exp()).log())


def test_an_output_gate_reads_the_query_row():
    tensors = inputs() | {"W": torch.randn(3, 2, dtype=torch.float64)}
    gate = call("sigmoid", n.Project(Q, parameter("W", "channel", "channel"), 2))
    plain = scores(tensors).softmax(-1) @ tensors["v"]
    expected = plain * (tensors["q"] @ tensors["W"]).sigmoid()
    close(out(output(softmax(), finish=times(n.SUMMED, gate)), tensors), expected)


def test_scalable_softmax_reads_how_many_keys_are_visible():
    tensors = inputs(queries=5)
    program = softmax(times(SCORE, call("log", n.Visible())), where=CAUSAL)
    count = torch.arange(1, 6).double()[:, None]
    masked = (scores(tensors) * count.log()).masked_fill(
        position_difference(tensors) < 0, -math.inf
    )
    close(out(program, tensors), masked.softmax(-1) @ tensors["v"])


def test_top_k_keeps_the_best_keys():
    tensors = inputs()
    s = scores(tensors)
    masked = s.masked_fill(s < s.topk(2).values[..., -1:], -math.inf)
    close(out(softmax(where=topk(SCORE, 2)), tensors), masked.softmax(-1) @ tensors["v"])


def test_sparsemax_projects_onto_the_simplex():
    tensors = inputs()
    s = scores(tensors)
    ordered = s.sort(-1, descending=True).values
    rank = torch.arange(1, 6)
    supported = 1 + rank * ordered > ordered.cumsum(-1)
    size = supported.sum(-1, keepdim=True)
    threshold = (ordered.cumsum(-1).gather(-1, size - 1) - 1) / size
    close(weights_of(entmax(alpha=2), tensors), (s - threshold).relu())


def test_pair_inputs_and_features_bias_and_gate():
    double = {"dtype": torch.float64}
    tensors = inputs() | {
        "bias": torch.randn(1, 2, 4, 5, **double),
        "gate": torch.rand(2, 2, 5, **double),
        "segment": torch.tensor([[[0, 0, 1, 1]], [[0, 1, 1, 2]]]),
        "source": torch.tensor([[[0, 0, 1, 1, 2]]]),
    }
    same = call("eq", n.Feature("query", "segment"), n.Feature("key", "source"))
    score = call("add", SCORE, n.PairInput("bias"))
    program = times(softmax(score, where=same), n.Feature("key", "gate"))
    hidden = tensors["segment"][..., None] != tensors["source"][..., None, :]
    masked = (scores(tensors) + tensors["bias"]).masked_fill(hidden, -math.inf)
    weights = masked.softmax(-1) * tensors["gate"][:, :, None]
    close(out(program, tensors), weights @ tensors["v"])


def test_positions_and_sizes_read_what_the_call_says():
    tensors = inputs(heads=2)
    names = ("i", "j", "row_i", "row_j", "head", "heads", "batch", "queries", "keys", "width")
    options = {
        "query_positions": torch.tensor([[5, 6, 7, 8], [1, 2, 3, 4]]),
        "key_positions": torch.tensor([[-2, -1, 0, 1, 2]]),
        "key_lengths": [5, 4],
        "first_head": 4,
        "total_heads": 8,
    }
    found = {}
    for name in names:
        found[name] = run(weigh(n.Index(name)), tensors, ["weights"], **options)["weights"]
    one = {name: value[1, 1, 2, 3].item() for name, value in found.items()}
    assert one == {
        "i": 3, "j": 1, "row_i": 2, "row_j": 3, "head": 5, "heads": 8, "batch": 1, "queries": 4,
        "keys": 4, "width": 3,
    }  # fmt: skip
    assert HEAD is n.Index("head")
