import json
import re
from functools import partial

import pytest

import regard as rg
from regard.catalogue.find_program import load_program
from regard.cli.show import show
from tests.cli.alone import run_alone

PROGRAMS = """
import helper
import regard as rg

WIDTH = 64

def dots(pair):
    return helper.scaled(rg.dot(pair.q, pair.k), pair)

@rg.program(contracts=("causal",))
def local(pair):
    "Reads nearby."
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    return rg.softmax(dots(pair) - slope * abs(pair.i - pair.j), where=pair.j <= pair.i)

@rg.program
def rich(pair):
    table = rg.table("table", per=("head", "rows"))
    score = dots(pair) * rg.scalar("heat") + table[rg.query_feature("kind")]
    score = score + rg.pair_input("dense") + rg.dot(rg.query_vector("q2"), rg.key_vector("k2"))
    w = rg.parameter("w", per="channel", init=rg.init.normal(0.02))
    score = score + rg.dot(w, pair.k) + rg.scalar("cold", 0.5)
    return rg.softmax(score, where=rg.key_feature("real"))
"""
HELPER = """
import regard as rg

def scaled(score, pair):
    return score / rg.sqrt(pair.width)
"""
FILES = {"helper.py": HELPER, "mine.py": PROGRAMS}
SHOWN = """\
local
  score_ij = q_i·k_j / √D − slope[h] |i − j|
  w_ij     = softmax_j(score_ij | j ≤ i)
  out_i    = Σ_j w_ij v_j

Reads nearby.

contracts: causal

reads, beside q, k and v:
  slope  parameter  (H,) per='head'  starts as alibi

runs on: """

run = partial(run_alone, show)


def test_program_of_a_file_is_shown(file):
    done = run(f"{file}:local")
    assert done.exit_code == 0
    assert done.stdout.startswith(SHOWN)
    assert "sizes: B 1, H 8, G 8, N 512, M 512, D 64, E 64" in done.stdout


def test_sizes_may_be_chosen(file):
    done = run(f"{file}:local", "--queries", 7, "--keys", 9, "--heads", 2)
    assert "sizes: B 1, H 2, G 2, N 7, M 9, D 64, E 64" in done.stdout


def test_all_kinds_of_inputs_are_described(file):
    shown = run(f"{file}:rich").stdout
    lines = {line.split()[0]: " ".join(line.split()) for line in shown.splitlines() if line.strip()}
    assert lines["table"] == "table table (H, any) per=('head', 'rows')"
    assert lines["kind"] == "kind query feature broadcasts to (B, H, N)"
    assert lines["real"] == "real key feature broadcasts to (B, G or H, M)"
    assert lines["heat"] == "heat run-time scalar () must be given"
    assert lines["cold"] == "cold run-time scalar () 0.5 unless given"
    assert lines["dense"] == "dense pair input (B or 1, H or 1, N, M)"
    assert lines["q2"] == "q2 query vector (B, H, N, any width)"
    assert lines["k2"] == "k2 key vector (B, G, M, any width)"
    assert lines["w"] == "w parameter (channels,) per='channel' starts as normal(0.02)"


def test_json_file_is_shown_and_runs_nothing(file, tmp_path):
    rg.save(load_program(f"{file}:local"), tmp_path / "local.json")
    assert run(tmp_path / "local.json").stdout.startswith(SHOWN)


def test_latex_stands_alone(file):
    assert (
        run(f"{file}:local", "--latex").stdout
        == load_program(f"{file}:local").formula("latex") + "\n"
    )


def test_json_holds_all_of_it(file):
    program = load_program(f"{file}:local")
    found = json.loads(run(f"{file}:local", "--json").stdout)
    assert found["name"] == "local" and found["contracts"] == ["causal"]
    assert found["hash"] == program.hash and found["formula"] == program.formula()
    assert found["inputs"] == [
        {
            "name": "slope",
            "kind": "parameter",
            "shape": "(H,) per='head'",
            "start": "starts as alibi",
        }
    ]
    assert found["explanation"]["sizes"]["N"] == 512
    assert rg.AttentionProgram.from_json(json.dumps(found["program"])) == program


def test_code_stands_alone_and_says_what_it_is(file):
    shown = run(f"{file}:local", "--code", "cpu").stdout
    assert shown.startswith(
        "// The sweep 'forward' of\n"
        "//     score_ij = q_i·k_j / √D − slope[h] |i − j|\n"
        "//     w_ij     = softmax_j(score_ij | j ≤ i)\n"
        "//     out_i    = Σ_j w_ij v_j\n"
    )
    for line in ("q_i, query row", "slope[h], number of a head", "v_j, key row"):
        assert re.search(rf"^//   \d: {re.escape(line)}$", shown, re.MULTILINE)
    assert '#include "forward.h"' in shown and shown.endswith("}\n")
    assert "struct Program {" in shown and "The sweep 'backward'" not in shown


def test_code_of_the_gradient_is_shown_as_well(file):
    shown = run(f"{file}:local", "--code", "cpu", "--backward").stdout
    assert shown.startswith("// The sweep 'backward' of\n")
    assert "the largest exponent of term a, number of a query" in shown
    assert '#include "backward.h"' in shown and "The sweep 'forward'" not in shown


def test_code_of_two_sweeps_is_two_files(tmp_path):
    path = tmp_path / "clipped.py"
    path.write_text(
        "import regard as rg\n"
        "@rg.program\n"
        "def clipped(pair):\n"
        "    weights = rg.softmax(rg.dot(pair.q, pair.k))\n"
        "    return rg.map(lambda w: rg.relu(w - 0.01), weights)\n",
        encoding="utf-8",
    )
    shown = run(path, "--code", "cpu").stdout
    assert re.findall(r"^// The sweep '(\w+)' of", shown, re.MULTILINE) == ["sums", "spread"]
    assert shown.count("regard_run(") == 2


