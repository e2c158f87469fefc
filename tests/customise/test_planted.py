"""The search on tasks whose right attention is known: it finds the family, and reaches the ceiling
that plain attention of the same size and steps does not."""

import pytest
import yaml

from regard.customise import Options, customise
from regard.customise.candidate import PLAIN
from regard.data.planted import PLANTED
from regard.search import is_of_family
from regard.tasks import load_task

SHAPE = {"width": 32, "layers": 1, "heads": 4, "ffn": 64, "dropout": 0.0, "positions": 128}
# Steps of a whole run, and candidates.
CASES = {"majority": (200, 24), "ranges": (300, 12)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_right_family_is_found_and_reaches_what_plain_attention_does_not(tmp_path, name):
    planted, (steps, trials) = PLANTED[name], CASES[name]
    planted.write(tmp_path / "rows.jsonl", 2400, seed=0)
    split = {"valid": 200, "test": 200, "stratify": False}
    parts = {
        "task": planted.kind.name,
        "data": {"train": "rows.jsonl", "split": split},
        "model": SHAPE,
        "training": {
            "steps": steps, "batch_tokens": 2000, "lr": 3e-3, "warmup": 20,
            "label_smoothing": 0.0, "threads": 1,
        },
    }  # fmt: skip
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(parts), encoding="utf-8")
    task = load_task(tmp_path / "task.yaml")
    options = Options(trials=trials, metric="tag accuracy", seed=0)
    result = customise(task, tmp_path / "study", options)
    assert result.mode is not None
    assert is_of_family(result.mode, planted.role, planted.family)
    assert result.value(result.best) > 0.98
    assert result.value(PLAIN) < 0.8
