"""What benchmarks/catalogue.py calls and keeps; how long anything takes is not looked at."""

import importlib
import json
import sys
from pathlib import Path

import pytest

import regard as rg
from regard.catalogue import VARIANTS

ROOT = Path(__file__).parents[2]
NAMES = {"catalogue", "_measure", "scenes"}


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, imported as a module, at a small size, in a folder of its own."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    found = importlib.import_module("catalogue")
    # The script has put the folder of scenes there by itself.
    sys.path.remove(str(ROOT / "scripts"))
    for name, value in {"ROWS": 32, "HEADS": 2, "WIDTH": 16, "ROUNDS": 2}.items():
        monkeypatch.setattr(found, name, value)
    monkeypatch.setattr(found, "RESULTS", tmp_path / "catalogue.json")
    yield found
    for name in NAMES - before:
        sys.modules.pop(name, None)


def tiled(script, monkeypatch):
    """Let everything run in tiles, which no compiler has to build."""
    monkeypatch.setattr(script.Call, "backends", lambda self: (["tiled"], {}))
    runs = script.Call.runs
    monkeypatch.setattr(script.Call, "runs", lambda self, backend: runs(self, "tiled"))


FEW = ["alibi", "shaw", "forgetting", "value_residual", "neighbourhood_2d", "gatv2"]


@pytest.mark.parametrize("name", [name for name in FEW if name in VARIANTS])
def test_variant_is_called_with_all_that_it_reads(script, name):
    call = script.Call(VARIANTS[name])
    read = {leaf.name for leaf in call.program.inputs}
    assert set(call.inputs) == read | {"q", "k", "v"}
    assert {leaf.name for leaf in call.program.parameters} <= set(call.learned)


def test_every_measured_gradient_is_wanted(script):
    call = script.Call(VARIANTS["alibi"])
    gradients = call.both("reference")
    assert set(call.learned) == {"q", "k", "v", "slope"}
    assert all(grad is not None and grad.any() for grad in gradients)


def test_refusal_of_the_cpu_backend_is_kept_with_its_reason(script):
    backends, refused = script.Call(VARIANTS["stick_breaking"]).backends()
    assert backends == ["tiled"] and "running sum" in refused["cpu"]


def test_rows_hold_ratios_and_are_kept(script, monkeypatch):
    tiled(script, monkeypatch)
    rows = script.measure([script.Call(VARIANTS["alibi"]), script.Call(VARIANTS[script.PLAIN])])
    assert list(rows) == ["alibi", script.PLAIN]
    times = rows["alibi"]["times"]["tiled"]
    assert times["rounds"] == 2 and all(times[part] > 0 for part in script.PARTS)
    script.write(rows)
    assert script.read() == rows
    assert list(json.loads(script.RESULTS.read_text())["rows"]) == [script.PLAIN, "alibi"]
    assert [path.name for path in script.RESULTS.parent.iterdir()] == ["catalogue.json"]


def test_what_is_measured_is_not_measured_again_unless_it_changed(script):
    wanted = [VARIANTS["alibi"], VARIANTS["causal"]]
    row = {"hash": VARIANTS["alibi"].program.hash}
    assert list(script.left_of(wanted, {"alibi": row})) == [VARIANTS["causal"]]
    assert list(script.left_of(wanted, {"alibi": {"hash": "another"}})) == wanted


def test_figures_of_another_machine_are_not_gone_on_from(script):
    script.write({"alibi": {"hash": "x"}})
    assert set(script.read()) == {"alibi"} and script.read(again=True) == {}
    kept = json.loads(script.RESULTS.read_text())
    kept["machine"]["cpu"] = "another"
    script.RESULTS.write_text(json.dumps(kept))
    assert script.read() == {}


def test_interrupted_measurement_keeps_what_is_done(script, monkeypatch):
    tiled(script, monkeypatch)
    groups = []

    def measure(calls):
        if groups:
            raise KeyboardInterrupt
        groups.append(calls)
        row = {"times": {}, "refused": {}, "knobs": {}}
        return {one.variant.name: {**row, "hash": one.program.hash} for one in calls}

    monkeypatch.setattr(script, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["catalogue.py"])
    with pytest.raises(SystemExit, match=f"stopped; 4 of {len(VARIANTS)} are kept"):
        script.main()
    assert list(script.read()) == list(VARIANTS)[:4]


def test_building_runs_everything_once(script, monkeypatch, capsys):
    tiled(script, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["catalogue.py", "--build", "alibi", "causal"])
    script.main()
    assert capsys.readouterr().out == "1 of 2: alibi on tiled\n2 of 2: causal on tiled\n"
    assert not script.RESULTS.exists()


def test_unknown_variant_is_an_error(script, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["catalogue.py", "alibbi"])
    with pytest.raises(rg.InputError, match="no 'alibbi'; did you mean 'alibi'"):
        script.main()
