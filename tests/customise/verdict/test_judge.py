"""A verdict from its task to its sentences: the same rows for every seed, kills, refusals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from regard.customise.verdict import judge_modes, read_verdict
from regard.customise.verdict.contenders import find_contenders
from regard.customise.verdict.plan import Terms, VerdictFolder
from regard.errors import FileError, InputError, TaskError
from regard.modes import READY, Assignment, Mode, save_mode
from regard.search.space import Layers, Space
from regard.tasks import load_task
from regard.train import run as runs
from regard.train.folder import RunFolder
from regard.train.record import LogFile
from tests.train.tiny import assert_same_weights, make_task, weights_of, write_task

ROOT = Path(__file__).parents[3]
SPACE = Space({"encoder": Layers(1, 2), "decoder": Layers(1, 2), "cross": Layers(1, 2)})
SHORT = {"steps": 4, "save_every": 2, "eval_every": 0}


def make(folder, **changes):
    training = {**SHORT, **changes.pop("training", {})}
    return make_task(folder, training=training, **{"data": {"test_pairs": 20}, **changes})


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A verdict on one mode, what it said, and the rows that each of its trainings was given."""
    folder, said, given = tmp_path_factory.mktemp("judged"), [], []
    with pytest.MonkeyPatch.context() as patch:
        load = runs.load_task_data

        def watched(plan):
            corpus = load(plan)
            given.append(corpus.splits)
            return corpus

        patch.setattr(runs, "load_task_data", watched)
        task = make(folder)
        verdict = judge_modes(
            task, ["local"], folder / "v", terms=Terms(seeds=2), progress=False, say=said.append
        )
    return VerdictFolder(folder / "v"), verdict, said, given


def texts_of(rows):
    return [(row.values, row.line) for row in rows]


def test_every_training_has_the_same_rows_and_its_own_seed(judged):
    folder, verdict, _, given = judged
    # One reading for the plan, and one for each training.
    first, *others = given
    assert len(others) == 4 and [len(one) for one in first] == [94, 6, 20]
    for splits in others:
        for one, other in zip(first, splits, strict=True):
            assert texts_of(one) == texts_of(other)
    tasks = {
        (one.name, seed): load_task(folder.run(one, seed).task)
        for one in verdict.plan.contenders
        for seed in verdict.plan.seeds
    }
    # The task's own seed, 0, by which a search may have chosen, is none of them.
    assert verdict.plan.seeds == (1, 2)
    for (_, seed), task in tasks.items():
        assert (task.training.seed, task.training.order_seed) == (seed, None)
        assert task.data == load_task(folder.task).data
    assert tasks["plain", 1].mode is None and tasks["local", 1].mode.endswith("mode.json")


def test_seeds_train_other_weights(judged):
    folder, verdict, _, _ = judged
    plain = verdict.plan.contenders[0]
    one, other = (weights_of(folder.run(plain, seed).path) for seed in (1, 2))
    queries = [name for name in one if name.endswith("q_proj.weight")]
    assert len(queries) == 3
    assert not any((one[name] == other[name]).any() for name in queries)


def test_the_folder_keeps_what_the_verdict_is_computed_from(judged):
    folder, verdict, said, _ = judged
    assert read_verdict(folder.path) == verdict
    assert verdict.rows == 20 and verdict.plan.metric == "BLEU"
    plain, local = verdict.standings
    for one in (plain, local):
        assert one.steps == (4, 4) and one.step_ms > 0 and one.peak_bytes > 4 * one.parameters
    scored = json.loads(folder.run(verdict.plan.contenders[1], 2).metrics.read_text())
    assert local.scores[1] == scored["test"]["scores"]["BLEU"]
    # A finished run is not continued, so what it would be continued from is gone.
    assert not list(folder.path.rglob("checkpoint-*"))
    assert said[0].startswith("mode local") and said[-1] == "measuring a step of each"
    assert [line.partition(";")[0] for line in said[1:-1]] == [
        "training 1 of 4: plain, seed 1", "training 2 of 4: local, seed 1",
        "training 3 of 4: plain, seed 2", "training 4 of 4: local, seed 2",
    ]  # fmt: skip


