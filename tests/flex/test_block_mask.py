"""What a BlockMask means, also where its blocks and its mask_mod say different things."""

import pytest
import torch
from torch.nn.attention.experimental._paged_attention import PagedAttention
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, noop_mask

import regard as rg
from regard.flex.attention import origin_of
from regard.flex.block_mask import table_of
from tests.flex.oracle import assert_same, flex_eager, gradients, rows
from tests.flex.test_attention_gym import visible_by_blocks


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def table(block_mask, q, k, v):
    return table_of(block_mask, q, k, v, origin_of(q, k, None))


def by_hand(shape, size, length, mask_mod=None, full=True):
    """A BlockMask whose lists are drawn, whatever its mask_mod says."""
    blocks = -(-length // size)
    asked, seen = torch.rand(*shape, blocks, blocks).sort(-1).indices.int(), None
    counts = torch.randint(0, 3, (*shape, blocks), dtype=torch.int32)
    lists = [counts, asked]
    if full:
        # Blocks of the same drawn order, after those that are asked about.
        seen = asked.flip(-1)
        lists += [torch.randint(0, 2, counts.shape, dtype=torch.int32), seen]
    return BlockMask.from_kv_blocks(
        *lists, BLOCK_SIZE=size, mask_mod=mask_mod, seq_lengths=(length, length)
    )


@pytest.mark.parametrize(
    "backend", ["reference", "tiled", pytest.param("cpu", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 4), (2, 4)], ids=str)
def test_pairs_outside_of_listed_blocks_are_hidden_and_full_blocks_are_seen(shape, backend):
    q, k, v = rows(grad=True)
    block_mask = by_hand(shape, 4, 18, causal)
    assert table(block_mask, q, k, v) is not None
    seen = visible_by_blocks(block_mask).expand(2, 4, 18, 18)
    output, lse = rg.flex_attention(q, k, v, None, block_mask, return_lse=True, backend=backend)
    wanted = flex_eager(q, k, v, None, lambda b, h, i, j: seen[b, h, i, j])
    inputs = [q, k, v]
    got = [output, lse, *gradients(output, inputs)]
    assert_same(got, [*wanted[:2], *gradients(wanted[0], inputs)])


@pytest.mark.parametrize("full", [True, False])
def test_blocks_without_a_mask_mod_are_the_mask(full):
    q, k, v = rows()
    block_mask = by_hand((1, 1), 4, 18, None, full)
    seen = visible_by_blocks(block_mask)[0, 0]
    output = rg.flex_attention(q, k, v, None, block_mask)
    assert_same([output], [flex_eager(q, k, v, None, lambda b, h, i, j: seen[i, j])[0]])


# Torch's compiler warns of parts of torch.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_compiled_kernels_of_torch_honour_blocks_as_we_do():
    q, k, v = rows(N=256, D=16, dtype=torch.float32)
    block_mask = by_hand((1, 1), 64, 256, noop_mask)
    compiled = torch.compile(torch.nn.attention.flex_attention.flex_attention)
    wanted = compiled(q, k, v, None, block_mask)
    assert_same([rg.flex_attention(q, k, v, None, block_mask)], [wanted], 1e-5)
    # Its eager code asks mask_mod alone; where the two differ, kernels are the meaning.
    assert (flex_eager(q, k, v)[0] - wanted).abs().max() > 0.1


DOCUMENT = torch.repeat_interleave(torch.arange(3), torch.tensor([90, 110, 100]))
STARTS = torch.tensor([0, 90, 200])


def documents(b, h, q_idx, kv_idx):
    inside = q_idx - STARTS[DOCUMENT[q_idx]] >= kv_idx - STARTS[DOCUMENT[kv_idx]]
    return (DOCUMENT[q_idx] == DOCUMENT[kv_idx]) & inside


MASKS = {
    "causal": causal,
    "window": lambda b, h, i, j: (i - j).abs() < 50,
    "prefix": lambda b, h, i, j: (i >= j) | (j < 70),
    "documents": documents,
    "by head": lambda b, h, i, j: i - j >= h * 20,
}


@pytest.mark.parametrize("name", MASKS)
def test_blocks_that_only_repeat_their_mask_mod_are_left_out(name):
    q, k, v = rows(N=300)
    block_mask = create_block_mask(MASKS[name], None, 4, 300, 300, device="cpu", BLOCK_SIZE=64)
    assert table(block_mask, q, k, v) is None


def test_blocks_that_hide_or_show_more_than_their_mask_mod_are_kept():
    q, k, v = rows(N=64)
    block_mask = create_block_mask(causal, None, None, 64, 64, device="cpu", BLOCK_SIZE=16)
    lists = (block_mask.kv_num_blocks, block_mask.kv_indices)
    full = (block_mask.full_kv_num_blocks, block_mask.full_kv_indices)
    one = lambda counts: torch.ones_like(counts)  # noqa: E731
    for changed in ((lists[0] * 0, lists[1], *full), (*lists, one(full[0]), full[1])):
        other = BlockMask.from_kv_blocks(
            *changed, BLOCK_SIZE=16, mask_mod=causal, seq_lengths=(64, 64)
        )
        assert table(other, q, k, v) is not None
        seen = visible_by_blocks(other)[0, 0]
        output = rg.flex_attention(q, k, v, None, other)
        assert_same([output], [flex_eager(q, k, v, None, lambda b, h, i, j: seen[i, j])[0]])  # noqa: B023


def test_a_block_mask_that_is_written_to_is_looked_at_again():
    q, k, v = rows(N=256)
    block_mask = create_block_mask(causal, None, None, 256, 256, device="cpu", BLOCK_SIZE=64)
    assert table(block_mask, q, k, v) is None
    block_mask.kv_num_blocks.zero_()
    assert table(block_mask, q, k, v) is not None
    block_mask.kv_num_blocks.fill_(1)
    assert table(block_mask, q, k, v) is None
    block_mask.mask_mod = noop_mask
    assert table(block_mask, q, k, v) is not None


def test_a_cropped_mask_is_the_mask_of_the_corner():
    q, k, v = rows(N=10, M=14)
    block_mask = create_block_mask(causal, None, None, 18, 18, device="cpu", BLOCK_SIZE=4)
    output = rg.flex_attention(q, k, v, None, block_mask._adjust(10, 14))
    assert_same([output], [flex_eager(q, k, v, None, causal)[0]])


def test_a_sliced_mask_works_with_a_mask_mod_of_its_own():
    q, k, v = rows(N=4, M=18)
    whole = create_block_mask(causal, None, None, 18, 18, device="cpu", BLOCK_SIZE=4)
    part = whole[:, :, 2:3]
    part.mask_mod = lambda b, h, q_idx, kv_idx: q_idx + 8 >= kv_idx
    part.seq_lengths = (4, 18)
    output = rg.flex_attention(q, k, v, None, part)
    assert_same([output], [flex_eager(q, k, v, None, part.mask_mod)[0]])


def test_a_mask_of_fewer_query_blocks_than_queries_is_refused():
    q, k, v = rows()
    block_mask = create_block_mask(causal, None, None, 18, 18, device="cpu", BLOCK_SIZE=4)[:, :, :2]
    block_mask.mask_mod = causal
    with pytest.raises(rg.InputError, match="lists blocks for 8 queries; query has 18"):
        rg.flex_attention(q, k, v, None, block_mask)


def test_a_mask_without_axes_for_batch_and_head_is_refused():
    block_mask = BlockMask.from_kv_blocks(
        torch.ones(1, 2, dtype=torch.int32), torch.zeros(1, 2, 2, dtype=torch.int32), BLOCK_SIZE=9
    )
    with pytest.raises(rg.InputError, match="attention takes two"):
        rg.from_flex(None, block_mask)


def test_pages_of_torch_are_read_through_its_own_functions():
    q, k, v = rows(N=16, dtype=torch.float32)
    slope = torch.rand(4)
    falling = lambda score, b, h, i, j: score - slope[h] * (i - j)  # noqa: E731
    pages = PagedAttention(n_pages=12, page_size=4, max_batch_size=2, device="cpu")
    for row in range(2):
        pages.reserve(torch.tensor(row), torch.tensor(16))
    keys, values = torch.zeros(2, 1, 4, 48, 8)
    pages.assign(torch.arange(2), torch.arange(16).expand(2, 16), k, v, keys, values)
    block_mask = create_block_mask(causal, 2, None, 16, 16, device="cpu", BLOCK_SIZE=4)
    paged = pages.convert_logical_block_mask(block_mask)
    output = rg.flex_attention(q, keys, values, pages.get_score_mod(falling), paged)
    assert_same([output], [flex_eager(q, k, v, falling, causal)[0]], 1e-5)


def test_a_mask_met_in_inference_serves_training():
    q, k, v = rows(grad=True)
    with torch.inference_mode():
        block_mask = by_hand((1, 1), 4, 18, causal)
        first = rg.flex_attention(q, k, v, None, block_mask)
    output = rg.flex_attention(q, k, v, None, block_mask)
    assert torch.equal(first, output)
    gradients(output, [q, k, v])


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("made", [False, True])
def test_changed_numbers_are_seen_beside_blocks_that_stay(inference, made):
    with torch.inference_mode(inference):
        document = torch.arange(18) // 6

        def mask_mod(b, h, q_idx, kv_idx):
            held = document + 1 if made else document
            return held[q_idx] == held[kv_idx]

        q, k, v = rows()
        block_mask = create_block_mask(mask_mod, None, None, 18, 18, device="cpu", BLOCK_SIZE=6)
        inside = torch.block_diag(*[torch.ones(6, 6)] * 3).bool()
        for number in range(5):
            # Full blocks are not asked, and blocks that are not listed are hidden.
            seen = lambda b, h, i, j: inside[i, j]  # noqa: E731
            wanted = flex_eager(q, k, v, None, seen)[0]
            assert_same([rg.flex_attention(q, k, v, None, block_mask)], [wanted])
            if number % 2:
                document = torch.randint(0, 3, (18,))
            else:
                document.copy_(torch.randint(0, 3, (18,)))
