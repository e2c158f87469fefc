"""A field's language first, then a task: what goes from one run to the next."""

import json

import pytest
import torch
from transformers import BertModel

from regard.errors import TaskError
from regard.learners import learner_class
from regard.learners.tokenizer import (
    MASK,
    read_tokenizer,
    train_byte_tokenizer,
    train_tokenizer,
    words_as_in_texts,
)
from regard.tasks import load_task, load_task_data
from regard.train import load_learner, save_model, train
from tests.learners.joined import write_member
from tests.learners.pretrained import MAKERS, TOKENIZER, pretrained
from tests.learners.test_labels import sentences
from tests.train.tiny import PROGRAMS, weights_of

SHORT = {"steps": 4, "batch_tokens": 200, "lr": 0.01, "warmup": 0, "eval_every": 0, "threads": 1}
NEW = {"width": 32, "layers": 1, "heads": 2, "ffn": 32, "positions": 24}
TEXTS = [" ".join(words) for words, _ in sentences()]


def field(folder, objective, model, **parts):
    """Learn a field's language."""
    model = {"objective": objective, **model}
    write_member(folder, "words", model=model, training=SHORT, tokenizer={"size": 300}, **parts)
    return train(load_task(folder / "words.yaml"), folder / "field", progress=False)


def then(folder, name, training=SHORT, **parts):
    """The task that goes on from there."""
    write_member(folder, name, model={"pretrained": "field/model"}, training=training, **parts)
    return load_task(folder / f"{name}.yaml")


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_encoder_mode_and_tokenizer_go_into_the_task(tmp_path, objective):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    role = "encoder" if objective == "masked" else "decoder"
    before = field(tmp_path, objective, NEW, mode={role: "mine.py:relative"})
    # So slow that nothing moves.
    task = then(tmp_path, "labels", {**SHORT, "steps": 1, "lr": 1e-9})
    after = train(task, tmp_path / "run", progress=False)
    kept = weights_of(after.folder)
    for name, value in weights_of(before.folder).items():
        # A language model has one name in front where a text model has another.
        own = f"encoder.{name.partition('.')[2]}"
        if name.startswith(("bert.", "model.")):
            torch.testing.assert_close(kept[own], value, rtol=0, atol=1e-7)
    assert after.metrics["mode"]["hash"] == before.metrics["mode"]["hash"]
    learned = [name for name in kept if ".regard." in name]
    assert len(learned) == 1 and kept[learned[0]].abs().max() > 0
    vocabularies = [read_tokenizer(run.folder / "model").get_vocab() for run in (before, after)]
    assert vocabularies[0] == vocabularies[1]


@pytest.mark.parametrize("name", ["tags", "pairs", "questions", "search", "scores"])
def test_any_task_goes_on_from_a_language_model_of_bytes(tmp_path, name):
    field(tmp_path, "masked", NEW)
    assert train(then(tmp_path, name), tmp_path / "run", progress=False).finished


def test_two_texts_are_told_apart_by_the_end_of_one(tmp_path):
    field(tmp_path, "masked", NEW)
    task = then(tmp_path, "pairs")
    tokenizer = read_tokenizer(task.model.pretrained)
    corpus = load_task_data(task)
    learner = learner_class(task)(task, tokenizer, corpus.labels)
    (example,) = learner.encode(corpus.splits.train[:1])
    assert example["input_ids"].count(tokenizer.eos_token_id) == 2


def headless(folder):
    """A pretrained encoder without a head for words, as those of sentence encoders are."""
    torch.manual_seed(5)
    tokenizer = train_tokenizer(TEXTS, 80)
    tokenizer.add_special_tokens({"mask_token": MASK})
    config = MAKERS["bert"]().config
    config.vocab_size = len(tokenizer)
    save_model(BertModel(config), tokenizer, folder)
    return str(folder)


def test_an_encoder_without_a_head_for_words_gets_one_that_is_trained(tmp_path):
    base = headless(tmp_path / "base")
    run = field(tmp_path, "masked", {"pretrained": base, "positions": 24})
    head = {name: value for name, value in weights_of(run.folder).items() if "cls." in name}
    assert head and head["cls.predictions.bias"].abs().max() > 0
    # The next run has it, so that few weights are enough.
    again = {"pretrained": str(run.folder / "model"), "objective": "masked", "positions": 24}
    few = {"method": "lora", "rank": 2}
    write_member(tmp_path, "words", model=again, training=SHORT, tuning=few)
    task = load_task(tmp_path / "words.yaml")
    result = train(task, tmp_path / "more", progress=False)
    after = weights_of(result.folder)
    for name, value in head.items():
        assert torch.equal(after[name], value)
    assert result.metrics["training"]["share"] < 0.2


def test_a_head_that_would_stay_random_is_refused(tmp_path):
    base = headless(tmp_path / "base")
    with pytest.raises(TaskError, match=r"lora keeps most weights as they are, and .*base has no"):
        field(
            tmp_path, "masked", {"pretrained": base, "positions": 24},
            tuning={"method": "lora", "rank": 2},
        )  # fmt: skip


def test_words_have_the_subwords_they_have_in_a_text():
    by_bytes = train_byte_tokenizer(TEXTS, 320)
    for tokenizer in (by_bytes, TOKENIZER):
        words = "the rose is red".split()
        found = tokenizer(words_as_in_texts(tokenizer, [words])[0], is_split_into_words=True)
        assert found["input_ids"] == tokenizer("the rose is red")["input_ids"]
        assert sorted({word for word in found.word_ids() if word is not None}) == [0, 1, 2, 3]
    assert words_as_in_texts(TOKENIZER, [("a", "b")]) == [["a", "b"]]


def test_a_field_may_be_learned_together_with_the_task(tmp_path):
    base = pretrained("roberta", tmp_path / "base")
    tokenizer = read_tokenizer(base)
    tokenizer.add_special_tokens({"mask_token": tokenizer.unk_token})
    tokenizer.save_pretrained(base)
    names = ("labels", "words")
    whole = {
        "task": "joint", "tasks": {name: write_member(tmp_path, name) for name in names},
        "model": {"pretrained": "base"}, "training": SHORT,
    }  # fmt: skip
    (tmp_path / "joint.yaml").write_text(json.dumps(whole))
    result = train(load_task(tmp_path / "joint.yaml"), tmp_path / "run", progress=False)
    assert result.metrics["test"]["scores"]["words/perplexity"] > 1
    learner, _ = load_learner(result.folder)
    assert learner.limit == 39
