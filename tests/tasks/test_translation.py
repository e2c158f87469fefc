"""Translation: data as a task asks for them, translations in order, scores beside copying."""

import pytest
import torch

from regard.errors import DataError
from regard.tasks.data import Pair
from regard.tasks.tokenizer import train_tokenizer
from regard.tasks.translation import BATCH, evaluate, read_corpus, translate
from regard.train.model import build_model
from tests.train.tiny import WORDS, make_task


@pytest.fixture(scope="module")
def model_and_tokenizer(tmp_path_factory):
    task = make_task(tmp_path_factory.mktemp("toy"))
    tokenizer = train_tokenizer([*WORDS, *WORDS.values()], 60)
    return build_model(task, tokenizer), tokenizer


def test_corpus_is_read_selected_and_split(tmp_path):
    corpus = read_corpus(make_task(tmp_path).data)
    counts = {"read": 120, "train": 104, "valid": 6, "test": 10, "left_out": {}}
    assert corpus.counts() == counts
    assert len(corpus.sha256) == 64


def test_changed_file_is_refused(tmp_path):
    settings = make_task(tmp_path).data
    pinned = settings.model_copy(update={"sha256": read_corpus(settings).sha256})
    assert read_corpus(pinned).sha256 == pinned.sha256
    with open(settings.path, "a") as file:
        file.write("new\tnouveau\n")
    with pytest.raises(DataError, match=r"pairs\.tsv: the data have changed: .* \w{12}…"):
        read_corpus(pinned)


def test_problem_with_the_pairs_names_the_file(tmp_path):
    task = make_task(tmp_path, data={"test_pairs": 100})
    with pytest.raises(DataError, match=r"^.*pairs\.tsv: 120 rows with 120 different"):
        read_corpus(task.data)


def test_translation_of_a_text_does_not_depend_on_its_neighbours(model_and_tokenizer):
    texts = [" ".join([word] * (1 + k % 5)) for k, word in enumerate(list(WORDS) * 12)]
    assert len(texts) > BATCH
    together = translate(*model_and_tokenizer, texts)
    alone = [translate(*model_and_tokenizer, [text])[0] for text in texts[::7]]
    assert alone == together[::7]


def test_translating_nothing_gives_nothing(model_and_tokenizer):
    assert translate(*model_and_tokenizer, []) == []


def test_model_stays_as_it_was(model_and_tokenizer):
    model, _ = model_and_tokenizer
    model.train()
    before = torch.random.get_rng_state()
    translate(*model_and_tokenizer, ["one two"])
    assert model.training and torch.equal(torch.random.get_rng_state(), before)


def test_text_too_long_is_refused(model_and_tokenizer):
    with pytest.raises(DataError, match=r"^line 2: 42 tokens, but the model reads at most 32"):
        translate(*model_and_tokenizer, ["one", "one " * 40])


def test_scores_stand_beside_those_of_copying(model_and_tokenizer):
    pairs = [Pair("one two green sun", "one two green sun"), Pair("blue", "bleu")]
    found = evaluate(*model_and_tokenizer, pairs)
    metrics = found.metrics()
    assert metrics["pairs"] == len(found.translations) == 2
    assert metrics["copy_bleu"] > 70 > metrics["bleu"]
    assert set(metrics) == {"pairs", "bleu", "chrf", "copy_bleu", "copy_chrf"}
