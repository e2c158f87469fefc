"""What a verdict says: read from folders whose answers to test rows are of known quality."""

import json
import re

import numpy as np
import pytest

from regard.customise.verdict import read_verdict
from regard.customise.verdict.answer import Comparison, signed
from regard.customise.verdict.costs import Ratio, ratio_of
from regard.customise.verdict.plan import VerdictFolder
from regard.customise.verdict.report import verdict_lines, write_verdict
from regard.customise.verdict.statistics import Gain
from regard.errors import FileError, TaskError
from regard.metrics.verdict import holm
from tests.customise.verdict.folders import costs_of, plan_of, write_verdict_runs

RIGHT = {"plain": 0.7, "local": 0.78, "broad": 0.62, "focused": 0.703, "reader": 0.7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("verdict") / "v"
    plan = plan_of("local", "broad", "focused", margin="4%", random="reader")
    costs = {"local": 1.3, "broad": 0.5, "focused": 0.65, "reader": 1.0}
    return write_verdict_runs(
        path, plan, RIGHT, costs, parameters={"reader": 1064}, steps={"broad": 9}
    )


@pytest.fixture(scope="module")
def verdict(folder):
    return read_verdict(folder.path)


def test_each_finalist_gets_the_sentence_it_was_planted_to_get(verdict):
    number = r"\d+(\.\d+)?(e-\d+)?"
    said = {name: verdict.of(name).sentence for name in ("local", "broad", "focused", "reader")}
    assert re.fullmatch(rf"better than plain by 0\.0\d+ \[{number}, {number}\]", said["local"])
    assert re.fullmatch(
        rf"worse than plain by 0\.0\d+ \[{number}, {number}\], at 0\.50 of the time",
        said["broad"],
    )
    for name, gain in (("local", 0.08), ("broad", -0.08), ("reader", 0.0)):
        assert verdict.of(name).gain.value == pytest.approx(gain, abs=0.01)
    assert re.match(
        r"cheaper: 0\.65 of the time of plain at no worse quality \(margin 0\.0\d+; ",
        said["focused"],
    )
    assert said["reader"].startswith("no gain shown over plain: ")
    outcomes = [one.outcome for one in verdict.comparisons if one.baseline == "plain"]
    assert outcomes == ["better", "worse", "cheaper", "no gain shown"]


def test_finalists_are_compared_with_random_search_too(verdict):
    pairs = [(one.contender, one.baseline) for one in verdict.comparisons]
    assert pairs == [
        ("local", "plain"), ("broad", "plain"), ("focused", "plain"), ("reader", "plain"),
        ("local", "reader"), ("broad", "reader"), ("focused", "reader"),
    ]  # fmt: skip
    assert verdict.of("local", "reader").outcome == "better"
    # Four are compared with plain attention, three with the winner of the random search.
    assert verdict.of("local").gain.level == pytest.approx(1 - 0.05 / 4)
    assert verdict.of("local", "reader").gain.level == pytest.approx(1 - 0.05 / 3)


def test_p_is_corrected_for_all_contenders_with_one_baseline(verdict):
    for baseline in ("plain", "reader"):
        found = [one for one in verdict.comparisons if one.baseline == baseline]
        assert [one.corrected_p for one in found] == holm([one.gain.p for one in found])


def test_differences_of_parameters_and_steps_are_said_aloud(verdict):
    assert verdict.remarks == (
        "broad was not trained for as many steps as plain: 9, not 10",
        "reader has 1,064 parameters and plain 1,000 (+64, +6.40%)",
    )


def test_few_rows_and_seeds_are_said_aloud(tmp_path):
    plan = plan_of("local", seeds=(1, 2))
    write_verdict_runs(tmp_path / "v", plan, RIGHT, rows=40)
    found = read_verdict(tmp_path / "v")
    assert [one.partition(" are few")[0] for one in found.remarks] == ["40 test rows", "2 seeds"]
    assert found.of("local").time is None and found.standings[0].step_ms is None


def test_the_same_is_kept_as_data(folder, verdict):
    write_verdict(verdict, folder, "regard verdict")
    kept = json.loads(folder.answer.read_text())
    assert kept == json.loads(json.dumps(verdict.as_dict()))
    local = kept["comparisons"][0]
    assert local["outcome"] == "better" and local["sentence"] == verdict.of("local").sentence
    assert local["gain"]["low"] < local["gain"]["value"] < local["gain"]["high"]
    by_seed = local["by_seed"]
    assert len(by_seed) == 5 and np.mean(by_seed) == pytest.approx(local["gain"]["value"])
    assert kept["contenders"][0]["score"] == pytest.approx(0.7, abs=0.01)
    assert kept["rows"] == 400 and kept["metric"] == "accuracy"


def test_the_page_and_the_lines_have_each_sentence_and_remark(folder, verdict):
    write_verdict(verdict, folder, "regard verdict task.yaml local")
    page, lines = folder.page.read_text(), verdict_lines(verdict)
    for one in verdict.comparisons:
        assert one.sentence in page and f"{one.contender}: {one.sentence}" in lines
    for one in verdict.remarks:
        assert one in page and f"note: {one}" in lines
    # Two pictures of gains, and one of each program.
    assert page.count("<img") == 2 + 4
    assert folder.picture.read_bytes().startswith(b"\x89PNG")
    assert "regard verdict task.yaml local" in page and "http" not in page.partition("<body>")[2]


def test_two_seeds_that_disagree_show_nothing(tmp_path):
    """Of one seed alone the gain would be clear; so it is of the paired bootstrap over rows."""
    from regard.train.compare import compare_runs

    plan = plan_of("local", seeds=(1, 2))
    folder = write_verdict_runs(tmp_path / "v", plan, {"plain": 0.7, "local": 0.8})
    other = write_verdict_runs(tmp_path / "w", plan, {"plain": 0.7, "local": 0.69})
    local = plan.contenders[1]
    worse, kept = other.run(local, 2), folder.run(local, 2)
    for name in ("records", "metrics"):
        getattr(kept, name).write_bytes(getattr(worse, name).read_bytes())
    runs = [folder.run(one, 1).path for one in plan.contenders]
    assert compare_runs(runs).answers == {"better"}
    assert read_verdict(folder.path).of("local").outcome == "no gain shown"


def test_a_falling_metric_gains_when_it_falls(tmp_path):
    plan = plan_of("local", "broad", metric="bits per byte")
    write_verdict_runs(tmp_path / "v", plan, RIGHT, kind="language_modelling")
    found = read_verdict(tmp_path / "v")
    plain, local, broad = (one.score for one in found.standings)
    assert local < plain < broad and not found.higher_is_better
    assert found.of("local").gain.value == pytest.approx(plain - local)
    outcomes = [found.of(name).outcome for name in ("local", "broad")]
    assert outcomes == ["better", "worse"]


def comparison(value, half, margin=0.2, time=None):
    gain = Gain(value, value - half, value + half, 0.95, 0.01, 0.5)
    return Comparison("mode", "plain", gain, (value, value), 0.01, margin, 0.7, time)


CHEAP, DEAR, UNSURE = Ratio(0.65, 0.64, 0.66), Ratio(1.2, 1.1, 1.3), Ratio(0.69, 0.6, 0.8)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (comparison(0.8, 0.5), "better than plain by 0.8 [0.3, 1.3]"),
        (comparison(0.8, 0.5, time=CHEAP), "better than plain by 0.8 [0.3, 1.3], at 0.65 of the "
         "time"),
        (comparison(0.8, 0.5, time=DEAR), "better than plain by 0.8 [0.3, 1.3]"),
        (comparison(-0.8, 0.5), "worse than plain by 0.8 [0.3, 1.3]"),
        (comparison(-0.1, 0.05, time=CHEAP), "worse than plain by 0.1 [0.05, 0.15], within the "
         "margin 0.2, at 0.65 of the time"),
        (comparison(0.1, 0.25, time=CHEAP), "cheaper: 0.65 of the time of plain at no worse "
         "quality (margin 0.2; +0.1 [-0.15, 0.35])"),
        # Its time may be above 0.7, or its loss above the margin.
        (comparison(0.1, 0.25, time=UNSURE), "no gain shown over plain: +0.1 [-0.15, 0.35]"),
        (comparison(0.1, 0.35, time=CHEAP), "no gain shown over plain: +0.1 [-0.25, 0.45]"),
        (comparison(0.0, 0.1), "no gain shown over plain: 0 [-0.1, 0.1]"),
        # An end at 0 leaves nothing out.
        (comparison(0.5, 0.5), "no gain shown over plain: +0.5 [0, 1]"),
    ],
)  # fmt: skip
def test_sentences(found, sentence):
    assert found.sentence == sentence


