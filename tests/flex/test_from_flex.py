import functools
import math

import pytest
import torch
from torch.nn.attention.flex_attention import and_masks, create_block_mask, noop_mask, or_masks

import regard as rg
from regard.ir import nodes as n
from tests.flex.oracle import assert_same, flex_eager, gradients, rows

B, H, N, D = 2, 4, 18, 8


def assert_as_flex(score_mod=None, mask_mod=None, captured=(), **sizes):
    """Values, lse and gradients are those of FlexAttention's eager code."""
    q, k, v = rows(**sizes, grad=True)
    found = rg.from_flex(score_mod, mask_mod, q=q, k=k)
    output, seen = rg.attend(found.program, q, k, v, observe=["lse"], **found.inputs)
    wanted, lse, _ = flex_eager(q, k, v, score_mod, mask_mod)
    inputs = [q, k, v, *captured]
    got = [output, seen["lse"], *gradients(output, inputs)]
    assert_same(got, [wanted, lse, *gradients(wanted, inputs)], 3e-6)
    return found.program


def tensor(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def leaves(program, kind):
    return [leaf for leaf in program.inputs if isinstance(leaf, kind) and leaf.name not in "qkv"]


# ── Captured tensors ──────────────────────────────────────────────────────────────────────────
def test_numbers_per_query_and_per_key_become_features():
    query, key, both = tensor(N), tensor(B, N), tensor(B, H, N)

    def mod(score, b, h, q_idx, kv_idx):
        return score * query[q_idx] + key[b, kv_idx] - both[b, h, q_idx]

    program = assert_as_flex(mod, captured=(query, key, both))
    sides = [leaf.side for leaf in leaves(program, n.Feature)]
    assert sorted(sides) == ["key", "query", "query"]


def test_axes_of_a_captured_tensor_may_come_in_any_order():
    turned, pair = tensor(N, H, B), tensor(N, H, N)

    def mod(score, b, h, q_idx, kv_idx):
        return score + turned[kv_idx, h, b] * pair[kv_idx, h, q_idx]

    program = assert_as_flex(mod, captured=(turned, pair))
    assert len(leaves(program, n.PairInput)) == len(leaves(program, n.Feature)) == 1


def test_one_number_per_pair_becomes_a_pair_input():
    bias = tensor(B, H, N, N)
    program = assert_as_flex(lambda score, b, h, q, k: score + bias[b, h, q, k], captured=(bias,))
    assert [leaf.name for leaf in leaves(program, n.PairInput)] == ["bias"]


def test_other_whole_numbers_index_tables():
    relative, buckets = tensor(H, 2 * N), tensor(3, 5)

    def mod(score, b, h, q_idx, kv_idx):
        return score + relative[h, q_idx - kv_idx + N] * buckets[b, (q_idx + kv_idx) % 5]

    program = assert_as_flex(mod, captured=(relative, buckets))
    assert {leaf.per for leaf in leaves(program, n.Array)} == {("head", "rows"), ("rows", "rows")}


def test_four_indices_of_a_table_are_counted_as_three():
    table = tensor(B, H, 9, 9)
    program = assert_as_flex(
        lambda score, b, h, q, k: score + table[b, h, q // 2, k // 2], captured=(table,)
    )
    (array,) = leaves(program, n.Array)
    assert array.per == ("rows",) * 3


def test_negative_indices_count_from_the_end():
    table = tensor(2 * N)
    assert_as_flex(lambda score, b, h, q, k: score + table[q - k] - table[-1], captured=(table,))


def test_a_head_alone_a_batch_row_alone_and_a_number_alone_are_read():
    slope, shift, heat = tensor(H + 2), tensor(B + 1), tensor()

    def mod(score, b, h, q_idx, kv_idx):
        return heat * score + slope[h] * (q_idx - kv_idx) / N + shift[b] * torch.sin(kv_idx)

    assert_as_flex(mod, captured=(slope, shift, heat))


def test_captured_tensors_longer_than_the_call_are_cut_to_it():
    query, bias = tensor(N + 7), tensor(H + 1, N + 2, N + 3)
    assert_as_flex(
        lambda score, b, h, q, k: score + query[q] + bias[h, q, k], captured=(query, bias)
    )


def test_a_captured_tensor_that_is_too_short_is_refused():
    q, k, _ = rows()
    short = tensor(N - 1)
    message = "17 rows along axis 0, which kv_idx indexes; the call has 18"
    with pytest.raises(rg.ProgramError, match=message):
        rg.from_flex(lambda score, b, h, i, j: score + short[j], q=q, k=k)


def test_indexing_step_by_step_with_numbers_and_slices_is_one_index():
    table = tensor(3, 2, H, N + 2, N)

    def mod(score, b, h, q_idx, kv_idx):
        rest = table[1:, 0][b][h]
        assert rest.shape == (N + 2, N)
        return score + rest[2:, ...][q_idx, kv_idx]

    q, k, v = rows(grad=True)
    output = rg.flex_attention(q, k, v, mod)
    score = q @ k.mT / D**0.5 + table[1:, 0, :, 2:]
    wanted = score.softmax(-1) @ v
    assert_same([output, *gradients(output, [q, table])], [wanted, *gradients(wanted, [q, table])])


def test_tensors_made_inside_the_function_pass_gradients_on():
    slope = tensor(H)

    def mod(score, b, h, q_idx, kv_idx):
        falling = -torch.exp(slope).cumsum(0)
        return score + falling[h] * torch.arange(N).flip(0)[kv_idx] / N

    assert_as_flex(mod, captured=(slope,))


def test_integers_of_captured_tensors_index_further_ones():
    kinds, relation = torch.randint(0, 3, (N,)), torch.randint(0, 4, (B, N, N))
    bias, edges = tensor(3, 3), tensor(H, 4)

    def mod(score, b, h, q_idx, kv_idx):
        same = bias[kinds[q_idx], kinds[kv_idx]]
        return score + same + edges[h, relation[b, q_idx, kv_idx]]

    assert_as_flex(mod, captured=(bias, edges))


def test_index_select_takes_what_brackets_take():
    bias = torch.randn(H, dtype=torch.float64)
    q, k, v = rows()
    found = rg.flex_attention(
        q, k, v, lambda score, b, h, i, j: score * torch.index_select(bias, 0, h)
    )
    assert_same([found], [flex_eager(q, k, v, lambda s, b, h, i, j: s * bias[h])[0]])


# ── Rows ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("sizes", [dict(G=4), dict(G=2)], ids=str)
def test_dot_products_of_captured_rows_read_rows_beside_q_and_k(sizes):
    query, key = tensor(B, H, N, 5), tensor(B, 2, N, 5)

    def mod(score, b, h, q_idx, kv_idx):
        return score + torch.dot(query[b, h, q_idx], key[b, h // 2, kv_idx])

    q, k, v = rows(**sizes, grad=True)
    found = rg.from_flex(mod, q=q, k=k)
    assert len(leaves(found.program, n.Vector)) == 2
    output = rg.attend(found.program, q, k, v, **found.inputs)
    score = q @ k.repeat_interleave(H // k.shape[1], 1).mT / D**0.5
    score = score + query @ key.repeat_interleave(2, 1).mT
    wanted = score.softmax(-1) @ v.repeat_interleave(H // k.shape[1], 1)
    inputs = [q, k, v, query, key]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)])


def test_rows_of_a_table_are_multiplied_and_summed():
    query, relative = tensor(B, H, N, 5), tensor(2 * N, 5)

    def mod(score, b, h, q_idx, kv_idx):
        row = relative[q_idx - kv_idx + N]
        return score + (query[b, h, q_idx] * row).sum(-1) + row.mean() * 0.5

    q, k, v = rows(grad=True)
    output = rg.flex_attention(q, k, v, mod)
    places = torch.arange(N)[:, None] - torch.arange(N) + N
    score = q @ k.mT / D**0.5 + torch.einsum("bhid,ijd->bhij", query, relative[places])
    wanted = (score + relative[places].mean(-1) * 0.5).softmax(-1) @ v
    inputs = [q, query, relative]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)])


