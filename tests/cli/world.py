"""The small world that ways to be wrong are tried on (`wrong`), made once and copied for each."""

import json
import shutil
from pathlib import Path

import torch
import yaml
from transformers import BertConfig, BertForMaskedLM, MarianConfig, MarianMTModel

import regard as rg
from regard.modes import Mode, save_mode
from regard.tasks import load_task
from regard.train import save_model, train
from regard.train.record import LogFile
from regard.train.study import tune
from tests.learners.pretrained import PAIRED, SIZES, TOKENIZER
from tests.learners.test_labels import COLOURS, MODEL, sentences
from tests.train.tiny import PROGRAMS, write_pairs

TRAINING = {
    "steps": 8, "save_every": 4, "eval_every": 4, "batch_tokens": 200, "lr": 0.01, "warmup": 2,
    "threads": 1,
}  # fmt: skip
SPLIT = {"test": 9, "valid": 6}
# Files that name others by their places.
_NAMING = ("run", "other", "tagged", "begun", "study")


def make_world(world: Path) -> None:
    """Write task files, rows and a pretrained model, and train the runs."""
    world.mkdir(parents=True)
    (world / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    write_pairs(world / "pairs.tsv")
    _write_rows(world)
    _write_task(
        world / "colours.yaml", "classification", "rows.jsonl", mode={"encoder": "mine.py:relative"}
    )
    _write_task(world / "tags.yaml", "tagging", "tags.jsonl")
    _write_task(world / "tuned.yaml", "classification", "rows.jsonl", model={"pretrained": "base"})
    _write_task(
        world / "write.yaml",
        "translation",
        "pairs.tsv",
        model={"pretrained": "writer", "positions": 24},
        data={"path": "pairs.tsv", "test_pairs": 5, "valid_pairs": 5},
    )
    _write_task(
        world / "study.yaml",
        "classification",
        "rows.jsonl",
        search={"trials": 1, "ranges": {"training.lr": [0.01, 0.02]}},
    )
    save_mode(Mode("task", "", encoder=rg.catalogue.find("alibi").program), world / "alibi.json")
    torch.manual_seed(0)
    save_model(BertForMaskedLM(BertConfig(**SIZES)), TOKENIZER, world / "base")
    save_model(MarianMTModel(MarianConfig(**PAIRED)), TOKENIZER, world / "writer")
    tune(load_task(world / "study.yaml"), world / "study")
    task = load_task(world / "colours.yaml")
    train(task, world / "run", progress=False)
    train(load_task(world / "colours.yaml", ["training.seed=1"]), world / "other", progress=False)
    train(load_task(world / "tags.yaml"), world / "tagged", progress=False)
    with _stopped_before(6):
        train(task, world / "begun", progress=False)


def copy_world(world: Path, to: Path) -> None:
    """Copy it; runs name the copy's files then."""
    shutil.copytree(world, to)
    for run in _NAMING:
        path = to / run / "task.yaml"
        text = path.read_text(encoding="utf-8").replace(str(world), str(to))
        path.write_text(text, encoding="utf-8")


class _stopped_before:
    """Runs end as if the process had died when a step begins; the last checkpoint is older."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __enter__(self) -> None:
        def on_step_begin(_, args, state, control, **__):
            if state.global_step == self.step:
                raise KeyboardInterrupt

        LogFile.on_step_begin = on_step_begin

    def __exit__(self, kind, *_) -> bool:
        del LogFile.on_step_begin
        return kind is KeyboardInterrupt


def _write_rows(world: Path) -> None:
    rows = [{"text": " ".join(words), "label": colour} for words, colour in sentences()]
    tags = [
        {"tokens": words, "tags": ["B-colour" if word in COLOURS else "O" for word in words]}
        for words, _ in sentences()
    ]
    for name, found in (("rows", rows), ("tags", tags)):
        lines = "".join(json.dumps(one) + "\n" for one in found)
        (world / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _write_task(path: Path, kind: str, rows: str, **parts) -> None:
    task = {
        "task": kind, "data": {"path": rows, "split": SPLIT, "duplicates": "first"},
        "tokenizer": {"size": 80}, "model": MODEL, "training": TRAINING, **parts,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