def test_steps_are_timed_in_turn(judged):
    folder, verdict, _, _ = judged
    costs = json.loads(folder.costs.read_text())
    assert list(costs["times"]) == ["plain", "local"]
    assert len(costs["times"]["plain"]) == len(costs["times"]["local"]) == 25
    assert verdict.of("local").time.low <= verdict.of("local").time.value
    assert verdict.machine["device"] in ("CPU", costs["machine"]["device"])


def same(verdict, other):
    """Whether two verdicts are one, but for times."""
    untimed = [
        [(c.contender, c.gain, c.by_seed, c.corrected_p) for c in one.comparisons]
        for one in (verdict, other)
    ]
    scores = [[one.scores for one in each.standings] for each in (verdict, other)]
    return untimed[0] == untimed[1] and scores[0] == scores[1]


def test_killed_verdict_ends_as_if_it_had_not_been(judged, tmp_path):
    whole, verdict, _, _ = judged
    write_task(tmp_path, data={"test_pairs": 20}, training=SHORT)
    killed = Path(__file__).with_name("killed_verdict.py")
    # While it trains the first, and after it trained the first and before that was scored.
    done = subprocess.run(
        [sys.executable, str(killed), str(tmp_path / "toy.yaml"), str(tmp_path / "v"),
         "step:2", "score:0"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = VerdictFolder(tmp_path / "v")
    assert folder.plan.is_file() and not list(folder.path.rglob("metrics.json"))
    # And a run whose folder was being made.
    (folder.run(verdict.plan.contenders[1], 1).path / "model").mkdir(parents=True)
    task = load_task(tmp_path / "toy.yaml")
    found = judge_modes(
        task, ["local"], folder.path, terms=Terms(seeds=2), resume=True, progress=False
    )
    assert same(found, verdict)
    for one in verdict.plan.contenders:
        assert_same_weights(folder.run(one, 1).path, whole.run(one, 1).path)


def test_ctrl_c_stops_and_the_command_says_how_to_go_on(judged, tmp_path, monkeypatch):
    _, verdict, _, _ = judged
    path = write_task(tmp_path, data={"test_pairs": 20}, training=SHORT)
    steps = []

    def on_step_begin(*_, **__):
        steps.append(1)
        if len(steps) == 6:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    words = ["verdict", str(path), "local", "--seeds", "2", "--runs", str(tmp_path / "v")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 130, done.output
    continued = done.stdout.strip().rpartition("continue with: regard ")[2].split()
    assert continued[-1] == "--resume" and not (tmp_path / "v" / "verdict.json").exists()
    done = CliRunner().invoke(app, continued)
    assert done.exit_code == 0, done.output
    assert same(read_verdict(tmp_path / "v"), verdict)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("translation, 20 test rows (sha256 ") and "2 seeds; BLEU" in lines[0]
    assert f"local: {read_verdict(tmp_path / 'v').of('local').sentence}" in lines
    assert any(line.startswith("note: 2 seeds are few") for line in lines)
    page = (tmp_path / "v" / "verdict.html").read_text()
    assert "regard verdict" in page and "local" in page
    # What is finished is judged anew, and nothing is trained.
    assert CliRunner().invoke(app, continued).exit_code == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seeds": 3}, r"seeds was \(1, 2\) and is \(1, 2, 3\)"),
        ({"margin": "2%"}, "margin was 1% and is 2%"),
        ({"alpha": 0.1}, r"alpha was 0\.05 and is 0\.1"),
        ({"metric": "chrF"}, "metric was BLEU and is chrF"),
        ({"finalists": ["broad"]}, "contenders were plain, local and are plain, broad"),
        ({"training": {"lr": 0.5}}, r"training\.lr was 0\.01 and is 0\.5"),
        ({"finalists": [READY["local"]("encoder")]}, "the programs or kinds of its contenders are"),
    ],
)
def test_another_verdict_is_not_continued(judged, tmp_path, change, told):
    folder, *_ = judged
    change = {"finalists": ["local"], "seeds": 2, **change}
    task = load_task(folder.path.parent / "toy.yaml")
    training = task.training.model_copy(update=change.pop("training", {}))
    task = task.model_copy(update={"training": training})
    finalists = change.pop("finalists")
    with pytest.raises(TaskError, match=f"v: this verdict was begun otherwise: {told}"):
        judge_modes(task, finalists, folder.path, Terms(**change), resume=True)


def test_taken_folders_and_files_are_refused(judged, tmp_path):
    folder, *_ = judged
    task = load_task(folder.path.parent / "toy.yaml")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for path, told in (
        (folder.path, "v: there is a verdict already; continue it with --resume"),
        (tmp_path / "other", "other: the folder is not empty, it holds notes.txt; choose another"),
        (tmp_path / "other" / "notes.txt", "notes.txt: this is a file; a verdict needs a folder"),
    ):
        with pytest.raises(TaskError, match=told):
            judge_modes(task, ["local"], path, terms=Terms(seeds=2))
    with pytest.raises(TaskError, match=r"there is no verdict here; leave out --resume"):
        judge_modes(task, ["local"], tmp_path / "new", terms=Terms(seeds=2), resume=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"seeds": 1}, InputError, "^seeds is 1: how a training varies with its seed cannot be to"),
        ({"alpha": 0}, InputError, r"^alpha is 0; it lies between 0 and 1, e\.g\. 0\.05$"),
        ({"margin": "-1%"}, InputError, "^margin is '-1%'; write 1% of plain's|^margin is '-1%'"),
        ({"margin": "much"}, InputError, "^margin is 'much'; write 1% of plain attention's score"),
        ({"margin": "1e"}, InputError, "^margin is '1e'; "),
        ({"faster": 1.5}, InputError, r"^faster is 1\.5; it is a share of plain attention's time"),
        ({"metric": "BLUE"}, TaskError, "^there is no metric 'BLUE'; did you mean 'BLEU'"),
        ({"finalists": []}, TaskError, "^a verdict needs a finalist; name a ready mode"),
        ({"task": {"mode": {"encoder": "alibi"}}}, TaskError, "^mode: the task has a mode of its"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_trained(
    tmp_path, options, error, told
):
    task = make(tmp_path, **options.pop("task", {}))
    finalists = options.pop("finalists", ["local"])
    with pytest.raises(error, match=told):
        judge_modes(task, finalists, tmp_path / "v", Terms(**options))
    assert not (tmp_path / "v").exists()


def test_task_without_test_rows_gets_no_verdict(tmp_path):
    rows = [json.dumps({"text": f"text {n}", "label": "ab"[n % 2]}) for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "task.yaml").write_text(
        "task: classification\ndata: {path: rows.jsonl, split: {test: 0}}\n"
    )
    with pytest.raises(
        TaskError, match=r"^a verdict is given on test rows, and there are none; ho"
    ):
        judge_modes(load_task(tmp_path / "task.yaml"), ["local"], tmp_path / "v")


def test_mode_that_does_not_fit_the_model_is_refused_before_anything_is_trained(tmp_path):
    far = Mode("far", "", [Assignment("cross", READY["aligned"].programs["cross"], layers=(3, 4))])
    with pytest.raises(InputError, match="far"):
        judge_modes(make(tmp_path), ["local", far], tmp_path / "v", terms=Terms(seeds=2))
    assert not (tmp_path / "v").exists()


def test_pretrained_model_with_a_mode_is_refused(judged, tmp_path):
    folder, verdict, _, _ = judged
    model = folder.run(verdict.plan.contenders[1], 1).model
    task = make(tmp_path)
    task = task.model_copy(
        update={"model": task.model.model_copy(update={"pretrained": str(model)})}
    )
    with pytest.raises(TaskError, match=r"^model\.pretrained: .* has a mode of its own, so "):
        judge_modes(task, ["local"], tmp_path / "v", terms=Terms(seeds=2))


def test_one_of_several_processes_gives_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TaskError, match="a verdict trains in one process; start it without torchr"):
        judge_modes(make(tmp_path), ["local"], tmp_path / "v")


