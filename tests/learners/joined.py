"""Toys of several tasks in one, all of the same few sentences."""

import json

import yaml

from regard.tasks import load_task
from tests.learners.test_labels import COLOURS, sentences
from tests.learners.toys import MODEL, TRAINING, labelled_pairs, queries, questions, scored_pairs

TRAINED = {**TRAINING, "steps": 12, "eval_every": 6, "save_every": 4, "warmup": 2}


def labels():
    return [{"text": " ".join(words), "label": colour} for words, colour in sentences()]


def tags():
    return [
        {"tokens": words, "tags": ["B-colour" if word in COLOURS else "O" for word in words]}
        for words, _ in sentences()
    ]


def texts():
    return [{"text": f"as all can see {' '.join(words)}"} for words, _ in sentences()]


KINDS = {
    "labels": ({"task": "classification"}, labels),
    "tags": ({"task": "tagging"}, tags),
    "pairs": ({"task": "pairs"}, labelled_pairs),
    "scores": ({"task": "pairs", "data": {"columns": {"score": "score"}}}, scored_pairs),
    "search": ({"task": "retrieval"}, queries),
    "questions": ({"task": "question_answering", "data": {"no_answer": True}}, questions),
    "words": ({"task": "language_modelling", "model": {"objective": "masked"}}, texts),
}


def write_member(folder, name, **parts):
    """Write the file of a task and its rows; return the file's name."""
    said, rows = KINDS[name]
    lines = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    data = {"path": f"{name}.jsonl", "split": {"test": 9, "valid": 6}, **said.get("data", {})}
    task = {**said, "data": data}
    for part, value in parts.items():
        mixed = isinstance(value, dict) and part in task
        task[part] = {**task[part], **value} if mixed else value
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return f"{name}.yaml"


def write_joint(folder, names=("labels", "tags"), **parts):
    """Write a joint task of the toys of these names; `training=dict(steps=3)` changes settings."""
    whole = {
        "task": "joint",
        "tasks": {name: write_member(folder, name) for name in names},
        "tokenizer": {"size": 120},
        "model": dict(MODEL),
        "training": dict(TRAINED),
    }
    for part, value in parts.items():
        mixed = isinstance(value, dict) and part in whole
        whole[part] = {**whole[part], **value} if mixed else value
    path = folder / "joint.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path


def joint(folder, names=("labels", "tags"), **parts):
    return load_task(write_joint(folder, names, **parts))
