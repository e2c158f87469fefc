"""Planted tasks, whose right family gates must find, and end better than plain attention alone."""

import pytest
import yaml

import regard as rg
from regard.customise import learn_gates
from regard.data.planted import find_planted
from regard.modes import Mode
from regard.search import is_of_family
from regard.tasks import load_task
from regard.train import train

PLAIN = rg.catalogue.scaled_dot_product.program
ENCODER = {
    "plain": Mode("plain", encoder=PLAIN),
    "near": rg.modes.find("local")("encoder", window=2),
    "broad": rg.modes.find("broad")("encoder"),
    "focused": rg.modes.find("focused")("encoder"),
}


def seen(name, where):
    """A program that sees itself and what is told."""

    def line(pair):
        score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
        return rg.softmax(score, where=where(pair) | (pair.i == pair.j))

    line.__name__ = name
    return rg.program(line)


DISTANCES = {
    "plain": PLAIN,
    "one back": seen("one_back", lambda pair: pair.i - pair.j == 1),
    "eight back": seen("eight_back", lambda pair: pair.i - pair.j == 8),
    "first": seen("first", lambda pair: pair.j == 0),
}


def make(folder, name, **training):
    find_planted(name).write(folder / "rows.jsonl", 1500)
    task = {
        "task": "tagging",
        "data": {"path": "rows.jsonl", "split": {"valid": 200, "test": 50, "stratify": False}},
        "tokenizer": {"size": 300},
        "model": {
            "width": 32, "layers": 1, "heads": 4, "ffn": 64, "dropout": 0.0, "positions": 64,
        },
        "training": {
            "warmup": 20, "label_smoothing": 0.0, "save_every": 1000, "eval_every": 0,
            "threads": 1, **training,
        },
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(task), encoding="utf-8")
    return load_task(path)


def accuracy(task, folder):
    run = train(task, folder, progress=False, test=False)
    return run.metrics["valid"]["scores"]["tag accuracy"]


@pytest.mark.slow
def test_a_window_wins_every_head_where_neighbours_decide(tmp_path):
    task = make(tmp_path, "majority", steps=150, lr=0.003)
    found = learn_gates(task, ENCODER, tmp_path / "run", progress=False)
    (one,) = found.mode().assignments
    assert one.program == ENCODER["near"].assignments[0].program and one.heads is None
    planted = find_planted("majority")
    assert is_of_family(found.mode(), planted.role, planted.family)
    assert found.before == found.after
    assert found.final["tag accuracy"] > 0.99 > accuracy(task, tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_heads_share_out_what_is_needed_at_once(tmp_path, seed):
    task = make(tmp_path, "ranges", steps=200, lr=0.005, seed=seed)
    found = learn_gates(task, DISTANCES, tmp_path / "run", progress=False)
    chosen = {one.program for one in found.mode().assignments}
    assert chosen >= set(DISTANCES.values()) - {PLAIN}
    planted = find_planted("ranges")
    assert is_of_family(found.mode(), planted.role, planted.family)
    assert found.before == found.after
    plain = accuracy(task, tmp_path / "plain")
    assert found.final["tag accuracy"] > 0.99 > 0.6 > plain