def test_numbers_of_sentences_have_no_empty_sign():
    assert [signed(one) for one in (0.0, -1e-12, 0.1234, -2)] == ["0", "-1e-12", "+0.123", "-2"]


@pytest.mark.parametrize("rounds", [9, 25])
def test_the_interval_of_a_time_holds_the_truth_as_often_as_it_says(rounds):
    random, held = np.random.default_rng(1), 0
    for _ in range(500):
        drift = 1 + random.random(rounds)
        one = 0.6 * drift * random.lognormal(0, 0.1, rounds)
        other = drift * random.lognormal(0, 0.1, rounds)
        ratio = ratio_of(one, other, 0.95)
        held += ratio.low <= 0.6 <= ratio.high
        assert ratio.low <= ratio.value <= ratio.high
    assert held / 500 >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 500)


def test_what_others_do_on_the_machine_falls_out_of_the_ratio():
    costs = costs_of({"local": 0.5})["times"]
    slow = [1 + 9 * (turn % 4 == 0) for turn in range(25)]
    times = {name: [a * b for a, b in zip(found, slow, strict=True)]
             for name, found in costs.items()}  # fmt: skip
    ratio = ratio_of(times["local"], times["plain"], 0.95)
    assert ratio.value == pytest.approx(0.5, rel=0.01) and ratio.high - ratio.low < 0.01