def test_conditions_of_a_row_are_combined():
    chosen = torch.randint(0, 6, (B, H, N, 3))

    def any_chosen(b, h, q_idx, kv_idx):
        return (chosen[b, h, q_idx] == (kv_idx // 3).unsqueeze(-1)).any(dim=-1)

    def none_chosen(b, h, q_idx, kv_idx):
        return (chosen[b, h, q_idx] != kv_idx.unsqueeze(-1)).all(-1)

    assert_as_flex(mask_mod=and_masks(any_chosen, none_chosen))


def test_numbers_of_a_row_are_picked_counted_and_compared():
    starts = torch.tensor([0, 5, 9])

    def same_part(b, h, q_idx, kv_idx):
        part = lambda at: (starts <= at).sum() - 1  # noqa: E731
        return (part(q_idx) == part(kv_idx)) & (kv_idx >= starts.max()) | (starts[1] > kv_idx)

    assert_as_flex(mask_mod=same_part)


def test_many_conditions_of_a_row_are_counted():
    marks = torch.randint(0, 90, (N, 40))
    assert_as_flex(mask_mod=lambda b, h, q, k: (marks[q] == k).any())
    assert_as_flex(mask_mod=lambda b, h, q, k: (marks[q] != k).all())


def test_largest_smallest_and_product_of_a_row():
    table = tensor(N, 4)

    def mod(score, b, h, q_idx, kv_idx):
        row = table[q_idx]
        picked = torch.stack([row[0], row[-1], score])
        return score + row.amax(-1) - row[1:3].amin() * row.prod(0) + picked.max()

    q, k, v = rows(grad=True)
    output = rg.flex_attention(q, k, v, mod)
    score = q @ k.mT / D**0.5
    row = table[None, None, :, None]
    most = torch.maximum(score, torch.maximum(row[..., 0], row[..., -1]))
    score = score + row.amax(-1) - row[..., 1:3].amin(-1) * row.prod(-1) + most
    wanted = score.softmax(-1) @ v
    assert_same([output, *gradients(output, [q, table])], [wanted, *gradients(wanted, [q, table])])


# ── Functions ─────────────────────────────────────────────────────────────────────────────────
F = torch.nn.functional
SCORES = {
    "arithmetic": lambda s, i, j: (2 - s) * 3 / (4 + s.abs()) - (-s) ** 2 + 2.0**s,
    "by name": lambda s, i, j: torch.add(s, i, alpha=0.1) - torch.sub(j, s, alpha=2)
    + torch.rsub(s, 1),
    "division": lambda s, i, j: torch.div(s, 3) + torch.div(i, 3, rounding_mode="floor")
    + torch.div(i - j, 3, rounding_mode="trunc") + s % 0.3 + torch.fmod(s, 0.3),
    "whole": lambda s, i, j: s + (i // 3) % 2 - torch.floor_divide(j, 4) + (i - j) // 3 % 5,
    "rounding": lambda s, i, j: s + torch.floor(s) + s.ceil() - torch.round(s * 2) - s.trunc()
    + s.frac() + torch.round(i / 2),
    "dtypes": lambda s, i, j: s + i.float() / 7 + (s * 3).long() + (s > 0).to(s.dtype) + (i > 2)
    + j.to(torch.int32) // 2 + i.type_as(s) + (i % 2).bool() * s + i.double().int(),
    "powers": lambda s, i, j: s.square() + torch.sqrt(s.abs() + 1) + (s.abs() + 1).rsqrt()
    + (2 + s.abs()).reciprocal() + torch.pow(s.abs() + 1, 0.3) + i**2 / 99 + 2**j / 1e5,
    "exponentials": lambda s, i, j: s.exp() + torch.exp2(s) + torch.expm1(s) + torch.log1p(s.abs())
    + torch.log2(1 + s.abs()) + (1 + s.abs()).log10() + (1 + s.abs()).log(),
    "waves": lambda s, i, j: s.sin() + torch.cos(s) + s.tan() / 9 + s.sinh() + s.cosh() + s.tanh()
    + torch.erf(s) + torch.special.erfc(s) + s.sigmoid() + torch.special.expit(s),
    "bounds": lambda s, i, j: s.clamp(-0.5, 0.5) + torch.clamp(i, max=5) / 3 + s.clamp_min(0.1)
    + torch.clip(s, min=-0.2) + torch.maximum(s, i / 9) + torch.min(s, s * 2) + s.relu(),
    "choices": lambda s, i, j: torch.where(i > j, s, 0.0) + s.where(j > 3, s * 2)
    + torch.where(j > 3, 1, 2) + s.masked_fill(i == j, 0.25) + torch.sign(s) * 0.1,
    "captured by functions": lambda s, i, j: (torch.tensor(2.0) - s) + (+s) * torch.tensor(3)
    + torch.tensor(2) * (i > j) + torch.tensor([1.0, 2.0]).sum() + 2 ** torch.tensor(2) - s[...],
    "made": lambda s, i, j: s + torch.zeros_like(s) + s.new_ones(()) + torch.full_like(s, 0.5)
    + torch.tensor(0.25) + s.new_full((), 2) + s.new_zeros(size=()),
    "mixtures": lambda s, i, j: torch.lerp(s, s * 2, 0.3) + torch.addcmul(s, s, s, value=0.2)
    + torch.addcdiv(s, s, s.abs() + 1),
    "activations": lambda s, i, j: F.gelu(s) + F.gelu(s, approximate="tanh") + F.silu(s) + F.elu(s)
    + F.celu(s, 0.7) + F.selu(s) + F.leaky_relu(s, 0.2) + F.relu6(s * 9) + F.hardtanh(s)
    + F.hardsigmoid(s) + F.hardswish(s) + F.mish(s) + F.softsign(s) + F.tanhshrink(s)
    + F.softplus(s, beta=2) + F.logsigmoid(s) + F.threshold(s, 0.1, 0.2) + F.softplus(s * 30),
    "infinities": lambda s, i, j: torch.where(torch.isinf(torch.where(i > j, math.inf, s)), 1, s)
    + torch.where(torch.isneginf(s) | torch.isnan(s) | ~torch.isfinite(s), 9.0, s),
    "shapes": lambda s, i, j: s.view(()) + s.unsqueeze(0).squeeze() + s.reshape(()).clone()
    + s.sum() + s.contiguous() + s.ndim + s.numel() + s.dim() + len(s.shape),
}  # fmt: skip


@pytest.mark.parametrize("name", SCORES)
def test_functions_of_torch_compute_what_torch_computes(name):
    expression = SCORES[name]
    q, k, v = rows(N=7, grad=True)
    output = rg.flex_attention(q, k, v, lambda score, b, h, i, j: 0.2 * expression(score, i, j))
    at = torch.arange(7)
    score = 0.2 * expression_of_each(expression, q @ k.mT / D**0.5, at)
    wanted = score.softmax(-1) @ v
    inputs = [q, k, v]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)], 3e-6)


