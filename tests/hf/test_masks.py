"""Masks as programs: pair by pair what transformers' own mask says, and never a dense tensor."""

import pytest
import torch
from transformers import masking_utils as m

import regard as rg
from regard.errors import UnsupportedError
from regard.hf.bias import DistanceBias
from regard.hf.masks import Mask, dense_mask, make_mask
from regard.ir.program import AttentionProgram
from regard.passes.restrict_where import restrict_where
from tests.nn import programs as p

WORDS = torch.tensor([[0, 0, 1, 1, 1, 2, -1, -1, 3], [0, 1, 1, 2, 2, 2, 2, -1, -1]])
FUNCTIONS = {
    "causal": m.causal_mask_function,
    "bidirectional": m.bidirectional_mask_function,
    "window": m.sliding_window_causal_mask_function(3),
    "window both ways": m.sliding_window_bidirectional_mask_function(2),
    "chunks": m.chunked_causal_mask_function(4, torch.tensor([0, 2])),
    "blocks": m.or_masks(m.causal_mask_function, m.blockwise_overlay(WORDS)),
    "packed": m.packed_sequence_compatibility_function(
        m.causal_mask_function, torch.arange(9).expand(2, 9) % 4, WORDS
    ),
}
PADDING = {
    "none": None,
    "all real": torch.ones(2, 9),
    "right": torch.tensor([[1] * 9, [1] * 4 + [0] * 5]),
    "left": torch.tensor([[1] * 9, [0] * 4 + [1] * 5]),
    "all": torch.tensor([[1] * 9, [0] * 9]),
    "holes": torch.tensor([[1, 0, 1, 1, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0, 1, 0, 0]]),
}
# Queries, keys, the position of the first query and of the first key.
CALLS = [(9, 9, 0, 0), (1, 9, 8, 0), (3, 9, 4, 0), (1, 9, 5, 0), (2, 4, 7, 5), (1, 4, 8, 5)]


def seen(mask, rows, keys, query_offset, key_offset):
    """Return the pairs that a program sees under a mask, by its weights."""
    weights = rg.program(lambda pair: rg.weigh(1.0 + 0.0 * rg.dot(pair.q, pair.k)))
    root = weights.root if mask.condition is None else restrict_where(weights.root, mask.condition)
    positions = torch.arange(keys) + key_offset
    q, k = torch.zeros(2, 1, rows, 4), torch.zeros(2, 1, keys, 4)
    _, found = rg.attend(
        AttentionProgram(root, "seen"), q, k, k, observe=["weights"], query_offset=query_offset,
        key_positions=positions, key_lengths=mask.key_lengths, **mask.inputs,
    )  # fmt: skip
    return found["weights"] > 0


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mask_sees_the_pairs_that_transformers_says(name, padding, call):
    rows, keys, query_offset, key_offset = call
    given = PADDING[padding]
    options = {
        "batch_size": 2, "q_length": rows, "kv_length": keys, "q_offset": query_offset,
        "kv_offset": key_offset, "mask_function": FUNCTIONS[name], "device": "cpu",
        "attention_mask": None if given is None else given.bool(),
    }  # fmt: skip
    mask = make_mask(**options)
    assert isinstance(mask, Mask) and mask.shape == (2, 1, rows, keys)
    expected = dense_mask(**options)
    assert torch.equal(seen(mask, *call), expected)
    assert torch.equal(mask.clone(), expected)


def test_a_mask_function_of_no_program_is_a_dense_tensor():
    def odd(batch, head, query, key):
        return (key <= query) & torch.tensor([True, False, True])[
            torch.searchsorted(torch.tensor([2, 5]), key)
        ]

    mask = make_mask(batch_size=2, q_length=9, kv_length=9, mask_function=odd)
    assert not isinstance(mask, Mask) and mask.shape == (2, 1, 9, 9)


def test_a_mask_knows_its_offset_when_the_cache_moves_on():
    offset = torch.tensor(3)
    mask = make_mask(batch_size=1, q_length=2, kv_length=8, q_offset=offset)
    offset += 2
    assert mask.query_offset == 3 and type(mask.query_offset) is int
    assert mask.key_lengths.tolist() == [5]


@pytest.fixture
def mask():
    return make_mask(batch_size=1, q_length=3, kv_length=3)


def test_what_is_only_passed_on_stays_a_program(mask):
    for same in (mask.contiguous(), mask.detach(), mask.to("cpu"), mask.to(torch.bool)):
        assert same is mask
    assert (mask.shape, mask.dtype, mask.ndim, len(mask)) == ((1, 1, 3, 3), torch.bool, 4, 1)
    assert mask.device.type == "cpu" and mask.untyped_storage().nbytes() <= 9


def test_what_is_computed_with_is_made_dense(mask):
    lower = torch.ones(3, 3).tril().bool()
    assert torch.equal(mask[0, 0], lower) and torch.equal((~mask)[0, 0], ~lower)
    assert torch.equal(mask.to(torch.float32)[0, 0], lower.float())
    assert torch.equal(torch.where(mask, 1, 2)[0, 0], torch.where(lower, 1, 2))


def test_added_to_scores_a_mask_hides_by_the_smallest_number(mask):
    scores = torch.randn(1, 2, 3, 3)
    for found in (scores + mask, mask + scores, torch.add(scores, mask)):
        assert torch.equal(found.softmax(-1) > 0, mask.clone().expand(1, 2, 3, 3))
        assert torch.equal(found[0, 0].tril(), scores[0, 0].tril())


@pytest.mark.parametrize(
    "write",
    [
        lambda mask: mask.fill_(True),
        lambda mask: mask.__setitem__(0, True),
        lambda mask: mask.logical_not_(),
        lambda mask: mask.__iand__(torch.ones(1).bool()),
    ],
)
def test_a_mask_cannot_be_written_into(mask, write):
    with pytest.raises(UnsupportedError, match=r"writes into a mask or bias .* clone\(\) it first"):
        write(mask)


@pytest.mark.parametrize(
    "extend",
    [
        lambda mask: torch.cat([mask, torch.ones(1, 1, 3, 2).bool()], dim=-1),
        lambda mask: torch.nn.functional.pad(mask, (0, 2), value=0.0),
    ],
)
def test_a_mask_that_a_model_extends_with_numbers_is_refused(mask, extend):
    with pytest.raises(
        UnsupportedError, match=r"extends its mask by '(cat|pad)', with numbers of a"
    ):
        extend(mask)


def test_a_bias_by_distance_is_the_bias_of_every_pair():
    table = torch.randn(2, 7, requires_grad=True)
    bias = DistanceBias(table, 4, 9, 5)
    assert bias.shape == (1, 2, 4, 9)
    for i in range(4):
        for j in range(9):
            place = max(-3, min(3, j - (i + 5))) + 3
            assert torch.equal(bias[0, :, i, j], table[:, place])
    (bias + torch.zeros(1, 2, 4, 9)).sum().backward()
    assert table.grad.sum() == 2 * 4 * 9


def test_programs_of_other_tests_are_not_changed_by_masks():
    assert "layer_mask" not in p.plain.formula()
