"""The sets of pairs are those of published masks."""

import attn_gym.masks as gym
import torch
from torch.nn.attention.flex_attention import create_mask
from transformers.masking_utils import chunked_overlay

from tests.catalogue.oracles import mask
from tests.catalogue.oracles.calls import Call, Draw


def seen(name, **inputs):
    """Return the pairs an oracle weighs, (B, H, N, M): all scores 0, and each value its key."""
    call = mask.CALLS.get(name, Call())
    s = call.sizes
    q, k = torch.zeros(s.B, s.H, s.N, 4), torch.zeros(s.B, s.H, s.M, 4)
    v = torch.eye(s.M).expand(s.B, s.H, -1, -1)
    given = {**call.inputs(Draw(s)), **inputs}
    return getattr(mask, name)(q, k, v, **given, **call.knobs) > 0


def drawn(rule, rows, columns=None):
    """Return the pairs a mask of Attention Gym admits, (N, M)."""
    return create_mask(rule, 1, 1, rows, columns or rows, device="cpu")[0, 0]


def agree(found, wanted):
    assert (found == wanted).all()
    assert wanted.any() and not wanted.all()


def test_sliding_window_has_as_many_positions_as_it_says():
    # Attention Gym counts how far back; Mistral counts the token itself as well.
    agree(seen("sliding_window"), drawn(gym.generate_sliding_window(5 - 1), 16))


def test_symmetric_window_and_global_tokens_are_longformers():
    none = torch.zeros(16, dtype=torch.bool)
    agree(seen("symmetric_window"), drawn(gym.generate_global_sliding_window(3, none), 16))
    some = none.clone()
    some[[2, 11]] = True
    found = seen("global_window", global_q=some.expand(2, 1, -1), global_k=some.expand(2, 1, -1))
    agree(found, drawn(gym.generate_global_sliding_window(2, some), 16))


def test_dilated_window_is_the_past_of_the_symmetric_one():
    wanted = drawn(gym.generate_dilated_sliding_window(4, 2), 16).tril()
    agree(seen("dilated_window"), wanted)


def test_sparse_transformer_sees_what_its_figure_shows():
    # Figure 3 of the paper, stride 4: rows of a picture 4 wide.
    marks = seen("strided")[0, 0]
    assert marks[10].nonzero().flatten().tolist() == [2, 6, 7, 8, 9, 10]
    marks = seen("fixed")[0, 0]
    assert marks[10].nonzero().flatten().tolist() == [3, 7, 8, 9, 10]
    assert marks[3].nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_big_bird_sees_its_window_the_first_block_and_the_chosen():
    chosen = torch.zeros(6, 6, dtype=torch.bool)
    chosen[2, 5] = True
    marks = seen("big_bird", chosen=chosen)[0, 0]
    blocks = [sorted({j // 4 for j in marks[i].nonzero().flatten().tolist()}) for i in range(22)]
    assert blocks[0] == list(range(6))
    assert blocks[9] == [0, 1, 2, 3, 5]
    assert blocks[21] == [0, 4, 5]


def test_prefix_is_seen_by_all():
    wanted = torch.stack([drawn(gym.generate_prefix_lm_mask(5), 16), drawn(gym.causal_mask, 16)])
    agree(seen("prefix_lm"), wanted[:, None])


def test_documents_do_not_see_each_other():
    offsets = [torch.tensor([0, 5, 6, 13, 16]), torch.tensor([0, 9, 16])]
    wanted = [drawn(gym.generate_packed_causal_doc_mask_mod(one), 16) for one in offsets]
    agree(seen("packed_causal"), torch.stack(wanted)[:, None])
    assert not seen("packed_documents")[0, 0, 0].any()


def test_chunks_are_llama_4s():
    past = torch.arange(18)
    local = chunked_overlay(4, torch.zeros(1, dtype=torch.long))(0, 0, past[:, None], past)
    agree(seen("chunked"), local.tril())


def test_nodes_of_a_tree_see_their_ancestors():
    found = seen("tree")
    agree(found[0], gym.build_tree_ancestor_matrix(mask.BUSHY, device="cpu"))
    for node in range(16):
        ancestors = []
        while node >= 0:
            ancestors.append(node)
            node = mask.FOREST[node]
        assert found[1, 0, ancestors[0]].nonzero().flatten().tolist() == sorted(ancestors)


def test_neighbourhoods_are_nattens():
    row, column = torch.arange(25) // 5, torch.arange(25) % 5
    names = {"row_q": row, "row_k": row, "column_q": column, "column_k": column}
    found = seen("neighbourhood_2d", **{name: one.expand(2, 1, -1) for name, one in names.items()})
    agree(found, drawn(gym.generate_natten(5, 5, 3, 3), 25))
    # Attention Gym's canvas is a square: its first column is a line.
    agree(seen("neighbourhood_1d"), drawn(gym.generate_natten(16, 16, 5, 5), 256)[::16, ::16])
    assert (seen("neighbourhood_3d").sum(-1) == 3**3).all()


def test_sinks_stay_seen():
    past = drawn(gym.causal_mask, 16)
    window = drawn(gym.generate_sliding_window(3), 16)
    agree(seen("sinks_and_window"), window | (past & (torch.arange(16) < 2)))


def test_block_diffusion_is_published():
    agree(seen("block_diffusion"), drawn(gym.generate_block_diffusion_mask(8, 2), 16))


def test_text_sees_the_image_before_it():
    spans = [[[3, 9], [9, 11], [11, 16]], [[0, 4], [4, 4], [4, 16]]]
    images = torch.arange(12).expand(2, 1, -1) // 4 + 1
    for marks, of_images in zip(seen("vision_language", image_k=images), spans, strict=True):
        rule = gym.generate_vision_cross_attention_mask_mod(torch.tensor(of_images), 4)
        agree(marks, drawn(rule, 16, 12))


def test_samples_share_their_prefix():
    offsets, prefixes = [[0, 4, 10, 16], [0, 2, 5, 10, 16]], [[0, 0, 0], [0, 0, 0, 0]]
    wanted = [
        drawn(gym.generate_shared_prefix_mask_mod(torch.tensor(a), torch.tensor(b)), 16)
        for a, b in zip(offsets, prefixes, strict=True)
    ]
    agree(seen("shared_prefix"), torch.stack(wanted)[:, None])


def test_choice_of_blocks_is_per_query_and_head():
    chosen = mask.CALLS["block_choice"].tensors()["chosen"]
    by_token = chosen.repeat_interleave(4, dim=-1)[..., :18].tril()
    agree(seen("selected_blocks", chosen=chosen), by_token)
    own = torch.arange(18)[:, None] // 4 == torch.arange(18) // 4
    agree(seen("block_choice", chosen=chosen), by_token | own.tril())


def test_top_k_keeps_the_largest_that_are_seen():
    tensors = mask.CALLS["top_k"].tensors()
    q, k = tensors["q"], tensors["k"].repeat_interleave(2, dim=1)
    score = (q @ k.mT).masked_fill(~drawn(gym.causal_mask, 16), float("-inf"))
    third = score.topk(3, dim=-1).values[..., 2:]
    weights = score.masked_fill(score < third, float("-inf")) / 8**0.5
    wanted = weights.softmax(-1) @ tensors["v"].repeat_interleave(2, dim=1)
    torch.testing.assert_close(mask.top_k(**tensors, kept=3), wanted)
