"""Tasks of pretrained models of many architectures: they train, write, are kept and read again."""

import itertools
import json

import pytest
import yaml

from regard.tasks import load_task
from regard.train import evaluate_run, predict_run, train
from regard.train.report import write_run_report
from tests.learners.architectures import DECODERS, ENCODERS, WRITERS, pretrained
from tests.learners.test_labels import COLOURS, sentences

ROWS = [(" ".join(words), colour) for words, colour in sentences()]
WORDS = sorted({word for text, _ in ROWS for word in text.split()})
TRAINING = {
    "steps": 2, "batch_tokens": 200, "lr": 0.01, "warmup": 0, "save_every": 2, "eval_every": 2,
    "threads": 1,
}  # fmt: skip
FIELDS = {
    "translation": ("source", "target"),
    "summarisation": ("text", "summary"),
    "classification": ("text", "label"),
    "tagging": ("tokens", "tags"),
    "language_modelling": ("text", "text"),
}


def rows_of(kind):
    for text, colour in ROWS:
        words = text.split()
        tags = ["B-colour" if word in COLOURS else "O" for word in words]
        values = {"tagging": (words, tags), "classification": (text, colour)}
        answer = {"translation": " ".join(reversed(words)), "language_modelling": text}.get(
            kind, colour
        )
        yield dict(zip(FIELDS[kind], values.get(kind, (text, answer)), strict=True))


def run(kind, folder, model, **parts):
    lines = "".join(json.dumps(row) + "\n" for row in rows_of(kind))
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    held_out = (
        {"test_pairs": 6, "valid_pairs": 5}
        if kind == "translation"
        else {"split": {"test": 6, "valid": 5}}
    )
    task = {
        "task": kind, "data": {"path": "rows.jsonl", **held_out},
        "model": {"pretrained": "base", "positions": 32, **model}, "training": TRAINING, **parts,
    }  # fmt: skip
    (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    result = train(load_task(folder / "task.yaml"), folder / "run", progress=False)
    assert result.finished
    # What is read again answers alike, and its report can be written.
    assert evaluate_run(folder / "run").metrics() == result.metrics["test"]
    write_run_report({"one": folder / "run"}, folder / "report.html", kind)
    return result


def asked(kind, folder):
    """Answers to two rows, as `regard predict` gives them."""
    (folder / "asked.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in list(rows_of(kind))[:2]), encoding="utf-8"
    )
    return [one.answer for one in predict_run(folder / "run", folder / "asked.jsonl")]


def each(architectures, kinds, *quick):
    """All pairs; those that are not quick take long together."""
    return [
        pytest.param(*pair, marks=() if pair in quick else (pytest.mark.slow,))
        for pair in itertools.product(architectures, kinds)
    ]


@pytest.mark.parametrize(
    ("architecture", "kind"),
    each(
        WRITERS, ("translation", "summarisation"), ("t5", "summarisation"), ("mbart", "translation")
    ),
)
def test_pretrained_writer_learns_and_writes(architecture, kind, tmp_path):
    pretrained(architecture, "written", WORDS, tmp_path / "base")
    beams = 2 if kind == "summarisation" else 1
    run(kind, tmp_path, {"beams": beams, "prefix": "the "})
    assert all(isinstance(one, str) for one in asked(kind, tmp_path))


def test_habits_of_a_pretrained_writer_are_none_of_the_task(tmp_path):
    habits = {
        "min_length": 56, "max_length": 142, "max_new_tokens": 80, "num_beams": 4,
        "length_penalty": 2.0, "no_repeat_ngram_size": 3, "early_stopping": True,
        "do_sample": True, "top_k": 5, "temperature": 0.5,
    }  # fmt: skip
    pretrained("bart", "written", WORDS, tmp_path / "base", **habits, forced_bos_token_id=0)
    run("summarisation", tmp_path, {"longest": 4})
    assert all(len(one.split()) <= 4 for one in asked("summarisation", tmp_path))
    kept = json.loads((tmp_path / "run/model/generation_config.json").read_text(encoding="utf-8"))
    assert not habits.keys() & kept.keys() and kept["forced_bos_token_id"] == 0


def test_writer_that_names_no_start_is_trained_and_writes_from_padding(tmp_path):
    pretrained("bart", "written", WORDS, tmp_path / "base", decoder_start_token_id=None)
    path = tmp_path / "base" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "decoder_start_token_id": None}), encoding="utf-8")
    run("translation", tmp_path, {})
    kept = json.loads((tmp_path / "run/model/generation_config.json").read_text(encoding="utf-8"))
    assert kept["decoder_start_token_id"] == kept["pad_token_id"] == 1


@pytest.mark.parametrize(
    ("architecture", "kind"),
    each(
        [*ENCODERS, *DECODERS], ("classification", "tagging", "language_modelling"),
        ("deberta-v2", "tagging"), ("modernbert", "classification"), ("roberta", "classification"),
        ("electra", "language_modelling"), ("gpt2", "language_modelling"),
    ),
)  # fmt: skip
def test_pretrained_reader_learns(architecture, kind, tmp_path):
    causal = architecture in DECODERS
    head = {True: "causal", False: "masked"}[causal] if kind == "language_modelling" else "alone"
    pretrained(architecture, head, WORDS, tmp_path / "base")
    model = {}
    if kind == "language_modelling":
        model["objective"] = head
    run(kind, tmp_path, model)
    assert len(asked(kind, tmp_path)) == 2
