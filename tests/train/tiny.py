"""A toy language, word by word, and tasks small enough to be learned in a second."""

import itertools
from pathlib import Path

import torch
import yaml
from torch import Tensor

from regard.tasks import Task, load_task
from regard.train.folder import RunFolder

WORDS = {
    "one": "un",
    "two": "deux",
    "three": "trois",
    "green": "vert",
    "blue": "bleu",
    "sun": "soleil",
}
PROGRAMS = """
import regard as rg

@rg.program
def relative(pair):
    bias = rg.parameter("bias", per=("head", 9))
    return rg.softmax(rg.dot(pair.q, pair.k) + bias[rg.clip(pair.j - pair.i, -4, 4) + 4])

half = 0.5
"""


def write_pairs(path: Path) -> Path:
    """Write all triples of different words and their translations, 120 pairs."""
    triples = itertools.permutations(WORDS, 3)
    lines = [f"{' '.join(t)}\t{' '.join(WORDS[word] for word in t)}\n" for t in triples]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write_task(folder: Path, **changes) -> Path:
    """Write a task file and its data; `training=dict(steps=3)` changes some settings of a part."""
    write_pairs(folder / "pairs.tsv")
    parts = {
        "task": "translation",
        "data": {"path": "pairs.tsv", "test_pairs": 10, "valid_pairs": 6},
        "tokenizer": {"size": 60},
        "model": {"width": 16, "layers": 1, "heads": 2, "ffn": 16, "dropout": 0.2, "positions": 32},
        "training": {
            "steps": 12, "batch_tokens": 100, "lr": 0.01, "warmup": 3,
            "save_every": 4, "eval_every": 6, "threads": 1,
        },
    }  # fmt: skip
    for part, value in changes.items():
        parts[part] = (
            {**parts[part], **value} if isinstance(value, dict) and part in parts else value
        )
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(parts), encoding="utf-8")
    return path


def make_task(folder: Path, **changes) -> Task:
    return load_task(write_task(folder, **changes))


def weights_of(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(RunFolder(folder).model / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
