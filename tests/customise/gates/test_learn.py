"""A run that learns gates: what it leaves, that stopping changes nothing, what it refuses."""

import json
import signal

import pytest

import regard as rg
from regard.customise.gates import Schedule, learn_gates, read_gates
from regard.customise.gates import prices as pricing
from regard.data.corpus import Corpus
from regard.errors import InputError, TaskError
from regard.modes import Mode, load_mode
from regard.search import Cost
from regard.tasks import load_task
from regard.train import evaluate_run, train, translate_run
from regard.train import run as runs
from regard.train.folder import RunFolder
from regard.train.model import load_model
from regard.train.record import LogFile
from tests.train.tiny import assert_same_weights, make_task

PLAIN = rg.catalogue.scaled_dot_product.program
READER = rg.modes.find("reader")("encoder", buckets=4)
ALIGNED = rg.modes.find("aligned")("cross")
CANDIDATES = {"plain": PLAIN, "reader": READER, "aligned": ALIGNED}
# Waits in steps 0–2, learns in 3–7, and has the winners alone from 8 on.
SCHEDULE = Schedule(wait=0.25, settle=2 / 3)
SETTLED = 8


def learn(task, folder, **options):
    options = {"candidates": CANDIDATES, "schedule": SCHEDULE, **options}
    return learn_gates(task, run_dir=folder, progress=False, **options)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    task = make_task(folder)
    return task, learn(task, folder / "run")


@pytest.fixture
def at_step(monkeypatch):
    """Do something when a step begins, in the same process and thread."""

    def arrange(step, do):
        def on_step_begin(_, args, state, control, **__):
            if state.global_step == step:
                monkeypatch.undo()
                do()

        monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)

    return arrange


def test_the_run_ends_as_a_run_of_the_winners(learned):
    _, found = learned
    assert found.finished and found.folder.name == "run"
    mode = found.mode()
    assert mode.name == "gates" and mode.intent == "of each head the best of plain, reader, aligned"
    model, _ = load_model(found.folder / "model")
    assert model.regard_mode.hash == mode.hash
    assert not any("logits" in name for name in model.state_dict() if ".regard." in name)
    assert len(translate_run(found.folder, ["one two three"])) == 1
    assert {one.role for one in mode.assignments} == {"encoder", "cross"}
    # The task it keeps trains the winners anew.
    assert load_task(found.folder / "task.yaml").mode == str(found.folder / "model" / "mode.json")


def test_the_course_begins_equal_and_ends_with_one(learned):
    _, found = learned
    begun = [float(row["share"]) for row in found.course if row["step"] == "0"]
    # Two heads of the encoder and two of cross attention choose from two candidates each.
    assert begun == [0.5] * 8
    shares: dict = {}
    for row in found.shares():
        assert row["step"] == str(SETTLED)
        key = row["role"], row["layer"], row["heads"]
        shares.setdefault(key, {})[row["candidate"]] = float(row["share"])
    assert len(shares) == 4
    programs = {"plain": PLAIN, "reader": READER.assignments[0].program}
    programs["aligned"] = ALIGNED.assignments[0].program
    for (role, layer, head), of in shares.items():
        assert sum(of.values()) == pytest.approx(1.0, abs=1e-4) and max(of.values()) > 0.99
        running = found.mode().at(role, int(layer), 2)
        won = next(one for (a, b), one in running if a <= int(head) < b)
        assert won == programs[max(of, key=of.get)]
    assert (found.folder / "gates.png").read_bytes().startswith(b"\x89PNG")


def test_quality_is_measured_before_and_after_settling(learned):
    _, found = learned
    assert found.before.keys() == found.after.keys() == found.final.keys() == {"BLEU", "chrF"}
    # Gates were as good as one already, so nothing was lost.
    assert found.after == pytest.approx(found.before, abs=1e-3)
    metrics = json.loads((found.folder / "metrics.json").read_text())
    assert found.final == metrics["valid"]["scores"] and "test" not in metrics
    assert read_gates(found.folder) == found


