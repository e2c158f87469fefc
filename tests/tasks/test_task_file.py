"""The task file: what it may say, and what is said of what it may not."""

import re
from pathlib import Path

import pytest
import yaml

from regard.errors import TaskError
from regard.tasks import load_task, save_task
from regard.tasks.kinds import TranslationTask
from regard.tasks.settings import TrainingSettings

LEAST = {"task": "translation", "data": {"path": "pairs.tsv"}}
KNOWN = ", ".join(sorted([*TranslationTask.model_fields, "extends"]))


def write(tmp_path, value):
    path = tmp_path / "toy.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), encoding="utf-8")
    return path


def refused(tmp_path, value):
    with pytest.raises(TaskError) as caught:
        load_task(write(tmp_path, value))
    text = str(caught.value).replace(f"{tmp_path}/", "")
    return re.sub(r"^toy.yaml, line \d+: (?!this is not)", "toy.yaml: ", text, flags=re.MULTILINE)


def changed(part, **settings):
    return {**LEAST, part: {**LEAST.get(part, {}), **settings}}


def test_least_task_names_its_kind_and_its_data(tmp_path):
    task = load_task(write(tmp_path, LEAST))
    assert task.mode is None
    assert task.data.path == str(tmp_path / "pairs.tsv")
    assert (task.training.steps, task.model.width) == (900, 128)


def test_paths_are_relative_to_the_task_file(tmp_path):
    (tmp_path / "deep").mkdir()
    value = {**LEAST, "data": {"path": "../pairs.tsv"}, "mode": {"cross": "mine.py:additive"}}
    task = load_task(write(tmp_path / "deep", value))
    assert task.data.path == str(tmp_path / "pairs.tsv")
    assert task.mode == {"cross": str(tmp_path / "deep" / "mine.py:additive")}
    value = {**LEAST, "mode": {"decoder": "sliding_window(window=8)"}}
    assert load_task(write(tmp_path / "deep", value)).mode == value["mode"]
    task = load_task(write(tmp_path / "deep", {**LEAST, "mode": "mode.json"}))
    assert task.mode == str(tmp_path / "deep" / "mode.json")


def test_task_survives_writing_and_reading(tmp_path):
    task = load_task(write(tmp_path, changed("training", lr="2e-3", seed=7)))
    assert task.training.lr == 2e-3
    save_task(task, tmp_path / "again.yaml")
    assert load_task(tmp_path / "again.yaml") == task


WRONG = [
    (
        changed("training", stesp=5),
        "training.stesp is not a setting; did you mean 'steps'? known: "
        + ", ".join(sorted(TrainingSettings.model_fields)),
    ),
    (
        {**LEAST, "modl": {}},
        f"modl is not a setting; did you mean 'model'? known: {KNOWN}",
    ),
    ({"task": "translation"}, "data is missing"),
    (
        {"task": "translation", "data": {}},
        "data: say where the rows are: data.path, or data.train with data.valid and data.test",
    ),
    (
        {**LEAST, "task": "poetry"},
        "task: there is no kind 'poetry'; known: classification, joint, language_modelling, pairs, "
        "question_answering, retrieval, summarisation, tagging, translation",
    ),
    (
        changed("training", steps=0),
        "training.steps: should be greater than or equal to 1, found 0",
    ),
    (changed("training", steps=True), "training.steps: should be a whole number, found True"),
    (changed("training", lr=0), "training.lr: should be greater than 0, found 0"),
    (changed("model", dropout=1.0), "model.dropout: should be less than 1, found 1.0"),
    (
        changed("model", width=130),
        "model: width 130 cannot be shared by 4 heads; try a multiple",
    ),
    (
        changed("data", duplicates="some"),
        "data.duplicates: should be 'refuse', 'first' or 'keep', found 'some'",
    ),
    ({**LEAST, "mode": 3}, "mode: should be a mode's .json file, or a program for each role"),
    (
        {**LEAST, "mode": {"encodr": "a.py:b"}},
        "mode: 'encodr' is no role of attention; did you mean 'encoder'? known: audio, cross, "
        "decoder, encoder, text, vision",
    ),
    (
        {**LEAST, "mode": {"cross": 3}},
        "mode: the program of role 'cross' should be a name of the catalogue, file.py:name or a "
        ".json file",
    ),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_wrong_setting_is_named_by_its_place(tmp_path, value, message):
    assert refused(tmp_path, value) == f"toy.yaml: {message}"


def test_all_problems_are_told_at_once(tmp_path):
    value = {**changed("training", steps=-1), "mood": 1}
    assert refused(tmp_path, value).splitlines() == [
        "toy.yaml: training.steps: should be greater than or equal to 1, found -1",
        f"toy.yaml: mood is not a setting; did you mean 'mode'? known: {KNOWN}",
    ]


def test_text_that_is_not_yaml_is_refused_with_its_line(tmp_path):
    message = refused(tmp_path, "task: translation\ndata: [1, 2\n")
    assert re.match(r"toy\.yaml, line 3: this is not YAML \(.+\)$", message)


@pytest.mark.parametrize("text", ["", "- 1\n", "translation"])
def test_yaml_that_is_no_task_is_refused(tmp_path, text):
    assert refused(tmp_path, text) == "toy.yaml: a task file starts with `task:` and its kind"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(TaskError, match=r"none\.yaml: there is no such file$"):
        load_task(tmp_path / "none.yaml")


def test_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_bytes(b"task: \xff\n")
    with pytest.raises(TaskError, match=r"toy\.yaml: cannot be read \(.*utf-8"):
        load_task(path)


EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "translation").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_a_task_whose_data_are_there(path):
    assert Path(load_task(path).data.path).is_file()
