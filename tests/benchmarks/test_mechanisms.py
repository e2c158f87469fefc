"""What benchmarks/mechanisms.py makes of its runs; the training itself is tests/examples'."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    """The script, imported as a module."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        found = importlib.import_module("mechanisms")
        # The script has put the example's folder there by itself.
        sys.path.remove(str(found.EXAMPLE))
        yield found
        for name in {"mechanisms", "_measure", "translator", "programs"} - before:
            patch.delitem(sys.modules, name, raising=False)


def record(script, mechanism, rate, seed, dev, test, chrf=30.0):
    run = script.Run(mechanism, rate, seed, 600, "cpu")
    scores = {"dev perplexity": dev, "test perplexity": test, "chrF": chrf, "BLEU": 8.0}
    return {**run._asdict(), **scores, "ran on": "cpu", "ms a step": 30.0, "seconds": 20.0}


def records(script):
    """Runs of all mechanisms: mean attention at perplexity e³, plain at e², the others at e^2.3."""
    nats = dict.fromkeys(script.translator.MECHANISMS, 2.3) | {"uniform": 3.0, "plain": 2.0}
    return [
        record(script, name, rate, seed, math.exp(wanted) + worse, math.exp(wanted) + worse)
        for name, wanted in nats.items()
        for rate, seed, worse in ((0.01, 0, 0.0), (0.01, 1, 0.0), (0.005, 0, 1.0))
    ]


def test_rate_is_chosen_on_the_dev_part_of_the_first_seed_alone(script):
    runs = [
        record(script, "plain", 0.005, 0, dev=12.0, test=15.0),
        record(script, "plain", 0.010, 0, dev=13.0, test=11.0),
        record(script, "plain", 0.010, 1, dev=10.0, test=11.0),
    ]
    assert script.best_rate(runs) == 0.005


def test_table_takes_the_runs_of_the_chosen_rate(script):
    rows = {row["mechanism"]: row for row in script.table(records(script))}
    assert list(rows) == list(script.translator.MECHANISMS)
    assert {row["rate"] for row in rows.values()} == {"0.01"}
    assert {row["seeds"] for row in rows.values()} == {2}
    assert rows["linear"]["perplexity"] == pytest.approx(math.exp(2.3))


def test_gain_is_a_share_of_plains_and_held_to_the_bar(script):
    rows = {row["mechanism"]: row for row in script.table(records(script))}
    gains = {name: row["of plain's gain"] for name, row in rows.items()}
    assert gains["plain"] == pytest.approx(1.0)
    assert gains["uniform"] == pytest.approx(0.0)
    assert gains["linear"] == pytest.approx(0.7)
    assert [rows[name][""] for name in ("plain", "linear", "uniform")] == [
        "reached", "not reached", "",
    ]  # fmt: skip


def test_runs_that_are_done_are_not_made_again(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "RESULTS", tmp_path / "runs.json")
    assert script._read() == {}
    done = {script._run_of(one): one for one in records(script)}
    script._write(done)
    assert script._read() == done
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]
    # With no worker to be had, a run that is left would fail.
    script.complete(list(done), done, workers=0)
    with pytest.raises(ValueError, match="at least 1"):
        script.complete([script.Run("plain", 0.5, 0, 600, "cpu")], done, workers=0)


def test_kept_figures_are_of_this_script(script):
    text = json.loads((ROOT / "benchmarks" / "mechanisms.json").read_text(encoding="utf-8"))
    assert [row["mechanism"] for row in text["rows"]] == list(script.translator.MECHANISMS)
    kept = {script._run_of(one): one for one in text["runs"]}
    assert {run.steps for run in kept} == {script.STEPS}
    assert script.table(list(kept.values())) == text["rows"]
    page = (ROOT / "docs" / "mechanisms.md").read_text(encoding="utf-8")
    assert script.markdown(text["rows"]) in page