def test_gates_learn_while_they_should(learned):
    _, found = learned
    by_step: dict = {}
    for row in found.course:
        by_step.setdefault(int(row["step"]), []).append(row["share"])
    assert by_step[0] == by_step[2] and by_step[3] == by_step[0]
    assert by_step[4] != by_step[3] and max(by_step) == SETTLED


@pytest.mark.parametrize("step", [1, SETTLED - 1, 9])
def test_a_run_stopped_by_ctrl_c_ends_as_if_it_had_not_been(learned, tmp_path, at_step, step):
    task, whole = learned
    at_step(step, lambda: signal.raise_signal(signal.SIGINT))
    stopped = learn(task, tmp_path / "run")
    assert not stopped.finished and stopped.final is None
    with pytest.raises(TaskError, match="not finished"):
        stopped.mode()
    assert (stopped.folder / "gates.png").is_file()
    found = learn(task, tmp_path / "run", resume=True)
    assert_same_weights(whole.folder, tmp_path / "run")
    assert found.course == whole.course and found.mode().hash == whole.mode().hash
    assert (found.before, found.after, found.final) == (whole.before, whole.after, whole.final)


@pytest.mark.parametrize("step", [6, SETTLED + 2])
def test_a_run_that_died_goes_on_from_its_last_checkpoint(learned, tmp_path, at_step, step):
    task, whole = learned

    def die():
        raise OSError("no space left")

    at_step(step, die)
    with pytest.raises(OSError, match="no space left"):
        learn(task, tmp_path / "run")
    found = learn(task, tmp_path / "run", resume=True)
    assert_same_weights(whole.folder, tmp_path / "run")
    assert found.course == whole.course and found.after == whole.after


def test_a_run_goes_on_only_with_the_gates_it_began_with(learned, tmp_path, at_step):
    task, _ = learned
    at_step(4, lambda: signal.raise_signal(signal.SIGINT))
    learn(task, tmp_path / "run")
    broad = rg.modes.find("broad")("encoder")
    for change, name in (
        ({"candidates": {"plain": PLAIN, "broad": broad}}, "candidates"),
        ({"schedule": Schedule(first=3.0)}, "schedule"),
        ({"head_groups": 1}, "head_groups"),
    ):
        with pytest.raises(TaskError, match=f"since this run began, {name} of its gates changed"):
            learn(task, tmp_path / "run", resume=True, **change)
    with pytest.raises(TaskError, match="not empty"):
        learn(task, tmp_path / "run")


def test_a_run_without_gates_is_not_taken_up(tmp_path, at_step):
    task = make_task(tmp_path)
    at_step(4, lambda: signal.raise_signal(signal.SIGINT))
    train(task, tmp_path / "run", progress=False)
    with pytest.raises(TaskError, match="no gates were learned here"):
        learn(task, tmp_path / "run", resume=True)
    with pytest.raises(TaskError, match="no gates were learned here"):
        read_gates(tmp_path / "run")


def test_validation_rows_measure_and_test_rows_are_never_looked_at(learned, tmp_path, monkeypatch):
    task, whole = learned
    asked = []

    class Guarded(list):
        def __iter__(self):
            asked.append(1)
            return super().__iter__()

        __getitem__ = None

    load = runs.load_task_data

    def guarded(plan):
        corpus = load(plan)
        splits = corpus.splits._replace(test=Guarded(corpus.splits.test))
        return Corpus(splits, corpus.labels, corpus.report, corpus.sha256)

    monkeypatch.setattr(runs, "load_task_data", guarded)
    found = learn(task, tmp_path / "run")
    assert found.course == whole.course and asked == []
    # The guard sees who looks.
    evaluate_run(tmp_path / "run")
    train(task, tmp_path / "other", progress=False)
    assert asked