def expression_of_each(expression, scores, at):
    """The expression at every pair by itself, each a 0-d tensor as FlexAttention has it."""
    each = [
        expression(score, i, j)
        for matrix in scores.flatten(0, 1)
        for row, i in zip(matrix, at, strict=True)
        for score, j in zip(row, at, strict=True)
    ]
    return torch.stack([torch.as_tensor(x).to(scores.dtype).view(()) for x in each]).view_as(scores)


def spread(x):
    x = (x | (x << 4)) & 0x0F0F
    return (x | (x << 2)) & 0x3333


MASKS = {
    "logic": lambda b, h, i, j: (i >= j) & ~(i == j + 2) | (j < 2) ^ (h == 1),
    "by name": lambda b, h, i, j: torch.logical_and(i >= j, torch.logical_not(i % 3 == j))
    | torch.logical_xor(i > 4, j > 4) | torch.logical_or(j == 1, b == 7),
    "equal truths": lambda b, h, i, j: ((i < 5) == (j < 5)) & ((i > 2) != (j == 3)),
    "numbers of truths": lambda b, h, i, j: (i > j).int() + (j > 3).long() == 1,
    "choices of truths": lambda b, h, i, j: torch.where(i > j, i > 3, j < 2) | (True & (i == j)),
    "shifts": lambda b, h, i, j: (torch.tensor(1) << j % 5) & 5 == ((i >> 1) & torch.tensor(3)),
    "bits": lambda b, h, i, j: (spread(i) | (spread(j) << 1)) & 0x1F != (i ^ 5) & 7,
    "all that is": lambda b, h, i, j: noop_mask(b, h, i, j) & b.new_ones((), dtype=torch.bool),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_conditions_of_torch_hide_what_torch_hides(name):
    assert_as_flex(mask_mod=MASKS[name])


def test_bits_of_two_positions_are_taken_one_by_one():
    def mask(b, h, i, j):
        return (i & j | i >> 1 ^ (j << 2)) % 3 < ((i - j) & 3) | (~i & 1)

    assert_as_flex(mask_mod=lambda *at: mask(*at) > 0)


def test_bits_of_what_may_be_negative_need_a_mask():
    with pytest.raises(rg.ProgramError, match=r"(?s)may be negative.*mask one of them first"):
        rg.from_flex(None, lambda b, h, i, j: (i - j) | 1 == 3)


@pytest.mark.parametrize("lowest", [-math.inf, float(torch.finfo(torch.float64).min), -1e9])
def test_a_mask_in_a_score_is_a_mask(lowest):
    def mod(score, b, h, q_idx, kv_idx):
        return torch.where(q_idx >= kv_idx, torch.where(kv_idx % 5 == 4, lowest, score), lowest)

    program = assert_as_flex(mod)
    term = program.root.weights
    assert (term.where is not None) == math.isinf(lowest)


def test_a_row_that_sees_nothing_gives_zero():
    q, k, v = rows()
    found = rg.from_flex(None, lambda b, h, i, j: i < j - 20)
    with pytest.warns(UserWarning, match="hides every pair of this call"):
        output, seen = rg.attend(found.program, q, k, v, observe=["lse"])
    assert not output.any()
    assert (seen["lse"] == -math.inf).all()


# ── Functions of functions ────────────────────────────────────────────────────────────────────
def test_masks_are_combined_by_torch_and_by_partial():
    def window(b, h, q_idx, kv_idx, size):
        return (q_idx - kv_idx).abs() < size

    near = functools.partial(window, size=4)
    first = lambda b, h, q_idx, kv_idx: kv_idx < 2  # noqa: E731
    after = lambda b, h, q_idx, kv_idx: q_idx >= kv_idx  # noqa: E731
    program = assert_as_flex(mask_mod=and_masks(or_masks(near, first), or_masks(after, first)))
    assert "True" not in str(program)
    assert "False" not in str(program)


def test_methods_and_objects_are_functions():
    class Bias(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(H, dtype=torch.float64))

        def mod(self, score, b, h, q_idx, kv_idx):
            return score * self.table[h]

        def forward(self, score, b, h, q_idx, kv_idx):
            return self.mod(score, b, h, q_idx, kv_idx)

    bias = Bias()
    assert_as_flex(bias.mod, captured=(bias.table,))
    q, k, v = rows()
    assert_same([rg.flex_attention(q, k, v, bias)], [flex_eager(q, k, v, bias.mod)[0]])


def test_programs_are_named_by_what_they_are_made_of_and_read_by_name():
    slope = torch.ones(H)

    def falling(score, b, h, q_idx, kv_idx):
        return score - slope[h] * (q_idx - kv_idx)

    def causal(b, h, q_idx, kv_idx):
        return q_idx >= kv_idx

    found = rg.from_flex(falling, causal, scale=0.5)
    assert found.program.name == "falling_and_causal"
    assert list(found.inputs) == ["slope"]
    assert found.inputs["slope"] is slope
    assert "0.5 q_i·k_j − slope[h] × (i − j)" in str(found.program)


def test_names_that_a_program_cannot_have_are_changed():
    q, k, v = rows()
    seed, v_ = torch.randn(H), torch.randn(N)

    def make(seed, q):
        return lambda score, b, h, i, j: score + seed[h] + q[i] * q[j]

    found = rg.from_flex(make(seed, v_), q=q, k=k)
    assert list(found.inputs) == ["captured_seed", "captured_q", "captured_q_2"]
    rg.attend(found.program, q, k, v, **found.inputs)


def test_plain_functions_are_the_program_of_plain_attention():
    @rg.program
    def plain(pair):
        return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width))

    assert rg.from_flex().program == plain
    assert rg.from_flex(lambda score, b, h, i, j: score, noop_mask).program == plain


