"""Batches: within the budget, every example once an epoch, the same again for the same epoch."""

import random

import pytest
import torch

from regard.learners.batches import IGNORED, Collate, TokenBudgetBatches, alike, length_of


def examples(count, longest=20):
    draw = random.Random(0)
    return [
        dict(input_ids=[5] * draw.randint(1, longest), labels=[6] * draw.randint(1, longest))
        for _ in range(count)
    ]


@pytest.mark.parametrize("budget", [20, 33, 100, 5000])
def test_every_example_comes_once_and_no_batch_exceeds_the_budget(budget):
    data = examples(200)
    batches = TokenBudgetBatches(data, budget)
    drawn = list(batches)
    assert sorted(index for batch in drawn for index in batch) == list(range(200))
    assert len(drawn) == len(batches)
    for batch in drawn:
        longest = max(max(len(data[i]["input_ids"]), len(data[i]["labels"])) for i in batch)
        assert longest * len(batch) <= budget


def test_example_longer_than_the_budget_gets_a_batch_of_its_own():
    data = [dict(input_ids=[1] * n, labels=[1]) for n in (50, 2, 3)]
    assert sorted(map(sorted, TokenBudgetBatches(data, 10))) == [[0], [1, 2]]


def test_epochs_differ_but_each_comes_again_the_same_with_as_many_batches():
    one, other = (TokenBudgetBatches(examples(200), 64, seed=4) for _ in range(2))
    first = list(one)
    one.set_epoch(1)
    second = list(one)
    assert first != second and len(first) == len(second) == len(one)
    other.set_epoch(1)
    assert list(other) == second
    other.set_epoch(0)
    assert list(other) == first


def test_batches_do_not_touch_the_generator_of_dropout():
    before = torch.random.get_rng_state()
    list(TokenBudgetBatches(examples(50), 64))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_padding_is_masked_and_the_decoder_sees_the_labels_one_step_late():
    data = [
        dict(input_ids=[7, 8, 1], labels=[9, 1]),
        dict(input_ids=[7, 1], labels=[9, 8, 1]),
    ]
    batch = Collate({"input_ids": 0}, start=0)(data)
    assert batch["input_ids"].tolist() == [[7, 8, 1], [7, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[9, 1, IGNORED], [9, 8, 1]]
    assert batch["decoder_input_ids"].tolist() == [[0, 9, 1], [0, 9, 8]]


def test_a_token_that_also_pads_is_read_where_it_is_meant():
    batch = Collate({"input_ids": 1})([{"input_ids": [7, 1]}, {"input_ids": [7, 1, 8]}])
    assert batch["input_ids"].tolist() == [[7, 1, 1], [7, 1, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_numbers_are_stacked_and_other_lists_padded_with_what_no_loss_counts():
    batch = Collate({"input_ids": 0})(
        [
            {"input_ids": [1, 2], "labels": 3, "first": [0]},
            {"input_ids": [1], "labels": 4, "first": [0, 1]},
        ]
    )
    assert batch["labels"].tolist() == [3, 4]
    assert batch["first"].tolist() == [[0, IGNORED], [0, 1]]
    assert "decoder_input_ids" not in batch


def test_batches_of_like_length_hold_every_place_once():
    data = examples(50)
    found = list(alike(data, 8))
    assert sorted(place for places in found for place in places) == list(range(50))
    lengths = [length_of(data[place]) for places in found for place in places]
    assert lengths == sorted(lengths) and max(map(len, found)) == 8
