"""Texts into texts: answers in order, whatever their neighbours; models that were pretrained."""

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    BertModel,
    MarianMTModel,
    T5Config,
)

from regard.data.record import Record
from regard.errors import DataError, FileError, TaskError
from regard.learners import evaluate, learner_class
from regard.learners.learner import BATCH
from regard.learners.tokenizer import read_tokenizer, train_tokenizer
from regard.train import evaluate_run, load_learner, save_model, train
from regard.train.model import build_model
from tests.learners.toys import toy
from tests.train.tiny import PROGRAMS, WORDS, make_task


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


def summary_learner(folder, **parts):
    task = toy(folder, "summarisation", **parts)
    return learner_class(task)(task, train_tokenizer([*WORDS, *WORDS.values()], 60))


def summaries(texts, written):
    pairs = zip(texts, written, strict=True)
    return [Record({"text": a, "summary": b}, "some.jsonl", n) for n, (a, b) in enumerate(pairs, 1)]


def test_long_text_is_cut_before_its_end_and_long_summary_refused(tmp_path):
    learner = summary_learner(tmp_path)
    (example,) = learner.encode(summaries(["one " * 40], ["un"]))
    assert len(example["input_ids"]) == 24
    assert example["input_ids"][-1] == learner.tokenizer.eos_token_id
    with pytest.raises(DataError, match=r"^some\.jsonl, line 1: \d+ tokens, but the model reads"):
        learner.encode(summaries(["one"], ["un " * 40]))


def test_baseline_gives_as_many_sentences_as_summaries_have(tmp_path):
    learner = summary_learner(tmp_path)
    train = summaries(["", "", ""], ["One. Two!", "A? B. ", "One"])
    asked = summaries(["Is it? It is.\nSo be it... The end.", "Alone"], ["", ""])
    assert learner.baseline(train, asked) == ["Is it? It is.", "Alone"]


def test_stems_are_counted_as_the_task_says(tmp_path):
    assert summary_learner(tmp_path).options == {"stemmer": False}
    assert summary_learner(tmp_path, metrics={"stemmer": True}).options == {"stemmer": True}


def test_answers_are_as_long_as_is_fair_or_asked_and_no_longer_than_the_model_reads(tmp_path):
    assert [summary_learner(tmp_path).most_tokens(n) for n in (4, 400)] == [23, 23]
    short = summary_learner(tmp_path, model={"longest": 3})
    assert [short.most_tokens(n) for n in (4, 400)] == [3, 3]


def test_model_writes_with_as_many_beams_and_tokens_as_the_task_says(tmp_path, monkeypatch):
    learner = summary_learner(tmp_path, model={"beams": 4, "longest": 3})
    model, asked, written = build_model(learner), [], []

    def generate(**options):
        asked.append(options)
        written.append(MarianMTModel.generate(model, **options))
        return written[-1]

    monkeypatch.setattr(model, "generate", generate)
    answers = learner.answer(model, summaries(["one two", "sun"], ["", ""]))
    assert len(answers) == 2 and written[0].shape[1] <= 4
    assert (asked[0]["num_beams"], asked[0]["max_length"]) == (4, 4)


SHAPES = {
    "t5": lambda words: T5Config(
        vocab_size=words, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    ),
    "bart": lambda words: BartConfig(
        vocab_size=words, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
        eos_token_id=1, decoder_start_token_id=1, forced_eos_token_id=1,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def pretrained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    words = train_tokenizer([*WORDS, *WORDS.values(), "read : "], 60)
    model = AutoModelForSeq2SeqLM.from_config(SHAPES[request.param](len(words)))
    save_model(model, words, folder)
    return request.param, folder


def pretrained_task(tmp_path, folder, **model):
    own = {"width": 128, "layers": 2, "heads": 4, "ffn": 512, "dropout": 0.1}
    return make_task(tmp_path, model={**own, "pretrained": str(folder), **model})


def test_pretrained_model_is_trained_programmed_and_scored_again(pretrained, tmp_path):
    name, folder = pretrained
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    task = pretrained_task(tmp_path, folder, beams=2, prefix="read: ")
    task = task.model_copy(update={"mode": {"cross": f"{tmp_path}/mine.py:relative"}})
    result = train(task, tmp_path / "run", progress=False)
    learner, model = load_learner(result.folder)
    assert model.config.model_type == name
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]
    example, plain = (
        one.encode([Record({"source": "sun", "target": "soleil"}, "", 1)])[0]
        for one in (
            learner,
            learner_class(task)(pretrained_task(tmp_path, folder), learner.tokenizer),
        )
    )
    assert example["input_ids"][-len(plain["input_ids"]) :] == plain["input_ids"]
    assert len(example["input_ids"]) > len(plain["input_ids"])
    assert example["labels"] == plain["labels"]


def test_decoder_starts_with_the_token_of_its_model(pretrained, tmp_path):
    name, folder = pretrained
    task = pretrained_task(tmp_path, folder)
    learner = learner_class(task)(task, read_tokenizer(folder))
    learner.build()
    batch = learner.collate(learner.encode([Record({"source": "sun", "target": "un"}, "", 1)]))
    assert batch["decoder_input_ids"][0, 0] == {"t5": 0, "bart": 1}[name]


def test_encoder_alone_writes_nothing(tmp_path):
    words = train_tokenizer([*WORDS], 60)
    bert = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    save_model(BertModel(bert), words, tmp_path / "bert")
    task = pretrained_task(tmp_path, tmp_path / "bert")
    with pytest.raises(FileError, match="AutoModelForSeq2SeqLM has no model for model_type 'bert'"):
        train(task, tmp_path / "run", progress=False)


def test_model_that_reads_less_than_asked_is_refused(pretrained, tmp_path):
    name, folder = pretrained
    task = pretrained_task(tmp_path, folder, positions=100)
    learner = learner_class(task)(task, read_tokenizer(folder))
    if name == "t5":  # Its positions have no end.
        assert learner.build().config.model_type == "t5"
        return
    with pytest.raises(TaskError, match=r"^model\.positions is 100, but .* at most 64 tokens; low"):
        learner.build()