def test_a_traced_mask_is_the_one_a_program_would_say():
    @rg.program
    def causal(pair):
        score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
        return rg.softmax(score, where=pair.i >= pair.j)

    assert rg.from_flex(None, lambda b, h, q_idx, kv_idx: q_idx >= kv_idx).program == causal


def test_blocks_are_read_without_tensors_too():
    q, k, v = rows()
    causal = lambda b, h, q_idx, kv_idx: q_idx >= kv_idx  # noqa: E731
    block_mask = create_block_mask(causal, None, None, N, N, device="cpu", BLOCK_SIZE=4)
    found = rg.from_flex(None, block_mask)
    assert list(found.inputs) == ["blocks"]
    output = rg.attend(found.program, q, k, v, **found.inputs)
    assert_same([output], [flex_eager(q, k, v, None, causal)[0]])


def test_q_and_k_come_together():
    q, _, _ = rows()
    with pytest.raises(rg.InputError, match="give both or neither"):
        rg.from_flex(None, None, q=q)


def test_blocks_and_sizes_come_together():
    q, k, v = rows(N=128)
    causal = lambda b, h, q_idx, kv_idx: q_idx >= kv_idx  # noqa: E731
    block_mask = create_block_mask(causal, None, None, 128, 128, device="cpu", BLOCK_SIZE=32)
    found = rg.from_flex(None, block_mask, q=q, k=k)
    assert found.program == rg.from_flex(None, causal).program
    output = rg.attend(found.program, q, k, v, **found.inputs)
    assert_same([output], [flex_eager(q, k, v, None, causal)[0]])


