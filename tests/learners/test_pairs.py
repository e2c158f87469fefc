"""Two texts: both are read, told apart, and scores are numbers."""

from types import SimpleNamespace

import pytest
import torch

from regard.data.record import Record
from regard.learners import learner_class
from regard.learners.tokenizer import train_word_tokenizer
from regard.train.model import build_model
from tests.learners.toys import THINGS, toy


def learner_of(folder, name, labels=()):
    task = toy(folder, name)
    return learner_class(task)(
        task, train_word_tokenizer(["the is a red green", *THINGS], 60), labels
    )


def rows(*pairs):
    return [
        Record({"first": a, "second": b, **right}, "some.csv", n)
        for n, (a, b, right) in enumerate(pairs, 1)
    ]


def test_tokens_say_which_text_they_are_of(tmp_path):
    learner = learner_of(tmp_path, "pairs", ("x", "y"))
    (example,) = learner.encode(rows(("red", "sky", {"label": "y"})))
    end = learner.tokenizer.eos_token_id
    ids, kinds = example["input_ids"], example["token_type_ids"]
    first = ids.index(end) + 1
    assert ids[-1] == end and ids.count(end) == 2
    assert kinds == [0] * first + [1] * (len(ids) - first)
    assert example["labels"] == 1


def test_order_of_texts_and_their_kinds_reach_the_model(tmp_path):
    learner = learner_of(tmp_path, "pairs", ("x", "y"))
    model = build_model(learner).eval()
    batch = learner.collate(learner.encode(rows(("red", "sky", {})), learning=False))
    plain = model(**batch).logits
    batch["token_type_ids"] = 1 - batch["token_type_ids"]
    assert not torch.allclose(model(**batch).logits, plain, atol=1e-6)


def test_long_texts_are_cut_the_longer_first(tmp_path):
    learner = learner_of(tmp_path, "pairs", ("x", "y"))
    (short,) = learner.encode(rows(("red", "", {})), learning=False)
    (example,) = learner.encode(rows(("red", "sky " * 40, {})), learning=False)
    assert len(example["input_ids"]) == learner.limit
    kept = len(short["input_ids"]) - 1
    assert example["input_ids"][:kept] == short["input_ids"][:kept]


def test_loss_of_scores_is_the_mean_squared_error(tmp_path):
    learner = learner_of(tmp_path, "scores")
    outputs = SimpleNamespace(logits=torch.tensor([[1.0], [3.0]]))
    scores = torch.tensor([0.0, 5.0])
    assert learner.loss(outputs, scores).item() == 2.5
    assert learner.loss(outputs, scores, num_items_in_batch=10).item() == 0.5


def test_baseline_of_scores_is_a_line_in_words_shared(tmp_path):
    learner = learner_of(tmp_path, "scores")
    train = rows(
        ("a b", "a b", {"score": 5.0}), ("a b", "c d", {"score": 1.0}), ("a", "b", {"score": 1.0})
    )
    asked = rows(("x y", "Y x!", {}), ("x y", "y", {}), ("x", "z", {}), ("", "", {}))
    assert learner.baseline(train, asked) == pytest.approx([5.0, 3.0, 1.0, 1.0])


def test_record_keeps_both_texts(tmp_path):
    row = rows(("a", "b", {"score": 2.0}))[0]
    found = learner_of(tmp_path, "scores").record(row, 1.5)
    assert found == {"input": ["a", "b"], "reference": 2.0, "prediction": 1.5}
