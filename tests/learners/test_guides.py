"""Guides of words become guides of subwords, and tensors beside the others."""

import pytest
import torch

from regard.data.record import Record
from regard.learners import learner_class
from regard.learners.guides import (
    GUIDES,
    GuidedCollate,
    add_guides,
    keys_of,
    rows_of,
    subwords_of,
)
from regard.learners.tokenizer import train_tokenizer
from tests.learners.test_labels import classify, tag
from tests.train.tiny import make_task

# Few subwords, so that words are cut.
TEXTS = ["unbelievable cats", "cats sat unbelievably", "a sat cat"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 30)


@pytest.mark.parametrize("given", [str, str.split])
def test_every_subword_belongs_to_the_word_it_is_of(tokenizer, given):
    text = "cats  sat unbelievably"
    places = subwords_of(tokenizer, given(text), 99)
    # Joined by blanks, the tokens are those of the text with single ones.
    ids = tokenizer(" ".join(text.split()) if given is str.split else text)["input_ids"]
    words = {
        word: tokenizer.decode([ids[at] for at in at_places]).strip()
        for word, at_places in places.items()
    }
    assert words == {0: "cats", 1: "sat", 2: "unbelievably"}
    # Nothing is said of the token that ends the text.
    assert len(places[2]) > 1 and all(len(ids) - 1 not in some for some in places.values())


def test_words_that_are_cut_off_have_no_subwords(tokenizer):
    whole = subwords_of(tokenizer, TEXTS[1], 99)
    assert subwords_of(tokenizer, TEXTS[1], whole[1][0]) == {0: whole[0]}


def learner_of(folder, tokenizer, kind):
    make = {"classification": classify, "tagging": tag, "translation": make_task}[kind]
    task = make(folder)
    return learner_class(task)(task, tokenizer, ["x", "y"])


def test_rationales_become_one_row_of_weights(tmp_path, tokenizer):
    learner = learner_of(tmp_path, tokenizer, "classification")
    rows = [
        Record({"text": TEXTS[1], "label": "x", "rationale": {(0, 0): 1.0, (0, 2): 2.0}}, "f", 1),
        Record({"text": TEXTS[2], "label": "y", "rationale": None}, "f", 2),
    ]
    examples = learner.encode(rows)
    plain = learner.collate(examples)
    add_guides(learner, rows, examples, {"rationale"})
    batch = GuidedCollate(learner.collate)(examples)
    guide = batch[GUIDES]["rationale"]
    places = subwords_of(tokenizer, TEXTS[1], 99)
    wanted = torch.zeros(2, 1, batch["input_ids"].shape[1])
    wanted[0, 0, places[0]], wanted[0, 0, places[2]] = 1.0, 2.0
    torch.testing.assert_close(guide, wanted / wanted[0].sum())
    assert all(torch.equal(batch[name], value) for name, value in plain.items())
    assert GUIDES not in GuidedCollate(learner.collate)(learner.encode(rows))


def test_rationales_of_tokens_are_of_tokens(tmp_path, tokenizer):
    learner = learner_of(tmp_path, tokenizer, "tagging")
    values = {"tokens": ("cats sat", "unbelievably"), "tags": ("x", "y")}
    rows = [Record({**values, "word_weights": {(0, 0): 0.0, (0, 1): 1.0}}, "f", 1)]
    examples = learner.encode(rows)
    add_guides(learner, rows, examples, {"word_weights"})
    guide = GuidedCollate(learner.collate)(examples)[GUIDES]["word_weights"]
    places = subwords_of(tokenizer, values["tokens"], 99)[1]
    assert guide[0, 0].nonzero().flatten().tolist() == places
    assert guide.sum().item() == pytest.approx(1)


def test_alignments_become_weights_of_each_target_subword(tmp_path, tokenizer):
    learner = learner_of(tmp_path, tokenizer, "translation")
    values = {"source": TEXTS[1], "target": TEXTS[0]}
    rows = [
        Record({**values, "alignment": {(0, 2): 1.0, (0, 1): 1.0}}, "f", 1),
        Record({"source": "a", "target": "a sat", "alignment": {(1, 0): 1.0}}, "f", 2),
    ]
    examples = learner.encode(rows)
    add_guides(learner, rows, examples, {"alignment"})
    batch = GuidedCollate(learner.collate)(examples)
    guide = batch[GUIDES]["alignment"]
    assert guide.shape == (2, batch["labels"].shape[1], batch["input_ids"].shape[1])
    source, target = (subwords_of(tokenizer, values[key], 99) for key in ("source", "target"))
    columns = source[1] + source[2]
    wanted = torch.zeros_like(guide[0])
    for row in target[0]:
        wanted[row, columns] = 1 / len(columns)
    torch.testing.assert_close(guide[0], wanted)
    assert guide[1].sum(1).nonzero().flatten().tolist() == subwords_of(tokenizer, "a sat", 99)[1]


def test_rows_and_keys_of_each_role(tmp_path, tokenizer):
    learner = learner_of(tmp_path, tokenizer, "translation")
    pairs = [("a", "a sat cat"), ("cats sat", "cat")]
    rows = [Record({"source": a, "target": b}, "f", 1) for a, b in pairs]
    batch = learner.collate(learner.encode(rows))
    assert torch.equal(rows_of(batch, "encoder"), batch["attention_mask"] == 1)
    for role in ("decoder", "cross"):
        assert torch.equal(rows_of(batch, role), batch["labels"] != -100)
    assert keys_of(batch, "decoder") is batch["decoder_input_ids"]
    assert keys_of(batch, "cross") is keys_of(batch, None) is batch["input_ids"]
