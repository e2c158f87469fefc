import json
from functools import partial

import pytest

from regard.cli.check import check_program
from regard.errors import InputError, ProgramError
from tests.cli.alone import run_alone

PROGRAMS = """
import regard as rg

@rg.program(contracts=["causal"])
def kept(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j <= pair.i)

@rg.program(contracts=["causal"])
def unknown(pair):
    far = pair.i - pair.j
    return rg.softmax(rg.dot(pair.q, pair.k), where=(far >= 0) | (far * far == -1))
"""
FILES = {"mine.py": PROGRAMS}
BROKEN = """
import regard as rg

@rg.program(contracts=["causal"])
def broken(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j <= pair.i + 1)
"""

run = partial(run_alone, check_program)


def test_every_contract_is_answered(file):
    done = run(f"{file}:kept")
    lines = [line for line in done.stdout.splitlines() if line[:1] in "✓✗?"]
    assert done.exit_code == 0
    assert lines == [
        "✓ causal: proved  (declared)",
        "✗ window <= 4096: refuted",
        "✓ padding-blind: proved",
        "✗ bounded <= 1000000: refuted",
        "✓ batch-independent: proved",
        "✓ head-independent: proved",
        "✓ shift-invariant: proved",
        "✗ permutation-equivariant: refuted",
        "✓ never empty: proved",
    ]


def test_what_is_asked_for_and_broken_ends_with_code_1(file):
    asked = run(f"{file}:kept", "--contract", "window <= 8", "--contract", "causal")
    assert asked.exit_code == 1
    assert "✗ window <= 8: refuted" in asked.stdout and "X" in asked.stdout
    assert run(f"{file}:kept", "--contract", "causal").exit_code == 0


def test_declared_contract_that_is_unknown_ends_with_code_1(file):
    done = run(f"{file}:unknown")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1] == "? causal: unknown  (declared)"


def test_answers_as_json(file):
    done = run(f"{file}:kept", "--json", "--contract", "window")
    (answer,) = json.loads(done.stdout)["answers"]
    assert answer["status"] == "refuted" and answer["contract"] == "window <= 4096"
    far = answer["counterexample"]
    assert far["query"] - far["key"] > 4096


def test_broken_pair_is_drawn(file, tmp_path):
    picture = tmp_path / "broken.png"
    done = run(f"{file}:kept", "--contract", "permutation-equivariant", "--out", picture)
    assert f"picture: {picture} (permutation-equivariant)" in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_nothing_broken_is_nothing_to_draw(file, tmp_path):
    with pytest.raises(InputError, match="no contract is refuted: there is no pair to draw"):
        run(f"{file}:kept", "--contract", "causal", "--out", tmp_path / "none.png")


def test_file_with_a_broken_declaration_is_refused(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(BROKEN, encoding="utf-8")
    with pytest.raises(ProgramError, match="broken declares 'causal' and breaks it"):
        run(path)
