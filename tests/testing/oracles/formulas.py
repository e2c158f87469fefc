"""Published attention mechanisms as their papers write them, dense, in plain torch.

Written from the formulas alone and without a look at how Regard computes anything. All heads are
their own: q (B, H, N, D), k (B, H, M, D), v (B, H, M, E). Query row n stands at position n, key
row m at position m.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import elu, normalize


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    return torch.matmul(q, k.transpose(-2, -1))


def future(q: Tensor, k: Tensor) -> Tensor:
    """Where a key comes after the query, (N, M)."""
    return torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)


def distances(q: Tensor, k: Tensor) -> Tensor:
    """How far each key lies behind its query, (N, M); negative ahead."""
    return torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])[None, :]


def scaled_dot_product(q, k, v):
    """Vaswani et al. 2017, arXiv 1706.03762, equation 1."""
    return torch.softmax(scores_of(q, k) / math.sqrt(q.shape[-1]), dim=-1) @ v


def alibi(q, k, v, slope):
    """Press, Smith and Lewis 2021, arXiv 2108.12409, section 3: a penalty of slope · distance."""
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    scores = scores - slope[:, None, None] * distances(q, k)
    return torch.softmax(scores.masked_fill(future(q, k), -math.inf), -1) @ v


def t5_bucket(key_minus_query: int, buckets: int = 32, furthest: int = 128) -> int:
    """Raffel et al. 2020, arXiv 1910.10683, section 2.1, both directions.

    Half of each direction's buckets hold one distance each, the others grow logarithmically.
    """
    half = buckets // 2
    first = half if key_minus_query > 0 else 0
    distance = abs(key_minus_query)
    exact = half // 2
    if distance < exact:
        return first + distance
    grown = math.log(distance / exact) / math.log(furthest / exact) * (half - exact)
    # The logarithm of a power of two is a hair below the whole number it stands for.
    return first + min(half - 1, exact + math.floor(grown + 1e-9))


def t5(q, k, v, bias):
    """Raffel et al. 2020: no scaling, a learned number per head and bucket."""
    steps = (-distances(q, k)).tolist()
    bucket = torch.tensor([[t5_bucket(step) for step in row] for row in steps])
    return torch.softmax(scores_of(q, k) + bias[:, bucket], -1) @ v


def shaw(q, k, v, keys, values, reach=4):
    """Shaw, Uszkoreit and Vaswani 2018, arXiv 1803.02155, equations 3 and 4."""
    step = (-distances(q, k)).clamp(-reach, reach) + reach
    scores = scores_of(q, k) + torch.einsum("bhnd,nmd->bhnm", q, keys[step])
    weights = torch.softmax(scores / math.sqrt(q.shape[-1]), -1)
    return weights @ v + torch.einsum("bhnm,nme->bhne", weights, values[step])


def transformer_xl(q, k, v, rows, content, position):
    """Dai et al. 2019, arXiv 1901.02860, section 3.3, terms (a) to (d); rows[i - j] is W_R R."""
    relative = rows[distances(q, k).clamp(0, len(rows) - 1)]
    a = scores_of(q, k)
    b = torch.einsum("bhnd,nmd->bhnm", q, relative)
    c = torch.einsum("hd,bhmd->bhm", content, k)[:, :, None, :]
    d = torch.einsum("hd,nmd->hnm", position, relative)
    scores = ((a + b + c + d) / math.sqrt(q.shape[-1])).masked_fill(future(q, k), -math.inf)
    return torch.softmax(scores, -1) @ v


def disentangled(q, k, v, to_key, to_query, reach=6):
    """He et al. 2020, arXiv 2006.03654, equations 3 and 4, per head, K_r and Q_r already taken.

    Content to content, content to position by δ(i, j), position to content by δ(j, i).
    """
    behind = distances(q, k)
    delta = (behind + reach).clamp(0, 2 * reach - 1)
    back = (-behind + reach).clamp(0, 2 * reach - 1)
    scores = scores_of(q, k)
    scores = scores + torch.einsum("bhnd,hnmd->bhnm", q, to_key[:, delta])
    scores = scores + torch.einsum("bhmd,hnmd->bhnm", k, to_query[:, back])
    return torch.softmax(scores / math.sqrt(3 * q.shape[-1]), -1) @ v


def additive(q, k, v, direction):
    """Bahdanau, Cho and Bengio 2015, arXiv 1409.0473, appendix A.1.2, W s and U h already taken."""
    hidden = torch.tanh(q[:, :, :, None, :] + k[:, :, None, :, :])
    return torch.softmax((hidden * direction[:, None, None, :]).sum(-1), -1) @ v


def softmax_one(q, k, v):
    """Miller 2023, "Attention is off by one": exp(x) / (1 + Σ exp(x))."""
    grown = torch.exp(scores_of(q, k) / math.sqrt(q.shape[-1]))
    return grown / (1 + grown.sum(-1, keepdim=True)) @ v


def learned_sink(q, k, v, sink):
    """OpenAI 2025, the gpt-oss model card, 2.3: a learned logit per head joins the denominator."""
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(future(q, k), -math.inf)
    extra = sink[None, :, None, None].expand(*scores.shape[:3], 1)
    return torch.softmax(torch.cat([scores, extra], -1), -1)[..., :-1] @ v


def sigmoid(q, k, v):
    """Ramapuram et al. 2024, arXiv 2409.04431, equation 3, with b = -log n."""
    scores = scores_of(q, k) / math.sqrt(q.shape[-1]) - math.log(k.shape[-2])
    return 1 / (1 + torch.exp(-scores)) @ v


def softpick(q, k, v):
    """Zuhri, Fuadi and Aji 2025, arXiv 2504.20966, equation 3."""
    grown = torch.exp(scores_of(q, k) / math.sqrt(q.shape[-1])) - 1
    grown = grown.masked_fill(future(q, k), 0)
    return grown.clamp_min(0) / (grown.abs().sum(-1, keepdim=True) + 1e-6) @ v


def differential(q, k, v, q2, k2, share, initial=0.2):
    """Ye et al. 2024, arXiv 2410.05258, equations 1 and 3: each head normed, then (1 - λ_init)."""
    hidden = future(q, k)
    first, second = (
        torch.softmax((scores_of(a, b) / math.sqrt(a.shape[-1])).masked_fill(hidden, -math.inf), -1)
        for a, b in ((q, k), (q2, k2))
    )
    row = (first - share * second) @ v
    norm = row / torch.sqrt((row**2).mean(-1, keepdim=True) + 1e-5)
    return (1 - initial) * norm


def rotated(row, base=10000.0):
    """Su et al. 2021, arXiv 2104.09864, equation 14: channel pairs as complex numbers."""
    width = row.shape[-1]
    speed = base ** (-2 * torch.arange(width // 2, dtype=row.dtype) / width)
    angle = torch.arange(row.shape[-2], dtype=row.dtype)[:, None] * speed
    turned = torch.view_as_complex(row.unflatten(-1, (-1, 2)).contiguous())
    turned = turned * torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(turned).flatten(-2)


def rotary(q, k, v):
    """Su et al. 2021, equation 16: neighbouring channels are a pair."""
    return scaled_dot_product(rotated(q), rotated(k), v)


def rotary_halves(q, k, v):
    """The same where channel c and channel c + D/2 are a pair, as in GPT-NeoX and Llama."""
    order = torch.arange(q.shape[-1]).view(2, -1).mT.flatten()
    return scaled_dot_product(rotated(q[..., order]), rotated(k[..., order]), v)


def query_key_norm(q, k, v, gain):
    """Henry et al. 2020, arXiv 2010.04245, equation 4: a learned gain instead of 1/√d."""
    return torch.softmax(gain * scores_of(normalize(q, dim=-1), normalize(k, dim=-1)), -1) @ v


def euclidean(q, k, v):
    """Kim, Papamakarios and Mnih 2021, arXiv 2006.04710, equation 11, W Q = q and W K = k."""
    squared = torch.cdist(q, k, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    return torch.softmax(-squared / math.sqrt(q.shape[-1]), -1) @ v


def scaled_cosine(q, k, v, heat, bias):
    """Liu et al. 2022, Swin V2, arXiv 2111.09883, equation 2: cos(q, k) / τ + B, τ ≥ 0.01."""
    cosines = torch.nn.functional.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1)
    return torch.softmax(cosines / heat.clamp_min(0.01)[:, None, None] + bias, -1) @ v


def soft_cap(q, k, v, cap=5.0):
    """Gemma 2, arXiv 2408.00118, section 2: soft_cap · tanh(logits / soft_cap)."""
    scores = cap * torch.tanh(scores_of(q, k) / math.sqrt(q.shape[-1]) / cap)
    return torch.softmax(scores.masked_fill(future(q, k), -math.inf), -1) @ v


def elu_features(q, k, v):
    """Katharopoulos et al. 2020, arXiv 2006.16236, equations 16 to 20: as a recurrence."""
    q, k = elu(q) + 1, elu(k) + 1
    state = v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1])
    norm = k.new_zeros(*k.shape[:2], k.shape[-1])
    rows = []
    for i in range(q.shape[-2]):
        state = state + k[:, :, i, :, None] * v[:, :, i, None, :]
        norm = norm + k[:, :, i]
        above = torch.einsum("bhd,bhde->bhe", q[:, :, i], state)
        rows.append(above / (q[:, :, i] * norm).sum(-1, keepdim=True))
    return torch.stack(rows, -2)


def laser(q, k, v):
    """Duggal et al. 2024, arXiv 2411.03493, equation 4: the log of attention over exp(V)."""
    weights = torch.softmax(scores_of(q, k) / math.sqrt(q.shape[-1]), -1)
    return torch.log(weights @ torch.exp(v))


def rectified(q, k, v, gain):
    """Zhang, Titov and Sennrich 2021, ReLA, arXiv 2104.07012, equations 5 and 7."""
    row = torch.relu(scores_of(q, k) / math.sqrt(q.shape[-1])) @ v
    return gain * row / torch.sqrt((row**2).mean(-1, keepdim=True) + 1e-6)


def relu_by_length(q, k, v):
    """Wortsman et al. 2023, arXiv 2309.08586, section 3: ReLU divided by the sequence length."""
    return torch.relu(scores_of(q, k) / math.sqrt(q.shape[-1])) / k.shape[-2] @ v


def scalable(q, k, v, scale):
    """Nakanishi 2025, arXiv 2501.19399, equation 2: n^(s · z) in place of e^z, causal."""
    seen = torch.arange(1, q.shape[-2] + 1, dtype=q.dtype)[:, None]
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    grown = seen ** (scale[:, None, None] * scores) * ~future(q, k)
    return grown / grown.sum(-1, keepdim=True) @ v


def retention(q, k, v, decay):
    """Sun et al. 2023, RetNet, arXiv 2307.08621, equation 6: S_n = γ S_{n-1} + k_nᵀ v_n."""
    state = v.new_zeros(*v.shape[:2], k.shape[-1], v.shape[-1])
    rows = []
    for i in range(q.shape[-2]):
        state = decay[:, None, None] * state + k[:, :, i, :, None] * v[:, :, i, None, :]
        rows.append(torch.einsum("bhd,bhde->bhe", q[:, :, i], state))
    return torch.stack(rows, -2)


def sparsemax(q, k, v):
    """Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1."""
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    ordered = scores.sort(-1, descending=True).values
    count = torch.arange(1, k.shape[-2] + 1, dtype=q.dtype)
    support = (1 + count * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
    threshold = (ordered.cumsum(-1).gather(-1, support - 1) - 1) / support
    return (scores - threshold).clamp_min(0) @ v


def cosine_reweighted(q, k, v):
    """Qin et al. 2022, cosFormer, arXiv 2202.08791, equation 10, with M the number of keys."""
    similar = scores_of(q.relu(), k.relu())
    similar = similar * torch.cos(math.pi / 2 * distances(q, k).to(q.dtype) / k.shape[-2])
    return similar / similar.sum(-1, keepdim=True) @ v


def gaussian(q, k, v):
    """Chen et al. 2021, Skyformer, arXiv 2111.00035, equation 4: exp(-‖q - k‖² / (2 √d))."""
    squared = torch.cdist(q, k, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    return torch.exp(-squared / (2 * math.sqrt(q.shape[-1]))) @ v


def xpos(q, k, v, base=512, smooth=0.4):
    """Sun et al. 2022, arXiv 2212.10554, algorithm 1: ζ^(n/512) on queries, ζ^(-n/512) on keys."""
    width = q.shape[-1]
    pair = torch.arange(width // 2, dtype=q.dtype)
    zeta = ((pair / (width / 2) + smooth) / (1 + smooth)).repeat_interleave(2)
    step = torch.arange(q.shape[-2], dtype=q.dtype)[:, None] / base
    scores = scores_of(rotated(q) * zeta**step, rotated(k) * zeta**-step) / math.sqrt(width)
    return torch.softmax(scores.masked_fill(future(q, k), -math.inf), -1) @ v


def stick_breaking(q, k, v):
    """Tan et al. 2024, arXiv 2410.17980, equation 3: each key, from the nearest, breaks off β."""
    share = torch.sigmoid(scores_of(q, k) / math.sqrt(q.shape[-1]))
    rows = []
    for i in range(q.shape[-2]):
        left, row = torch.ones_like(share[..., 0, 0]), torch.zeros_like(v[..., 0, :])
        for j in reversed(range(i)):
            row = row + (share[..., i, j] * left)[..., None] * v[..., j, :]
            left = left * (1 - share[..., i, j])
        rows.append(row)
    return torch.stack(rows, -2)


def contextual_positions(q, k, v, places):
    """Golovneva et al. 2024, CoPE, arXiv 2405.18719, equations 4 to 6: p_ij = Σ_{k=j}^i g_ik."""
    scores = scores_of(q, k) / math.sqrt(q.shape[-1])
    gates = torch.sigmoid(scores) * ~future(q, k)
    position = torch.stack([gates[..., j:].sum(-1) for j in range(k.shape[-2])], -1)
    position = position.clamp(max=places.shape[0] - 1)
    below, above = position.floor(), position.ceil()
    near = q @ places.mT
    low, high = near.gather(-1, below.long()), near.gather(-1, above.long())
    biased = scores + (1 - (position - below)) * low + (position - below) * high
    return torch.softmax(biased.masked_fill(future(q, k), -math.inf), -1) @ v


def forgetting(q, k, v, gate):
    """Lin et al. 2025, FoX, arXiv 2503.02130, equation 4: D_ij = Σ_{j < l ≤ i} log f_l."""
    log_f = torch.log(torch.sigmoid(gate))
    size = q.shape[-2]
    rows = [[log_f[..., j + 1 : i + 1].sum(-1) for j in range(size)] for i in range(size)]
    faded = torch.stack([torch.stack(row, -1) for row in rows], -2)
    scores = scores_of(q, k) / math.sqrt(q.shape[-1]) + faded
    return torch.softmax(scores.masked_fill(future(q, k), -math.inf), -1) @ v