def test_code_takes_no_compiler(file, monkeypatch):
    monkeypatch.setattr("regard.backends.cpu.kernel.find_compiler", lambda: "there is no compiler")
    monkeypatch.setattr("regard.backends.cpu.module.find_compiler", lambda: "there is no compiler")
    for more in ([], ["--backward"]):
        assert "struct Program" in run(f"{file}:rich", "--code", "cpu", *more).stdout


def test_inputs_are_read_as_the_program_uses_them(file):
    shown = run(f"{file}:rich", "--code", "cpu").stdout
    assert "table[h, kind_i], number of a query" in shown
    assert re.search(r"real_j, number of a key", shown) and "t.whole_key(0, j)" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--code", "gpu"], "no backend 'gpu' writes code; did you mean 'cpu'? known: cpu, triton"),
        (["--code", "tiled"], "no backend 'tiled' writes code; known: cpu, triton"),
        (["--backward"], "--backward shows the gradient's code; give --code as well"),
    ],
)
def test_code_that_nobody_writes_is_an_error(file, arguments, message):
    with pytest.raises(rg.InputError, match=re.escape(message)):
        run(f"{file}:local", *arguments)


def test_picture_is_written_and_named_apart_from_the_output(file, tmp_path):
    out = tmp_path / "local.png"
    done = run(f"{file}:local", "--out", out, "--queries", 4, "--heads", 2, "--latex")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert done.stderr == f"picture: {out}\n" and "picture" not in done.stdout


def test_only_program_of_a_file_needs_no_name(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("import regard as rg\none = rg.program(lambda pair: rg.softmax(pair.i))\n")
    assert load_program(str(path)).formula().endswith("out_i = Σ_j w_ij v_j")


def test_help_says_that_a_file_is_run():
    shown = " ".join(run("--help").stdout.replace("│", " ").split())
    assert "file.py:name (runs that Python file) or a .json file that rg.save wrote" in shown


def test_variant_is_shown_with_its_source_and_when_to_use_it():
    one = rg.catalogue.scaled_dot_product
    shown = run("scaled_dot_product").stdout
    assert shown.startswith(
        "Scaled dot product, Vaswani et al. 2017\nhttps://arxiv.org/abs/1706.03762\n\n"
        "scaled_dot_product\n  w_ij  = softmax_j(q_i·k_j / √D)\n"
    )
    assert one.use in " ".join(shown.split())
    assert f"contracts: {', '.join(one.contracts)}" in shown


def test_knobs_of_a_variant_are_shown_and_set(tmp_path):
    shown = run("sliding_window(window=8)", "--out", tmp_path / "window.png").stdout
    assert "knob window = 8, published as 4096\n" in shown
    assert "contracts as published: causal" in shown
    assert "i − j < 8" in shown
    assert (tmp_path / "window.png").read_bytes().startswith(b"\x89PNG")
    assert "knob window = 4096\n" in run("sliding_window").stdout


def test_json_of_a_variant_says_what_it_is():
    found = json.loads(run("sliding_window(window=8)", "--json").stdout)
    assert found["name"] == "sliding_window"
    assert found["variant"]["family"] == "mask" and found["variant"]["set"] == {"window": 8}
    assert found["variant"]["link"].startswith("https://")


def test_command_is_registered():
    from regard.cli.main import app

    assert "show" in [command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("{folder}/none.py:local", rg.FileError, "none.py: no such file"),
        ("{folder}/none.json", rg.FileError, "none.json: no such file"),
        ("{file}:locl", rg.InputError, "mine.py defines no 'locl'; did you mean 'local'"),
        (
            "{file}:dots",
            rg.InputError,
            "'dots' in .*mine.py is of type function, which is no program",
        ),
        ("{file}:WIDTH", rg.InputError, "'WIDTH' in .*mine.py is of type int, which is no program"),
        ("{file}", rg.InputError, "mine.py defines 2 programs; name one as .*mine.py:local"),
        ("{folder}/helper.py:scaled", rg.InputError, "helper.py defines no program"),
        (
            "some/alibi",
            rg.InputError,
            "'some/alibi' names no program; give the name of a variant .*, file.py:name, or",
        ),
    ],
)
def test_reference_that_leads_nowhere_is_an_error(file, reference, error, message):
    with pytest.raises(error, match=message):
        load_program(reference.format(file=file, folder=file.parent))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x = 1\ny = x / 0\n", rg.FileError, "own.py:2: ZeroDivisionError: division by zero"),
        ("def f(:\n", rg.FileError, "own.py:1: SyntaxError"),
        ("import no_such_module\n", rg.FileError, "own.py:1: ModuleNotFoundError: No module"),
        ("raise SystemExit(3)\n", rg.FileError, "own.py:1: SystemExit: 3"),
        (
            "import regard as rg\n@rg.program\ndef f(pair):\n    return rg.softmax(pair.quere)\n",
            rg.ProgramError,
            "'quere' is not something a program can read",
        ),
    ],
    ids=["fails", "syntax", "import", "exit", "tracing"],
)
def test_file_that_does_not_run_is_an_error_with_its_line(tmp_path, text, error, message):
    (tmp_path / "own.py").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        load_program(f"{tmp_path / 'own.py'}:f")


def test_running_a_file_leaves_the_path_as_it_was(file):
    import sys

    before = list(sys.path)
    load_program(f"{file}:local")
    assert sys.path == before