def broken(tmp_path, break_it):
    plan = plan_of("local", seeds=(1, 2))
    folder = write_verdict_runs(tmp_path / "v", plan, RIGHT, {"local": 1.0}, rows=40)
    break_it(folder, folder.run(plan.contenders[1], 2))
    return folder.path


def drop_a_run(folder, run):
    run.metrics.unlink()


def cut_the_answers(folder, run):
    run.records.write_text(run.records.read_text().partition("\n")[0] + "\n")


def change_the_split(folder, run):
    text = run.task.read_text()
    assert "stratify: true" in text
    run.task.write_text(text.replace("stratify: true", "stratify: false"))


def change_a_mode(folder, run):
    from regard.modes import READY, save_mode

    save_mode(READY["broad"]("encoder"), folder.modes / "local.json")


def break_the_plan(folder, run):
    folder.plan.write_text('{"contenders": []}')


def break_the_costs(folder, run):
    folder.costs.write_text('{"seconds": 3}')


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (drop_a_run, TaskError, r"seed-2: this run is not finished; continue it with --resume$"),
        (cut_the_answers, FileError, r"these 1 examples are not those that were scored"),
        (change_the_split, FileError, r"seed-2: this run is not of the rows that the verdict is "),
        (change_a_mode, FileError, r"modes: these are not the modes that plan\.json names$"),
        (break_the_plan, FileError, r"plan\.json: this is no plan of a verdict \('seeds'\)$"),
        (break_the_costs, FileError, r"costs\.json: these are no costs \(.*delete the file and "),
    ],
)
def test_broken_folder_is_named(tmp_path, break_it, error, message):
    with pytest.raises(error, match=message):
        read_verdict(broken(tmp_path, break_it))


def test_empty_folder_holds_no_verdict(tmp_path):
    with pytest.raises(TaskError, match="there is no verdict here; leave out --resume to begin"):
        read_verdict(tmp_path)
    assert not VerdictFolder(tmp_path).plan.exists()
