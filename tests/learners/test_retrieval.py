"""Retrieval: who is whose wrong answer, how passages are ranked, and what words alone find."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regard.data.record import Record
from regard.errors import TaskError
from regard.learners import learner_class
from regard.learners.retrieval import RetrievalLearner
from regard.learners.tokenizer import train_tokenizer
from regard.learners.words import WordIndex
from regard.train.model import build_model
from tests.learners.toys import WORDS, toy

PAIRS = [("a", "x"), ("b", "y"), ("a", "z"), ("c", "w"), ("d", "w")]


def rows(pairs=PAIRS):
    return [Record({"query": a, "passage": b}, "some.tsv", n) for n, (a, b) in enumerate(pairs, 1)]


@pytest.fixture
def learner(tmp_path):
    task = toy(tmp_path, "retrieval", training={"label_smoothing": 0.1})
    return learner_class(task)(task, train_tokenizer([*WORDS, *WORDS.values()], 60))


def test_rows_that_share_a_query_or_a_passage_are_of_one_group(learner):
    groups = [one["labels"] for one in learner.encode(rows())]
    assert groups[0] == groups[2] and groups[3] == groups[4]
    assert len(set(groups)) == 3
    chain = [("a", "x"), ("b", "y"), ("a", "y")]
    assert len({one["labels"] for one in learner.encode(rows(chain))}) == 1


def test_loss_chooses_among_passages_that_could_be_wrong(learner):
    cosines, groups = torch.randn(3, 3), torch.tensor([0, 7, 0])
    found = learner.loss(SimpleNamespace(logits=cosines), groups)
    scores, total = cosines / 0.05, 0.0
    for row, possible in enumerate(([0, 1], [0, 1, 2], [1, 2])):
        target = torch.tensor(possible.index(row))
        total += F.cross_entropy(scores[row, possible], target, label_smoothing=0.1)
    torch.testing.assert_close(found, total / 3)
    half = learner.loss(SimpleNamespace(logits=cosines), groups, num_items_in_batch=6)
    torch.testing.assert_close(half, total / 6)


def test_gradient_is_finite_where_nothing_can_be_chosen_from(learner):
    cosines = torch.randn(2, 2, requires_grad=True)
    learner.loss(SimpleNamespace(logits=cosines), torch.tensor([3, 3])).backward()
    assert cosines.grad.abs().max() == 0


VECTORS = {"a": (1, 0), "b": (0, 1), "x": (1, 0), "y": (0, 1), "z": (0.6, 0.8), "t": (1, 0)}


class Fixed(RetrievalLearner):
    """Knows the vectors of texts by heart."""

    def _ids(self, texts):
        return [[ord(text)] for text in texts]

    def read_all(self, model, examples):
        return [np.array(VECTORS[chr(one["input_ids"][0])], float) for one in examples]


@pytest.mark.parametrize(
    ("pairs", "ranks"),
    [
        ([("a", "x"), ("b", "y")], [[1], [1]]),
        ([("a", "y"), ("b", "x")], [[2], [2]]),
        # Of equal scores the wrong passage comes first.
        ([("a", "x"), ("b", "t")], [[2], [2]]),
        # z is behind x, but x is right as well, so it is no candidate.
        ([("a", "x"), ("a", "z"), ("b", "y")], [[1], [1], [1]]),
        ([("a", "x"), ("a", "y"), ("b", "z")], [[1], [2], [2]]),
    ],
)
def test_each_passage_is_ranked_among_all_that_do_not_answer_its_query(learner, pairs, ranks):
    fixed = Fixed(learner.task, learner.tokenizer)
    assert fixed.answer(None, rows(pairs)) == ranks


def test_vectors_have_length_one_and_do_not_depend_on_neighbours(learner):
    model = build_model(learner)
    texts = ["one", "one two three four five", "six"]
    examples = [{"input_ids": ids} for ids in learner._ids(texts)]
    together = np.stack(learner.read_all(model, examples))
    alone = np.stack([learner.read_all(model, [one])[0] for one in examples])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert learner.answer(model, []) == []


def test_batch_too_small_for_a_choice_is_refused(tmp_path):
    task = toy(tmp_path, "retrieval", training={"batch_tokens": 5})
    learner = learner_class(task)(task, train_tokenizer([*WORDS, *WORDS.values()], 60))
    with pytest.raises(
        TaskError,
        match=r"^training\.batch_tokens is 5, too few for two rows, .* make it \d+ or more$",
    ):
        learner.encode(rows([("one two", "un deux"), ("two three", "deux trois")]))


def test_words_are_weighed_as_in_bm25():
    passages = ["the cat sat", "the dog sat on the cat", "birds"]
    found = WordIndex(passages).scores("Cat cat DOG none")
    mean = (3 + 6 + 1) / 3

    def weight(having, times, length):
        rare = np.log(1 + (3 - having + 0.5) / (having + 0.5))
        return rare * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean))

    wanted = [2 * weight(2, 1, 3), 2 * weight(2, 1, 6) + weight(1, 1, 6), 0]
    np.testing.assert_allclose(found, wanted)


def test_baseline_finds_passages_with_the_words_of_the_query(learner):
    pairs = [("red cat", "a cat, red"), ("blue dog", "the dog is blue"), ("sun", "moon")]
    assert learner.baseline([], rows(pairs)) == [[1], [1], [3]]
