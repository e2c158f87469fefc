import json
from functools import partial

import pytest

from regard.cli.check import check_program_or_model, names_model
from regard.errors import InputError, ProgramError
from regard.hf.check.tiny import tiny_model
from tests.cli.alone import run_alone
from tests.hf.check.planted import RIGHT, registered

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

run = partial(run_alone, check_program_or_model)


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


def test_a_model_type_is_checked_with_the_attention_named():
    done = run("mistral", "--attn", "sdpa", "--only", "window edges", "--only", "left padding")
    assert done.exit_code == 0
    first, *rows, last = done.stdout.splitlines()
    assert first == "MistralForCausalLM, attention 'sdpa'"
    assert [row[:15].rstrip() for row in rows] == ["✓ left padding", "✓ window edges"]
    assert last.startswith("2 passed, 0 failed, 0 not applicable")


def test_a_model_that_fails_a_check_ends_with_code_1():
    with registered(RIGHT, None) as name:
        done = run("LlamaForCausalLM", "--attn", name, "--only", "causality", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["model"] == "LlamaForCausalLM" and not told["passed"]
    assert [row["verdict"] for row in told["rows"]] == ["failed"]


def test_a_folder_is_a_model(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path)
    done = run(tmp_path, "--attn", "eager", "--only", "both directions")
    assert done.exit_code == 0 and done.stdout.startswith("BertForMaskedLM, attention 'eager'")


def test_a_name_of_the_catalogue_comes_before_a_model_of_that_name(tmp_path, monkeypatch):
    assert not names_model("mamba") and names_model("MambaForCausalLM")
    for name in ("alibi", "gpt2.pytorch"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert not names_model("alibi") and names_model("./alibi") and names_model("gpt2.pytorch")


def test_a_name_that_nobody_knows_gets_the_nearest_of_both():
    with pytest.raises(InputError, match="the catalogue has no 'lama'") as caught:
        run("lama")
    assert "transformers has no model 'lama'; did you mean 'llama'?" in str(caught.value)
    with pytest.raises(InputError, match="'no/such' is no file of programs and no folder"):
        run("no/such")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mistral", "--contract", "causal"), "'mistral' is a model, which --contract is not for"),
        (("mistral", "--out", "a.png"), "'mistral' is a model, which --out is not for"),
        (("alibi", "--attn", "sdpa"), "'alibi' is a program, which --attn is not for"),
        (("alibi", "--only", "causality"), "'alibi' is a program, which --only is not for"),
    ],
)
def test_options_of_the_other_kind_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        run(*arguments)