def test_rows_may_lie_along_any_axis():
    table = torch.randn(N, 5, H, dtype=torch.float64)
    q, k, v = rows()
    output = rg.flex_attention(
        q, k, v, lambda score, b, h, i, j: score + (table[j, :, h] * table[i, :, h]).sum()
    )
    score = q @ k.mT / D**0.5 + torch.einsum("ich,jch->hij", table, table)
    assert_same([output], [score.softmax(-1) @ v])


@pytest.mark.parametrize("head", [lambda b, h: h, lambda b, h: (h + b) % 4, lambda b, h: h % 4])
def test_rows_that_heads_of_a_group_do_not_share_are_rows_of_a_table(head):
    key = torch.randn(H, N, 5, dtype=torch.float64)
    q, k, v = rows(G=2)
    mod = lambda score, b, h, i, j: score + key[head(b, h), j].sum()  # noqa: E731
    output = rg.flex_attention(q, k, v, mod, enable_gqa=True)
    assert_same([output], [flex_eager(q, k, v, mod)[0]])


def test_stacked_numbers_are_summed_along_channels():
    q, k, v = rows()
    mod = lambda score, b, h, i, j: torch.stack([score, i * 0.1, score * 2]).sum()  # noqa: E731
    assert_same([rg.flex_attention(q, k, v, mod)], [flex_eager(q, k, v, mod)[0]])


