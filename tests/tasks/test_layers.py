"""Tasks in layers: files that extend others, settings on the command line, and the schema."""

import jsonschema
import pytest
import yaml

from regard.errors import TaskError
from regard.tasks import load_task, plan_task_data, save_task, task_schema
from regard.tasks.kinds import KINDS, ClassificationTask, TaggingTask
from regard.tasks.task_file import load_task as load
from regard.tasks.yaml_file import parse_value

BASE = """
task: tagging
data: {path: rows.jsonl, columns: {tags: labels}, max_words: 9}
mode: {encoder: mine.py:near, decoder: alibi}
training: {steps: 7, lr: 2e-3}
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text(BASE)
    (tmp_path / "task.yaml").write_text(
        "extends: base/base.yaml\ndata: {columns: {tokens: words}}\n"
        "training:\n  steps: 8\nmode: {cross: mine.py:far}\n"
    )
    return tmp_path


def test_file_says_what_differs_from_the_one_it_extends(files):
    task = load_task(files / "task.yaml")
    assert isinstance(task, TaggingTask)
    assert (task.training.steps, task.training.lr, task.data.max_words) == (8, 2e-3, 9)
    assert task.data.columns == {"tags": "labels", "tokens": "words"}


def test_paths_are_relative_to_the_file_that_names_them(files):
    task = load_task(files / "task.yaml")
    assert task.data.path == str(files / "base" / "rows.jsonl")
    assert task.mode == {
        "encoder": str(files / "base" / "mine.py:near"),
        "decoder": "alibi",
        "cross": str(files / "mine.py:far"),
    }


def test_command_line_has_the_last_word_with_paths_from_where_one_is(files, monkeypatch):
    (files / "elsewhere").mkdir()
    monkeypatch.chdir(files / "elsewhere")
    settings = ["training.steps=9", "data.train=[a.csv, b.csv]", "data.path=null", "mode=null"]
    task = load_task("../task.yaml", [*settings, "training.lr=1e-2", "data.labels=[no, yes]"])
    assert (task.training.steps, task.training.lr, task.mode) == (9, 0.01, None)
    assert task.data.train == [str(files / "elsewhere" / name) for name in ("a.csv", "b.csv")]
    assert task.data.labels == ["no", "yes"]


def test_null_takes_a_part_back_whole(tmp_path):
    path = tmp_path / "t.yaml"
    begun = "task: tagging\ndata: {path: a.csv}\nmodel: {pretrained: p}\n"
    tuned = "tuning: {method: lora, rank: 4, targets: [q]}\ntraining: {seed: 3, warmup: 5}\n"
    path.write_text(begun + tuned)
    plain = tmp_path / "plain.yaml"
    plain.write_text(begun)
    assert load_task(path).tuning.rank == 4
    whole = load_task(plain)
    assert load_task(path, ["tuning=null", "training=null"]) == whole
    assert load_task(path, ["training.seed=null"]).training.warmup == 5
    assert load_task(path, ["training.seed=null"]).training.seed == whole.training.seed
    adapters = load_task(path, ["tuning=null", "tuning.method=houlsby"]).tuning
    assert (adapters.method, adapters.targets) == ("houlsby", whole.tuning.targets)
    with pytest.raises(TaskError, match="command line: data: should have parts, found None"):
        load_task(path, ["data=null"])


def test_kind_may_be_chosen_on_the_command_line(tmp_path):
    (tmp_path / "t.yaml").write_text("task: tagging\ndata: {path: a.csv}\n")
    assert isinstance(load_task(tmp_path / "t.yaml", ["task=classification"]), ClassificationTask)


def test_problem_names_the_layer_it_stands_in(files):
    (files / "base" / "base.yaml").write_text(BASE + "model: {width: wide}\n")
    with pytest.raises(TaskError) as caught:
        load_task(files / "task.yaml", ["training.steps=x"])
    assert sorted(str(caught.value).replace(f"{files}/", "").splitlines()) == [
        "base/base.yaml, line 6: model.width: should be a whole number, found 'wide'",
        "command line: training.steps: should be a whole number, found 'x'",
    ]


def test_resolved_task_needs_no_other_file(files):
    task = load_task(files / "task.yaml")
    save_task(task, files / "resolved.yaml")
    (files / "base" / "base.yaml").unlink()
    assert load_task(files / "resolved.yaml") == task


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100", 100), ("1e-3", 1e-3), ("-.5", -0.5), ("true", True), ("no", "no"), ("null", None),
        ("a b", "a b"), ("[1, x]", [1, "x"]), ("{a: 1}", {"a": 1}), ("12:30", "12:30"), ("", None),
        ("2026-11-23", "2026-11-23"), ("'7'", "7"), ("007", 7), ("1_000", "1_000"),
    ],
)  # fmt: skip
def test_values_are_typed_like_yaml(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


def whole(kind):
    return {"task": kind, "data": {"path": "a.jsonl"}}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema_a_plan_and_survives_writing(tmp_path, kind):
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(whole(kind)))
    task = load(path)
    assert type(task) is KINDS[kind] and plan_task_data(task).kind.name == kind
    save_task(task, path)
    assert load(path) == task
    jsonschema.validate(yaml.safe_load(path.read_text()), task_schema())


def accepts(value):
    return jsonschema.Draft202012Validator(task_schema()).is_valid(value)


def test_schema_is_one_and_tells_right_from_wrong():
    jsonschema.Draft202012Validator.check_schema(task_schema())
    assert accepts(whole("translation"))
    assert accepts({"extends": "a.yaml"})
    assert accepts({"extends": "a.yaml", "training": {"steps": 5}})
    assert not accepts({"extends": "a.yaml", "training": {"stesp": 5}})
    assert not accepts({"task": "translation"})
    assert not accepts(whole("poetry"))
    assert not accepts({**whole("tagging"), "data": {"path": "a", "test_pairs": 3}})


def test_saved_splits_become_the_splits_of_the_task(tmp_path):
    from tests.data.test_read_rows import write_dataset

    write_dataset(tmp_path / "all", ["train", "test"])
    (tmp_path / "t.yaml").write_text("task: classification\ndata: {path: all}\n")
    plan = plan_task_data(load_task(tmp_path / "t.yaml"))
    assert plan.files == {name: (str(tmp_path / "all" / name),) for name in ("train", "test")}
    with pytest.raises(Exception, match="this folder holds splits of its own"):
        plan_task_data(load_task(tmp_path / "t.yaml", ["data.test=x.csv"]))


def test_scores_take_the_place_of_labels_when_a_column_holds_them(tmp_path):
    (tmp_path / "t.yaml").write_text("task: pairs\ndata: {path: a.csv, columns: {score: 3}}\n")
    assert plan_task_data(load_task(tmp_path / "t.yaml")).kind.labels is None
