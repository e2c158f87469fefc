"""Everything that attention-gym ships passes through unchanged: values, lse and gradients.

A generator that the installed package ships and these lists do not name fails a test.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import attn_gym.masks as masks
import attn_gym.mods as mods
import pytest
import torch
from attn_gym.masks import vsa
from attn_gym.masks.causal import create_causal_block_mask_fast
from attn_gym.masks.document_mask import length_to_offsets
from torch.nn.attention.flex_attention import create_block_mask

import regard as rg
from tests.flex.oracle import assert_same, flex_eager, gradients, rows

SCORE, MASK, BLOCKS = "score_mod", "mask_mod", "block_mask"


@dataclass
class Case:
    """One thing shipped: what it is, how it is made, and for which sizes.

    `make` gets the tensors that `captured` draws; those of floats are trained.
    """

    kind: str
    make: Callable[..., Any]
    sizes: dict[str, int] = field(default_factory=dict)
    captured: Callable[[], list[torch.Tensor]] = list
    flex_trains: bool = True
    slow: bool = False


def _offsets():
    return length_to_offsets([5, 4, 9], "cpu")


def _is_global():
    marked = torch.zeros(18, dtype=torch.bool)
    marked[[2, 11]] = True
    return marked


def _graph(nodes=9):
    joined = torch.rand(2, nodes, nodes) < 0.25
    return joined | joined.mT


def _edges():
    kinds = torch.randint(0, 3, (2, 9, 9))
    return mods.shortest_path_edge_types(_graph(), kinds, 3)


def _tiles(tile=4):
    q, k, _ = rows(N=16, dtype=torch.float32)
    return vsa.compute_vsa_topk_indices(q, k, tile, 2)


SIZES = torch.tensor([4, 3, 4, 1])
TEXT = dict(N=20)
CASES: dict[str, list[Case]] = {
    "causal_mask": [Case(MASK, lambda: masks.causal_mask)],
    "batchify_mask_mod": [Case(MASK, lambda: masks.batchify_mask_mod(masks.causal_mask, 6))],
    "generate_block_diffusion_mask": [
        Case(MASK, lambda: masks.generate_block_diffusion_mask(9, 4)),
    ],
    "generate_dilated_sliding_window": [
        Case(MASK, lambda: masks.generate_dilated_sliding_window(7, 3)),
    ],
    "generate_doc_mask_mod": [
        Case(MASK, lambda: masks.generate_doc_mask_mod(masks.causal_mask, _offsets())),
        Case(MASK, lambda: masks.generate_doc_mask_mod(lambda b, h, q, k: q - k < 2, _offsets())),
    ],
    "generate_packed_causal_doc_mask_mod": [
        Case(MASK, lambda: masks.generate_packed_causal_doc_mask_mod(_offsets())),
    ],
    "generate_vision_cross_attention_mask_mod": [
        Case(
            MASK,
            lambda: masks.generate_vision_cross_attention_mask_mod(
                torch.tensor([[0, 7], [1, 7], [7, 11]], dtype=torch.int32), 3
            ),
            dict(N=12, M=9),
        ),
    ],
    "generate_global_sliding_window": [
        Case(MASK, lambda: masks.generate_global_sliding_window(3, _is_global())),
    ],
    "generate_jetspec_tree_causal_mask_mod": [
        Case(
            MASK,
            lambda: masks.generate_jetspec_tree_causal_mask_mod(
                5, masks.build_tree_ancestor_matrix([-1, 0, 1, 1, 3, 3, 0], device="cpu")
            ),
            dict(N=7, M=12),
        ),
    ],
    "generate_jetspec_training_mask_mod": [
        Case(MASK, lambda: masks.generate_jetspec_training_mask_mod(5, 4), dict(N=12, M=17)),
    ],
    "generate_natten": [Case(MASK, lambda: masks.generate_natten(6, 6, 3, 3), dict(N=36))],
    "generate_tiled_natten": [
        Case(MASK, lambda: masks.generate_tiled_natten(6, 6, 3, 3, 2, 2), dict(N=36)),
    ],
    "generate_morton_natten": [
        Case(MASK, lambda: masks.generate_morton_natten(4, 4, 3, 3), dict(N=16)),
    ],
    "generate_prefix_lm_mask": [Case(MASK, lambda: masks.generate_prefix_lm_mask(5))],
    "generate_shared_prefix_mask_mod": [
        Case(
            MASK,
            lambda: masks.generate_shared_prefix_mask_mod(_offsets(), torch.tensor([0, 0, 1])),
        ),
    ],
    "generate_sliding_window": [Case(MASK, lambda: masks.generate_sliding_window(4))],
    "generate_sta_mask_mod_2d": [
        Case(MASK, lambda: masks.generate_sta_mask_mod_2d((4, 4), (2, 2), (2, 2), 4), TEXT),
    ],
    "generate_sta_mask_mod_3d": [
        Case(
            MASK,
            lambda: masks.generate_sta_mask_mod_3d((4, 2, 2), (2, 2, 2), (2, 2, 2), 4),
            TEXT,
        ),
    ],
    "generate_spatial_head_mask_mod": [
        Case(MASK, partial(masks.generate_spatial_head_mask_mod, 2, 4, 4, 1, sink, 3))
        for sink in (True, False)
    ],
    "generate_temporal_head_mask_mod": [
        Case(MASK, lambda: masks.generate_temporal_head_mask_mod(2, 2, 4, 1)),
    ],
    "generate_vsa_mask_mod": [
        Case(MASK, lambda: masks.generate_vsa_mask_mod(_tiles(), 4, SIZES), dict(N=16)),
        Case(MASK, lambda: masks.generate_vsa_mask_mod(_tiles(), 4), dict(N=16)),
    ],
    "generate_vsa_padding_mask_mod": [
        Case(MASK, lambda: vsa.generate_vsa_padding_mask_mod(SIZES, 4), dict(N=16)),
    ],
    "create_causal_block_mask_fast": [
        Case(
            BLOCKS,
            partial(
                create_causal_block_mask_fast, 1, 1, 18, 18, torch.device("cpu"), 4, full
            ),
        )
        for full in (True, False)
    ],
    "create_vsa_block_mask": [
        Case(BLOCKS, lambda: masks.create_vsa_block_mask(_tiles(), 4, 4, SIZES), dict(N=16)),
        Case(BLOCKS, lambda: masks.create_vsa_block_mask(_tiles(), 4, 4), dict(N=16)),
    ],
    "create_vsa_flash_block_mask": [
        Case(
            BLOCKS, lambda: masks.create_vsa_flash_block_mask(_tiles(), 4, 4, 2, SIZES), dict(N=16)
        ),
    ],
    "generate_alibi_bias": [Case(SCORE, lambda: mods.generate_alibi_bias(4))],
    "generate_sandwich_bias": [Case(SCORE, lambda: mods.generate_sandwich_bias(4, 24))],
    # The approximation is an instruction of GPUs; elsewhere, and here, approx::tanh is tanh.
    "generate_tanh_softcap": [
        Case(SCORE, partial(mods.generate_tanh_softcap, 2)),
        Case(SCORE, partial(mods.generate_tanh_softcap, 2, approx=True), slow=True),
    ],
    "generate_activation_score_mod": [
        Case(SCORE, partial(mods.generate_activation_score_mod, activation, offset=1.5))
        for activation in (
            torch.nn.functional.gelu,
            torch.nn.functional.relu,
            torch.nn.functional.silu,
            torch.nn.functional.softplus,
            torch.nn.functional.elu,
            torch.sigmoid,
        )
    ],
    "generate_graphormer_spatial_bias": [
        Case(
            SCORE,
            lambda bias: mods.generate_graphormer_spatial_bias(
                bias, mods.shortest_path_distances(_graph(), 4)
            ),
            dict(N=9),
            lambda: [torch.randn(4, 6, dtype=torch.float64)],
        ),
    ],
    "generate_graphormer_edge_bias": [
        Case(
            SCORE,
            lambda bias: mods.generate_graphormer_edge_bias(bias, *_edges()),
            dict(N=9),
            lambda: [torch.randn(4, 3, 3, dtype=torch.float64)],
        ),
    ],
    "generate_mla_rope_score_mod": [
        Case(
            SCORE,
            lambda query, key: mods.generate_mla_rope_score_mod(query, key, 4, scale=0.3),
            dict(N=9, G=G),
            lambda: [torch.randn(2, heads, 9, 6, dtype=torch.float64) for heads in (4, 1)],
            # Its eager code has no gradient for rows that a vmapped index picks.
            flex_trains=False,
        )
        for G in (1, 4)
    ],
}  # fmt: skip
# What the package offers beside: data for the masks, and work before and after attention.
HELPERS = {
    "VSACoarseResult", "VSATileMetadata", "build_tree_ancestor_matrix",
    "compute_vsa_coarse_attention", "compute_vsa_tile_scores", "compute_vsa_topk_indices",
    "create_vsa_tile_metadata", "force_self_into_topk", "generate_random_lengths",
    "deinterleave_bits_32", "interleave_bits_32", "length_to_offsets", "lift_vsa_tile_output",
    "main", "morton_decode", "morton_encode", "pool_to_vsa_tiles", "shortest_path_distances",
    "shortest_path_edge_types", "tile_vsa_sequence", "undo_softmax", "untile_vsa_sequence",
    "validate_vsa_block_mask_inputs", "vsa_additive_combine", "vsa_gated_mix",
    "vsa_topk_from_sparsity",
}  # fmt: skip


def shipped(*packages):
    """Every public function and class that the modules of these packages define."""
    found = set()
    for package in packages:
        names = [info.name for info in pkgutil.iter_modules(package.__path__)]
        for module in (importlib.import_module(f"{package.__name__}.{name}") for name in names):
            found |= {
                name
                for name, item in vars(module).items()
                if not name.startswith("_")
                and (inspect.isfunction(item) or inspect.isclass(item))
                and item.__module__ == module.__name__
            }
    return found


def test_every_generator_that_the_package_ships_is_listed_here():
    assert shipped(masks, mods) == set(CASES) | HELPERS


def listed():
    for name, cases in CASES.items():
        for number, case in enumerate(cases):
            marks = [pytest.mark.slow] * case.slow
            yield pytest.param(
                case, id=name if len(cases) == 1 else f"{name} {number}", marks=marks
            )


def visible_by_blocks(block_mask):
    """The pairs a BlockMask shows, read from its lists one by one: what kernels visit."""
    (height, width), (N, M) = block_mask.BLOCK_SIZE, block_mask.seq_lengths
    batch, heads, blocks = block_mask.kv_num_blocks.shape
    seen = torch.zeros(batch, heads, N, M, dtype=torch.bool)
    lists = [(block_mask.kv_num_blocks, block_mask.kv_indices, block_mask.mask_mod)]
    if block_mask.full_kv_num_blocks is not None:
        lists.append((block_mask.full_kv_num_blocks, block_mask.full_kv_indices, None))
    for counts, places, asked in lists:
        for b, h, row in torch.cartesian_prod(*map(torch.arange, (batch, heads, blocks))).tolist():
            for place in places[b, h, row, : counts[b, h, row]].tolist():
                for i in range(row * height, min((row + 1) * height, N)):
                    for j in range(place * width, min((place + 1) * width, M)):
                        at = [torch.tensor(x) for x in (b, h, i, j)]
                        seen[b, h, i, j] |= True if asked is None else bool(asked(*at))
    return seen


def run(case, made, q, k, v, backend):
    """Run a case by Regard and by FlexAttention's eager code."""
    score_mod, mask_mod, block_mask = None, None, None
    if case.kind == SCORE:
        score_mod = made
    elif case.kind == MASK:
        mask_mod = made
        block_mask = create_block_mask(
            made, q.shape[0], q.shape[1], q.shape[2], k.shape[2], device="cpu", BLOCK_SIZE=4
        )
    else:
        block_mask, seen = made, visible_by_blocks(made)
        batch, heads = (size > 1 for size in seen.shape[:2])
        mask_mod = lambda b, h, i, j: seen[b * batch, h * heads, i, j]  # noqa: E731
    found = rg.flex_attention(
        q, k, v, score_mod, block_mask, enable_gqa=True, return_lse=True, backend=backend
    )
    return found, flex_eager(q, k, v, score_mod, mask_mod)[:2]