def t5_bucket(step, two_sided, buckets=8, farthest=20):
    """As Hugging Face transformers computes it, on tensors of any shape."""
    bucket = 0
    if two_sided:
        buckets //= 2
        bucket += (step > 0).to(torch.long) * buckets
        step = torch.abs(step)
    else:
        step = -torch.min(step, torch.zeros_like(step))
    exact = buckets // 2
    far = torch.log(step.float() / exact) / math.log(farthest / exact) * (buckets - exact)
    far = torch.min(exact + far.to(torch.long), torch.full_like(step, buckets - 1))
    return bucket + torch.where(step < exact, step, far)


@pytest.mark.parametrize("two_sided", [True, False])
def test_buckets_of_t5_are_traced_as_they_are_published(two_sided):
    table = tensor(8, H)

    def mod(score, b, h, q_idx, kv_idx):
        return score + table[t5_bucket(kv_idx - q_idx, two_sided), h]

    q, k, v = rows(grad=True)
    output = rg.flex_attention(q, k, v, mod)
    step = torch.arange(N) - torch.arange(N)[:, None]
    bias = table[t5_bucket(step, two_sided)].permute(2, 0, 1)
    wanted = (q @ k.mT / D**0.5 + bias).softmax(-1) @ v
    inputs = [q, k, v, table]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)])
