"""Positions, dense, written from the papers; `CALLS` says how those that read more are called."""

import math

import torch

from tests.catalogue.oracles.calls import Call, Draw, Sizes
from tests.catalogue.oracles.dense import causal, heads, scaled, softmax
from tests.catalogue.oracles.modifier import _running_totals
from tests.catalogue.oracles.score import _above_and_below_the_bound, _cosine_over_temperature

# Biases and tables that are read by the distance of two positions.


def _distance(q, k):
    """Return i − j, (N, M)."""
    return torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])[None, :]


def shaw(q, k, v, keys, values, clip=16):
    """Shaw et al. 2018, equations 3 to 5: rows for the clipped distance, on keys and on values."""
    k, v = heads(q, k, v)
    row = torch.clamp(-_distance(q, k), -clip, clip) + clip
    towards = k.unsqueeze(-3) + keys[row]  # (B, H, N, M, D)
    score = torch.einsum("bhnd,bhnmd->bhnm", q, towards) / math.sqrt(q.shape[-1])
    return torch.einsum("bhnm,bhnme->bhne", softmax(score), v.unsqueeze(-3) + values[row])


def transformer_xl(q, k, v, content, position, distances):
    """Dai et al. 2019, section 3.3, the four terms (a) to (d) one by one."""
    k, v = heads(q, k, v)
    seen = causal(q, k)
    row = torch.clamp(_distance(q, k), min=0)
    of_distance = distances[:, row]  # (H, N, M, D): W_{k,R} R_{i−j}
    a = torch.einsum("bhnd,bhmd->bhnm", q, k)
    b = torch.einsum("bhnd,hnmd->bhnm", q, of_distance)
    c = torch.einsum("hd,bhmd->bhm", content, k).unsqueeze(-2)
    d = torch.einsum("hd,hnmd->hnm", position, of_distance)
    return softmax((a + b + c + d) / math.sqrt(q.shape[-1]), seen) @ v


def t5(q, k, v, bias, buckets=32, furthest=128):
    """Raffel et al. 2020, section 2.1, and its published buckets; the scores are not scaled."""
    k, v = heads(q, k, v)
    half = buckets // 2
    bucket = [
        [half * (j > i) + _t5_bucket(abs(i - j), half, furthest) for j in range(k.shape[-2])]
        for i in range(q.shape[-2])
    ]
    return softmax(q @ k.mT + bias[:, torch.tensor(bucket)]) @ v


def t5_causal(q, k, v, bias, buckets=32, furthest=128):
    """The same in a decoder: every bucket is for keys before the query."""
    k, v = heads(q, k, v)
    bucket = [
        [_t5_bucket(max(i - j, 0), buckets, furthest) for j in range(k.shape[-2])]
        for i in range(q.shape[-2])
    ]
    return softmax(q @ k.mT + bias[:, torch.tensor(bucket)], causal(q, k)) @ v


def _t5_bucket(distance, buckets, furthest):
    """The first half of the buckets hold one distance each; the others grow by a constant ratio."""
    exact = buckets // 2
    if distance < exact:
        return distance
    share = math.log(distance / exact) / math.log(furthest / exact)
    return min(exact + int(share * (buckets - exact)), buckets - 1)


def tupe(q, k, v, q_position, k_position, reset_from, reset_to):
    """Ke et al. 2020, equations 7 and 10 (TUPE-A): untied positions, and [CLS] reset."""
    k, k_position, v = heads(q, k, k_position, v)
    root = math.sqrt(2 * q.shape[-1])
    place = (q_position @ k_position.mT / root).clone()
    place[..., :, 0] = reset_to[:, None]
    place[..., 0, :] = reset_from[:, None]
    return softmax(q @ k.mT / root + place) @ v


def deberta(q, k, v, to_key, to_query, span=512):
    """He et al. 2020, equations 3 and 4: content to content, to position, and from position."""
    k, v = heads(q, k, v)
    delta = torch.clamp(_distance(q, k) + span, 0, 2 * span - 1)  # (N, M): δ(i, j)
    back = torch.clamp(span - _distance(q, k), 0, 2 * span - 1)  # (N, M): δ(j, i)
    score = torch.einsum("bhnd,bhmd->bhnm", q, k)
    score = score + torch.einsum("bhnd,hnmd->bhnm", q, to_key[:, delta])
    score = score + torch.einsum("bhmd,hnmd->bhnm", k, to_query[:, back])
    return softmax(score / math.sqrt(3 * q.shape[-1])) @ v


