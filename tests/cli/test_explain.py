import json

import pytest
import typer
from typer.testing import CliRunner

from regard.cli import explain as command
from regard.errors import InputError

PROGRAM = """
import regard as rg

@rg.program
def local(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=(pair.j <= pair.i) & (pair.i - pair.j < 64))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return f"{path}:local"


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The dtypes for which the machine was to be measured; it is not."""
    found = []
    monkeypatch.setattr(command, "measure_machine", lambda dtype, say: found.append(str(dtype)))
    return found


def run(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command.explain_program)
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_call_is_explained_at_the_sizes_asked_for(file, asked):
    found = run(file, "--queries", 512, "--heads", 4, "--groups", 2, "--batch", 3, "--width", 16)
    assert found.exit_code == 0
    assert "sizes: B 3, H 4, G 2, N 512, M 512, D 16, E 16" in found.stdout
    assert "work: " in found.stdout
    assert asked == ["torch.float32"]


def test_explanation_is_json_as_well(file, asked):
    found = run(file, "--json", "--quick", "--backend", "tiled", "--dtype", "bfloat16", "--keys", 9)
    told = json.loads(found.stdout)
    assert (told["backend"], told["sizes"]["M"], told["measured_ms"]) == ("tiled", 9, None)
    assert asked == []


def test_call_is_run_where_its_time_is_asked_for(file):
    told = json.loads(run(file, "--json", "--quick", "--measure", "--queries", 64).stdout)
    assert told["measured_ms"] > 0


def test_gradients_cost_more(file):
    costs = [
        json.loads(run(file, "--json", "--quick", "--backend", "tiled", *more).stdout)["work"]
        for more in ((), ("--training",))
    ]
    assert costs[1]["products"] > 2 * costs[0]["products"]


def test_unknown_dtype_is_refused_with_the_nearest(file):
    found = run(file, "--dtype", "bfloat")
    assert isinstance(found.exception, InputError)
    assert str(found.exception).startswith(
        "there is no dtype 'bfloat' here; did you mean 'bfloat16'"
    )