def test_contenders_are_found_by_name_by_file_and_as_programs(tmp_path):
    save_mode(
        Mode("far sighted", "", encoder=READY["broad"].programs["encoder"]), tmp_path / "m.json"
    )
    found = find_contenders(["aligned", str(tmp_path / "m.json")], "dot_product", SPACE)
    assert [(one.name, one.kind) for one in found] == [
        ("plain", "plain"), ("aligned", "finalist"), ("far-sighted", "finalist"),
        ("dot_product", "random"),
    ]  # fmt: skip
    roles = [[each.role for each in one.mode.assignments] for one in found[1:]]
    # Each where it speaks, or is admitted: a dot product is not proved to see nothing later.
    assert roles == [["cross"], ["encoder"], ["encoder", "cross"]]


def plain_mode():
    from regard.catalogue import VARIANTS

    dot, causal = (VARIANTS[name].program for name in ("scaled_dot_product", "causal"))
    return Mode("mine", "", encoder=dot, decoder=causal)


LEAKY = Mode("leaky", "", decoder=READY["local"].programs["encoder"])
TWIN = Mode("local", "", encoder=READY["broad"].programs["encoder"])


@pytest.mark.parametrize(
    ("finalists", "random", "error", "told"),
    [
        (
            ["loccal"],
            None,
            InputError,
            r"^there is no mode 'loccal'; did you mean 'local'\? `regard ",
        ),
        (["nothing.json"], None, FileError, r"nothing\.json: "),
        ([plain_mode()], None, TaskError, "^mine: this mode is plain attention, which every cont"),
        (["scaled_dot_product"], None, TaskError, "^scaled_dot_product: this mode is plain atten"),
        (["local", "local"], None, TaskError, "^local: contender 'local' runs the same programs$"),
        (["local"], "local", TaskError, "^local: contender 'local' runs the same programs$"),
        (["local", TWIN], None, TaskError, "^local: a contender is called 'local' already; give"),
        ([LEAKY], None, InputError, r"^leaky: program \w+ of a decoder is not proved causal \("),
    ],
)
def test_contender_that_cannot_be_is_named(finalists, random, error, told):
    with pytest.raises(error, match=told):
        find_contenders(finalists, random, SPACE)