def alibi(q, k, v, slope):
    """Press et al. 2021, section 3; the bias is not divided by √D."""
    k, v = heads(q, k, v)
    return softmax(scaled(q, k) - slope[:, None, None] * _distance(q, k), causal(q, k)) @ v


def alibi_symmetric(q, k, v, slope):
    """The same for an encoder, by the absolute distance."""
    k, v = heads(q, k, v)
    return softmax(scaled(q, k) - slope[:, None, None] * _distance(q, k).abs()) @ v


def kerple_power(q, k, v, scale, power):
    """Chi et al. 2022, the power variant: −r1 |i − j|^r2."""
    k, v = heads(q, k, v)
    bias = -scale[:, None, None] * _distance(q, k).abs().to(q) ** power[:, None, None]
    return softmax(scaled(q, k) + bias, causal(q, k)) @ v


def kerple_log(q, k, v, scale, rate):
    """Chi et al. 2022, the logarithmic variant: −r1 log(1 + r2 |i − j|)."""
    k, v = heads(q, k, v)
    grown = torch.log(1 + rate[:, None, None] * _distance(q, k).abs())
    return softmax(scaled(q, k) - scale[:, None, None] * grown, causal(q, k)) @ v


def sandwich(q, k, v, width=128):
    """Chi et al. 2023: the products of sinusoidal positions, over 8h/H for head h of 1 … H."""
    k, v = heads(q, k, v)
    place = torch.arange(k.shape[-2], dtype=q.dtype)[:, None]
    angle = place / 10000 ** (2 * torch.arange(width // 2, dtype=q.dtype) / width)
    row = torch.cat([angle.sin(), angle.cos()], dim=-1)  # (M, width)
    weaker = 8 * torch.arange(1, q.shape[1] + 1, dtype=q.dtype) / q.shape[1]
    return softmax(scaled(q, k) + row @ row.T / weaker[:, None, None], causal(q, k)) @ v


def fire(q, k, v, rate, length, hidden, hidden_bias, out, out_bias, width=32):
    """Li et al. 2023, equations 4 and 5 with ψ(x) = log(c·x + 1)."""
    k, v = heads(q, k, v)
    seen = causal(q, k)

    def psi(x):
        return torch.log(rate * x + 1)

    place = torch.arange(q.shape[-2], dtype=q.dtype)[:, None]
    share = psi(_distance(q, k).clamp(min=0)) / psi(torch.maximum(length, place))
    layer = torch.relu(share.unsqueeze(-1) * hidden + hidden_bias)  # (N, M, W)
    bias = (layer @ out.mT + out_bias).permute(2, 0, 1)  # (H, N, M)
    return softmax(scaled(q, k) + bias, seen) @ v


def cable(q, k, v, total_q, total_k):
    """Veisi et al. 2025: a bias per token, summed over the keys from j + 1 to i."""
    k, v, total_k = heads(q, k, v, total_k)
    bias = total_q.unsqueeze(-1) - total_k.unsqueeze(-2)
    return softmax(scaled(q, k) - bias, causal(q, k)) @ v


def learned_relative_bias(q, k, v, bias, clip=128):
    """One learned number for each clipped distance j − i and head."""
    k, v = heads(q, k, v)
    return softmax(scaled(q, k) + bias[:, (-_distance(q, k)).clamp(-clip, clip) + clip]) @ v


def graphormer(q, k, v, bias, distance, furthest=20):
    """Ying et al. 2021, equation 6: one learned number for each length of shortest path."""
    k, v = heads(q, k, v)
    number = distance.clamp(max=furthest - 1).expand(q.shape[0], q.shape[1], -1, -1)
    head = torch.arange(q.shape[1])[:, None, None]
    return softmax(scaled(q, k) + bias[head, number]) @ v


# Places in an image.


def swin_relative_bias(q, k, v, bias, row_q, column_q, row_k, column_k, side=7):
    """Liu et al. 2021 (Swin), equation 4; the bias is read by the difference of two places."""
    k, v = heads(q, k, v)
    down, across = _shift(row_q, row_k), _shift(column_q, column_k)
    table = bias.reshape(bias.shape[0], 2 * side - 1, 2 * side - 1)
    head = torch.arange(q.shape[1])[:, None, None]
    return softmax(scaled(q, k) + table[head, down + side - 1, across + side - 1]) @ v


def swin_continuous_bias(
    q,
    k,
    v,
    logit_scale,
    hidden,
    hidden_bias,
    out,
    row_q,
    column_q,
    row_k,
    column_k,
    side=8,
    width=512,
):
    """Liu et al. 2021 (Swin v2), equations 2 to 4, with the constants of its published code."""
    k, v = heads(q, k, v)

    def spaced(shift):
        wide = 8 * shift.to(q) / (side - 1)
        return torch.sign(wide) * torch.log2(wide.abs() + 1) / math.log2(8)

    place = [spaced(_shift(row_q, row_k)), spaced(_shift(column_q, column_k))]
    layer = torch.relu(torch.stack(place, dim=-1) @ hidden + hidden_bias)
    bias = 16 * torch.sigmoid(torch.einsum("...nmw,hw->...hnm", layer.squeeze(1), out))
    return softmax(_cosine_over_temperature(q, k, logit_scale) + bias) @ v


def _shift(of_query, of_key):
    """Return (B, 1, N, M) differences of a feature of the query and one of the key."""
    return of_query.unsqueeze(-1) - of_key.unsqueeze(-2)


# Rotations: two channels of a row are one complex number, turned by position · frequency.


def _turn(x, angle, pairs="halves"):
    """Turn channels (2c, 2c+1), or (c, c+D/2), by angle[..., c]; x (B, H, N, D)."""
    half = x.shape[-1] // 2
    if pairs == "interleaved":
        first, second = x[..., 0::2], x[..., 1::2]
    else:
        first, second = x[..., :half], x[..., half:]
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
    if pairs == "interleaved":
        return torch.view_as_real(turned).flatten(-2)
    return torch.cat([turned.real, turned.imag], dim=-1)


def _frequencies(width, base=10000.0):
    """θ_c = base^(−2c/D)."""
    return base ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)


def _rotated(q, k, v, frequency, pairs="halves"):
    """Attend causally with rows turned by their number times a frequency per pair."""
    k, v = heads(q, k, v)
    angle = torch.outer(torch.arange(q.shape[-2], dtype=torch.float64), frequency)
    return softmax(scaled(_turn(q, angle, pairs), _turn(k, angle, pairs)), causal(q, k)) @ v


def rotary(q, k, v, base=10000.0):
    """Su et al. 2021, equations 14 to 16 and 34."""
    return _rotated(q, k, v, _frequencies(q.shape[-1], base), pairs="interleaved")


def rotary_halves(q, k, v, base=10000.0):
    """The same with the first half of the channels paired with the second (GPT-NeoX, Llama)."""
    return _rotated(q, k, v, _frequencies(q.shape[-1], base))


def rotary_interpolated(q, k, v, factor=8.0, base=10000.0):
    """Chen et al. 2023, equation 4: position · L/L'."""
    return _rotated(q, k, v, _frequencies(q.shape[-1], base) / factor)


def rotary_ntk(q, k, v, factor=8.0, base=10000.0):
    """NTK-aware scaling, as Peng et al. 2023 state it in section 3.1: b' = b·s^(D/(D−2))."""
    width = q.shape[-1]
    return _rotated(q, k, v, _frequencies(width, base * factor ** (width / (width - 2))))


def _yarn_frequencies(width, factor, original, beta_slow, beta_fast, base):
    """Peng et al. 2023, section 3.2, NTK by parts: a ramp in r = L/λ."""
    found = []
    for theta in _frequencies(width, base).tolist():
        turns = original / (2 * math.pi / theta)
        ramp = min(max((turns - beta_slow) / (beta_fast - beta_slow), 0.0), 1.0)
        found.append((1 - ramp) * theta / factor + ramp * theta)
    return torch.tensor(found, dtype=torch.float64)


def rotary_yarn(q, k, v, factor=16.0, original=4096, beta_slow=1.0, beta_fast=32.0, base=10000.0):
    """Peng et al. 2023, section 3.4: NTK by parts, and both rows times √(1/t)."""
    frequency = _yarn_frequencies(q.shape[-1], factor, original, beta_slow, beta_fast, base)
    warmth = 0.1 * math.log(factor) + 1
    return _rotated(q * warmth, k * warmth, v, frequency)


def _llama3_frequencies(width, factor, low, high, original, base):
    """Short waves stay, waves over original/low are slowed, and those between are mixed."""
    found = []
    for theta in _frequencies(width, base).tolist():
        wave = 2 * math.pi / theta
        if wave < original / high:
            found.append(theta)
        elif wave > original / low:
            found.append(theta / factor)
        else:
            smooth = (original / wave - low) / (high - low)
            found.append((1 - smooth) * theta / factor + smooth * theta)
    return torch.tensor(found, dtype=torch.float64)


def rotary_llama3(q, k, v, factor=8.0, low=1.0, high=4.0, original=8192, base=500000.0):
    """Llama 3.1's published scaling of the frequencies."""
    frequency = _llama3_frequencies(q.shape[-1], factor, low, high, original, base)
    return _rotated(q, k, v, frequency)


def rotary_partial(q, k, v, turned=0.25, base=10000.0):
    """Wang and Komatsuzaki 2021 (GPT-J): a fraction of the channels is turned, as neighbours."""
    k, v = heads(q, k, v)
    width = int(turned * q.shape[-1])
    place = torch.arange(q.shape[-2], dtype=torch.float64)
    angle = torch.outer(place, _frequencies(width, base))

    def part(x):
        return torch.cat([_turn(x[..., :width], angle, "interleaved"), x[..., width:]], dim=-1)

    return softmax(scaled(part(q), part(k)), causal(q, k)) @ v


def rotary_axial(q, k, v, row_q, column_q, row_k, column_k, base=100.0):
    """Heo et al. 2024, axial frequencies; here the rows turn the first half of the channels."""
    k, v = heads(q, k, v)
    half = q.shape[-1] // 2
    frequency = _frequencies(half, base)

    def part(x, row, column):
        by_row = _turn(x[..., :half], row.unsqueeze(-1) * frequency, "interleaved")
        by_column = _turn(x[..., half:], column.unsqueeze(-1) * frequency, "interleaved")
        return torch.cat([by_row, by_column], dim=-1)

    return softmax(scaled(part(q, row_q, column_q), part(k, row_k, column_k))) @ v


def rotary_sections(
    q,
    k,
    v,
    time_q,
    row_q,
    column_q,
    time_k,
    row_k,
    column_k,
    sections=(16, 24, 24),
    base=10000.0,
):
    """Wang et al. 2024 (Qwen2-VL), M-RoPE: each section of the pairs has a place of its own."""
    k, v = heads(q, k, v)
    frequency = _frequencies(q.shape[-1], base).split(list(sections))

    def angle(*places):
        return torch.cat([p.unsqueeze(-1) * f for p, f in zip(places, frequency, strict=True)], -1)

    turned_q = _turn(q, angle(time_q, row_q, column_q))
    turned_k = _turn(k, angle(time_k, row_k, column_k))
    return softmax(scaled(turned_q, turned_k), causal(q, k)) @ v


def xpos(q, k, v, gamma=0.4, scale_base=512.0, base=10000.0):
    """Sun et al. 2022, algorithm 1: queries also grow with their number and keys shrink."""
    k, v = heads(q, k, v)
    width = q.shape[-1]
    place = torch.arange(q.shape[-2], dtype=torch.float64)
    angle = torch.outer(place, _frequencies(width, base))
    zeta = (2 * torch.arange(width // 2, dtype=torch.float64) / width + gamma) / (1 + gamma)
    grown = (zeta ** (place[:, None] / scale_base)).repeat_interleave(2, dim=-1)
    turned_q = _turn(q, angle, "interleaved") * grown
    turned_k = _turn(k, angle, "interleaved") / grown
    return softmax(scaled(turned_q, turned_k), causal(q, k)) @ v


# How they are called.


def _grid(side):
    """Rows and columns of a square image, the same for every batch row and head."""
    number = torch.arange(side * side).reshape(1, 1, -1)
    row, column = number // side, number % side
    return {"row_q": row, "column_q": column, "row_k": row, "column_k": column}


def _text_and_image():
    """Three numbers a token: four of text, a 2 × 4 image, four of text, as Qwen2-VL counts them."""
    before, after = [(n,) * 3 for n in range(4)], [(n,) * 3 for n in range(8, 12)]
    image = [(4, 4 + number // 4, 4 + number % 4) for number in range(8)]
    other = [(n,) * 3 for n in range(16)]
    place = torch.tensor([before + image + after, other])[:, None]  # (B, 1, N, 3)
    names = ("time", "row", "column")
    return {
        f"{name}_{of}": place[..., at].contiguous() for of in "qk" for at, name in enumerate(names)
    }


def _biases(draw: Draw):
    """Draw a bias per token and key head that is at least 0, summed."""
    s = draw.sizes
    return _running_totals(draw, draw.given(s.B, s.G, s.M, low=0.05, high=0.6))


CALLS: dict[str, Call] = {
    "shaw": Call(lambda d: {"keys": d.learned(9, 8), "values": d.learned(9, 8)}, knobs={"clip": 4}),
    "transformer_xl": Call(
        lambda d: {
            "content": d.learned(4, 8),
            "position": d.learned(4, 8),
            "distances": d.learned(4, 16, 8),
        }
    ),
    "t5": Call(
        lambda d: {"bias": d.learned(4, 32)}, knobs={"furthest": 32}, sizes=Sizes(N=40, M=40)
    ),
    "t5_causal": Call(
        lambda d: {"bias": d.learned(4, 32)}, knobs={"furthest": 32}, sizes=Sizes(N=40, M=40)
    ),
    "tupe": Call(
        lambda d: {
            "q_position": d.learned(2, 4, 16, 8),
            "k_position": d.learned(2, 2, 16, 8),
            "reset_from": d.learned(4),
            "reset_to": d.learned(4),
        }
    ),
    "deberta": Call(
        lambda d: {"to_key": d.learned(4, 8, 8), "to_query": d.learned(4, 8, 8)},
        knobs={"span": 4},
    ),
    "alibi": Call(lambda d: {"slope": d.learned(4, low=0.05, high=0.6)}),
    "alibi_symmetric": Call(lambda d: {"slope": d.learned(4, low=0.05, high=0.6)}),
    "kerple_power": Call(
        lambda d: {
            "scale": d.learned(4, low=0.05, high=0.5),
            "power": d.learned(4, low=0.3, high=2.0),
        }
    ),
    "kerple_log": Call(
        lambda d: {
            "scale": d.learned(4, low=0.2, high=2.0),
            "rate": d.learned(4, low=0.1, high=2.0),
        }
    ),
    "sandwich": Call(knobs={"width": 16}),
    "fire": Call(
        lambda d: {
            "rate": d.learned(low=0.3, high=1.0),
            "length": d.learned(low=5.2, high=5.8),
            "hidden": d.learned(6, low=-1.5, high=1.5),
            "hidden_bias": d.learned(6, low=0.0, high=1.0),
            "out": d.learned(4, 6),
            "out_bias": d.learned(4),
        },
        knobs={"width": 6},
    ),
    "cable": Call(_biases),
    "learned_relative_bias": Call(lambda d: {"bias": d.learned(4, 9)}, knobs={"clip": 4}),
    "graphormer": Call(
        lambda d: {"bias": d.learned(4, 5), "distance": d.integers(2, 1, 16, 16, below=8)},
        knobs={"furthest": 5},
    ),
    "swin_relative_bias": Call(lambda d: {"bias": d.learned(4, 49), **_grid(4)}, knobs={"side": 4}),
    "swin_continuous_bias": Call(
        lambda d: {
            "logit_scale": _above_and_below_the_bound(d),
            "hidden": d.learned(2, 6),
            "hidden_bias": d.learned(6, low=-0.5, high=0.5),
            "out": d.learned(4, 6, low=-0.5, high=0.5),
            **_grid(4),
        },
        knobs={"side": 4, "width": 6},
    ),
    "rotary_interpolated": Call(knobs={"factor": 4.0}),
    "rotary_ntk": Call(knobs={"factor": 4.0}),
    # Of the four pairs one turns often enough to stay, one is on the ramp, two are slowed.
    "rotary_yarn": Call(knobs={"factor": 4.0, "original": 512}),
    "rotary_llama3": Call(knobs={"factor": 4.0, "original": 64}),
    "rotary_partial": Call(knobs={"turned": 0.5}),
    "rotary_axial": Call(lambda d: _grid(4)),
    "rotary_sections": Call(lambda d: _text_and_image(), knobs={"sections": (2, 1, 1)}),
}