@pytest.mark.parametrize("case", list(listed()))
@pytest.mark.parametrize("backend", ["tiled", pytest.param("cpu", marks=pytest.mark.slow)])
def test_what_is_shipped_computes_what_flex_attention_does(case, backend):
    q, k, v = rows(**case.sizes, grad=True)
    tensors = case.captured()
    trained = [tensor.requires_grad_() for tensor in tensors]
    made = case.make(*tensors)
    found, wanted = run(case, made, q, k, v, backend)
    assert_same(found, wanted)
    inputs = [q, k, v, *trained]
    got = gradients(found[0], inputs)
    if case.flex_trains:
        assert_same(got, gradients(wanted[0], inputs), 3e-6)
        return
    with pytest.raises(AssertionError):
        gradients(wanted[0], inputs)


@pytest.mark.parametrize("G", [1, 4])
def test_the_rope_of_latent_attention_trains_as_its_formula(G):
    q, k, v = rows(N=9, G=G, grad=True)
    query = torch.randn(2, 4, 9, 6, dtype=torch.float64, requires_grad=True)
    key = torch.randn(2, 1, 9, 6, dtype=torch.float64, requires_grad=True)
    mod = mods.generate_mla_rope_score_mod(query, key, 4, scale=0.3)
    found = rg.flex_attention(q, k, v, mod, enable_gqa=True)
    score = q @ k.mT / 8**0.5 + 0.3 * query @ key.mT
    wanted = score.softmax(-1) @ v
    inputs = [q, k, v, query, key]
    assert_same([found, *gradients(found, inputs)], [wanted, *gradients(wanted, inputs)])


@pytest.mark.parametrize("activation", [torch.nn.functional.gelu, torch.nn.functional.relu])
def test_softmax_is_undone_as_the_package_says(activation):
    q, k, v = rows()
    mod = mods.generate_activation_score_mod(activation)
    output, lse = rg.flex_attention(q, k, v, mod, return_lse=True)
    found = mods.undo_softmax(output, lse, v.sum(dim=-2, keepdim=True))
    assert_same([found], [activation(q @ k.mT / 8**0.5) @ v])
