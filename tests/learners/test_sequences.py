"""Translation: answers in order, whatever their neighbours; scores beside copying."""

import pytest
import torch

from regard.data.record import Record
from regard.errors import DataError
from regard.learners import evaluate, learner_class
from regard.learners.learner import BATCH
from regard.learners.tokenizer import train_tokenizer
from regard.train.model import build_model
from tests.train.tiny import WORDS, make_task


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    task = make_task(tmp_path_factory.mktemp("toy"))
    return learner_class(task)(task, train_tokenizer([*WORDS, *WORDS.values()], 60))


@pytest.fixture(scope="module")
def model(learner):
    return build_model(learner)


def rows(texts, targets=None):
    pairs = zip(texts, targets or texts, strict=True)
    return [
        Record({"source": a, "target": b}, "some.tsv", line) for line, (a, b) in enumerate(pairs, 1)
    ]


def test_answer_does_not_depend_on_its_neighbours(learner, model):
    texts = [" ".join([word] * (1 + k % 5)) for k, word in enumerate(list(WORDS) * 12)]
    assert len(texts) > BATCH
    together = learner.answer(model, rows(texts))
    alone = [learner.answer(model, rows([text]))[0] for text in texts[::7]]
    assert alone == together[::7]


def test_nothing_is_answered_with_nothing(learner, model):
    assert learner.answer(model, []) == []


def test_model_stays_as_it_was(learner, model):
    model.train()
    before = torch.random.get_rng_state()
    learner.answer(model, rows(["one two"]))
    assert model.training and torch.equal(torch.random.get_rng_state(), before)


def test_text_too_long_is_refused(learner, model):
    with pytest.raises(
        DataError, match=r"^some\.tsv, line 2: 42 tokens, but the model reads at most 32; shorten"
    ):
        learner.answer(model, rows(["one", "one " * 40]))


def test_scores_stand_beside_those_of_copying(learner, model):
    pairs = rows(["one two green sun", "blue"], ["one two green sun", "bleu"])
    found = evaluate(learner, model, pairs, train=[]).metrics()
    assert found["examples"] == 2
    assert found["baseline"]["BLEU"] > 70 > found["scores"]["BLEU"]
    assert set(found["scores"]) == set(found["baseline"]) == {"BLEU", "chrF"}