def test_mode_or_program_without_a_place_is_named():
    encoder = Space({"encoder": Layers(1, 2)})
    with pytest.raises(
        InputError, match=r"^mode aligned has nothing for this model: it speaks to c"
    ):
        find_contenders(["aligned"], None, encoder)
    decoder = Space({"decoder": Layers(1, 2)})
    with pytest.raises(
        InputError, match=r"^'dot_product' can run nowhere in this model: decoder: "
    ):
        find_contenders(["dot_product"], None, decoder)


def test_a_plain_name_for_a_mode_is_taken_by_plain_attention():
    with pytest.raises(TaskError, match="a contender is called 'plain' already"):
        find_contenders([Mode("Plain", "", encoder=TWIN.assignments[0].program)], None, SPACE)


def test_errors_of_the_command_have_code_2_and_no_traceback(tmp_path):
    path = write_task(tmp_path)
    done = CliRunner().invoke(app, ["verdict", str(path), "loccal", "--runs", str(tmp_path / "v")])
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert done.output.startswith("error: there is no mode 'loccal'; did you mean 'local'?")


def test_run_folders_are_those_of_train(judged):
    folder, verdict, _, _ = judged
    run = folder.run(verdict.plan.contenders[0], 1)
    assert isinstance(run, RunFolder) and run.records.is_file() and run.model.is_dir()
