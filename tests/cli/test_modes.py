import json
from functools import partial

import pytest

import regard as rg
from regard.cli.modes import list_modes
from regard.cli.suggest import suggest_modes
from regard.modes import READY, load_mode
from tests.cli.alone import run_alone

run = partial(run_alone, list_modes)


def test_all_modes_are_listed_with_their_intents():
    shown = run().stdout
    assert all(f"{one.name}  (" in shown for one in READY.values())
    assert max(map(len, shown.splitlines())) <= 100


def test_one_mode_is_explained():
    shown = run("hierarchical", "--quick").stdout
    assert "knob nearest_range = 4" in shown and "softmax_j" in shown
    assert "causal" in shown and "pairs visited" in shown


def test_modes_are_compared():
    arguments = ("local", "broad", "--quick", "--json", "--backend", "cpu")
    told = json.loads(run(*arguments).stdout)
    share = {one["name"]: one["programs"]["encoder"]["visited"] for one in told}
    assert share["local"] < 0.3 and share["broad"] == 1.0


def test_modes_are_drawn_and_saved(tmp_path):
    run("local", "--quick", "--out", str(tmp_path / "a.png"), "--save", str(tmp_path / "m.json"))
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert load_mode(tmp_path / "m.json").hash == READY["local"]().hash


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("locl",), "no ready mode 'locl'"),
        (("local", "broad", "--save", "x.json"), "--save writes one mode"),
    ],
)
def test_wrong_use_is_said(arguments, said):
    with pytest.raises(rg.InputError, match=said):
        run(*arguments)


def test_suggestions_are_printed_with_reasons():
    found = run_alone(suggest_modes, "long", "contracts")
    assert found.exit_code == 0 and found.stdout.startswith("1. anchored")
    told = json.loads(run_alone(suggest_modes, "long contracts", "--json").stdout)
    assert told[0]["name"] == "anchored" and told[0]["reasons"]


def test_nothing_known_ends_with_one():
    found = run_alone(suggest_modes, "qwertz")
    assert found.exit_code == 1 and "regard modes" in found.output