def test_without_validation_rows_gates_learn_alike_and_nothing_is_measured(tmp_path):
    task = make_task(
        tmp_path, data={"path": "pairs.tsv", "test_pairs": 10, "valid_pairs": 0},
        training={"eval_every": 0},
    )  # fmt: skip
    found = learn(task, tmp_path / "run")
    assert found.finished and found.before == found.after == found.final == {}


def test_steps_and_seed_are_as_asked(tmp_path):
    task = make_task(tmp_path, training={"epochs": 1, "steps": None, "save_every": 50})
    found = learn(task, tmp_path / "run", steps=6, seed=3)
    settings = load_task(found.folder / "task.yaml").training
    assert (settings.steps, settings.epochs, settings.seed) == (6, None, 3)
    assert found.course[-1]["step"] == str(SCHEDULE.steps(6)[1])


def test_ready_modes_that_fit_are_the_candidates_if_none_is_named(tmp_path):
    task = make_task(tmp_path, training={"steps": 3, "eval_every": 0})
    found = learn(task, tmp_path / "run", candidates=None)
    names = {(row["role"], row["candidate"]) for row in found.course}
    assert {("encoder", "plain"), ("decoder", "plain"), ("cross", "aligned")} <= names
    assert ("decoder", "sequential") in names and ("decoder", "reader") not in names
    # Structure must be given, and tiny tasks have none.
    assert "structured" not in {name for _, name in names}


def test_what_costs_enough_is_not_chosen_whatever_it_is_worth(tmp_path, monkeypatch):
    prices = {READER.assignments[0].program: 3.0, PLAIN: 1.0}

    def predict_cost(mode, space, batch):
        assert batch.queries < 10 and batch.size * batch.queries <= 100 and batch.width == 8
        return Cost(prices[mode.assignments[0].program], 0.0)

    monkeypatch.setattr(pricing, "predict_cost", predict_cost)
    candidates = {"reader": READER, "plain": Mode("plain", encoder=PLAIN)}
    found = learn(make_task(tmp_path), tmp_path / "run", candidates=candidates, cost=1000.0)
    assert [one.program for one in found.mode().assignments] == [PLAIN]
    kept = json.loads((found.folder / "gates.json").read_text())
    # All that is dearest is 1, shared by two heads.
    assert kept["prices"] == [[[0.5, pytest.approx(1 / 6)]] * 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"steps": 2}}, r"training\.steps is 2; gates need 3 at least"),
        ({"training": {"keep": "best"}}, "training.keep: .*; keep the last"),
        ({"training": {"patience": 2}}, "training.patience may end a run before"),
        ({"attention": {"log": True}}, "attention.log is of one program a head"),
    ],
)
def test_tasks_that_gates_cannot_be_learned_in_are_refused(tmp_path, changes, message):
    with pytest.raises(TaskError, match=message):
        learn(make_task(tmp_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_adapters_are_refused(tmp_path):
    task = make_task(tmp_path)
    tuning = task.tuning.model_copy(update={"method": "lora"})
    with pytest.raises(TaskError, match=r"tuning\.method: gates are not learned with lora"):
        learn(task.model_copy(update={"tuning": tuning}), tmp_path / "run")


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TaskError, match="gates are learned in one process"):
        learn(make_task(tmp_path), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "steps=2 must be a whole number from 3"),
        ({"steps": 9.0}, r"steps=9\.0 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number from 0"),
        ({"cost": -0.1}, r"cost=-0\.1 must be a number from 0"),
        ({"cost": True}, "cost=True must be a number from 0"),
        ({"schedule": 0.5}, r"schedule=0\.5 must be a Schedule"),
        ({"head_groups": 3}, "head_groups=3 must be a whole number from 1 to 2"),
        ({"candidates": {"plain": PLAIN}}, "leave no gate a choice"),
        ({"candidates": {"a": Mode("a", decoder=PLAIN)}}, "not fit for role 'decoder'"),
    ],
)
def test_options_without_meaning_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        learn(make_task(tmp_path), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_mode_in_the_folder_is_the_one_that_is_returned(learned):
    _, found = learned
    assert load_mode(RunFolder(found.folder).mode) == found.mode()
