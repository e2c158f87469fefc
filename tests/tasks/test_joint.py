"""Task files that join tasks: how they are read, and what is said of what cannot be joined."""

import re

import jsonschema
import pytest
import yaml

from regard.errors import TaskError
from regard.tasks import load_task, save_task, task_schema
from regard.tasks.kinds import KINDS
from regard.tasks.vary import vary

LABELS = {
    "task": "classification",
    "data": {"path": "labels.csv"},
    "training": {"label_smoothing": 0.0},
}
TAGS = {"task": "tagging", "data": {"path": "tags.jsonl"}, "training": {"steps": 30}}
JOINT = {
    "task": "joint",
    "tasks": {"labels": "parts/labels.yaml", "tags": "parts/tags.yaml"},
    "training": {"steps": 30},
}
JOINED = (
    "classification, tagging, question_answering, language_modelling, pairs, retrieval "
    "can be joined"
)


def write(folder, whole=JOINT, **parts):
    (folder / "parts").mkdir(exist_ok=True)
    for name, part in {"labels": LABELS, "tags": TAGS, **parts}.items():
        (folder / "parts" / f"{name}.yaml").write_text(yaml.safe_dump(part), encoding="utf-8")
    path = folder / "joint.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path


def test_tasks_are_read_from_their_files_with_what_they_share(tmp_path):
    parts = load_task(write(tmp_path)).parts()
    assert list(parts) == ["labels", "tags"]
    assert parts["labels"].data.path == str(tmp_path / "parts" / "labels.csv")
    assert parts["labels"].training.steps == parts["tags"].training.steps == 30
    # What each has for itself.
    assert parts["labels"].training.label_smoothing == 0.0
    assert parts["tags"].training.label_smoothing == 0.1


def test_tasks_stand_in_the_file_itself_or_extend_one(tmp_path):
    tags = {"extends": "parts/tags.yaml", "data": {"path": "mine.jsonl"}}
    whole = {**JOINT, "tasks": {"labels": {**LABELS, "training": {}}, "tags": tags}}
    parts = load_task(write(tmp_path, whole)).parts()
    assert parts["labels"].data.path == str(tmp_path / "labels.csv")
    assert parts["labels"].training.label_smoothing == 0.1
    assert parts["tags"].data.path == str(tmp_path / "mine.jsonl")


def test_command_line_reaches_into_tasks_and_takes_them_back(tmp_path):
    path = write(tmp_path, {**JOINT, "tasks": {**JOINT["tasks"], "more": "parts/tags.yaml"}})
    words = ["tasks.labels.data.max_words=7", "tasks.more=null", "sampling.temperature=.inf"]
    task = load_task(path, words)
    assert list(task.tasks) == ["labels", "tags"]
    assert task.tasks["labels"].data.max_words == 7
    assert task.sampling.temperature == float("inf")


def test_joint_task_survives_writing_and_needs_no_other_file(tmp_path):
    task = load_task(write(tmp_path), ["weighting={labels: 1, tags: 0.5}"])
    for part in (tmp_path / "parts").iterdir():
        part.unlink()
    save_task(task, tmp_path / "again.yaml")
    again = load_task(tmp_path / "again.yaml")
    assert again.parts() == task.parts() and again.weighting == {"labels": 1.0, "tags": 0.5}
    assert again.model_dump() == task.model_dump()


def test_search_changes_what_is_shared_for_all(tmp_path):
    task = vary(load_task(write(tmp_path)), {"training.steps": 5, "sampling.temperature": 3.0})
    assert {part.training.steps for part in task.parts().values()} == {5}
    assert task.sampling.temperature == 3.0


def test_schema_knows_files_and_settings_of_tasks(tmp_path):
    check = jsonschema.Draft202012Validator(task_schema())
    path = write(tmp_path)
    assert check.is_valid(yaml.safe_load(path.read_text()))
    save_task(load_task(path), tmp_path / "again.yaml")
    assert check.is_valid(yaml.safe_load((tmp_path / "again.yaml").read_text()))
    assert not check.is_valid({**JOINT, "tasks": {"labels": {"task": "tagging", "dat": 3}}})
    assert not check.is_valid({**JOINT, "tasks": {"a/b": "labels.yaml"}})


SHARED = "it is shared: delete it here, or make it the same"
WRONG = [
    (
        ["tasks.tags.training.steps=40"],
        f"tasks.tags.training.steps: 40 here, and 30 for all tasks; {SHARED}",
    ),
    (
        ["tasks.labels.model.width=64"],
        f"tasks.labels.model.width: 64 here, and 128 for all tasks; {SHARED}",
    ),
    (
        ["tasks.labels.mode={encoder: alibi}"],
        f"tasks.labels.mode: {{'encoder': 'alibi'}} here, and None for all tasks; {SHARED}",
    ),
    (
        ["tasks.labels.data.pth=1"],
        "tasks.labels.data.pth is not a setting; did you mean 'path'?",
    ),
    (
        ["tasks.labels.model.pooling=median"],
        "tasks.labels.model.pooling: should be 'mean', 'first', 'last' or 'max', found 'median'",
    ),
    (
        ["tasks.x={task: translation, data: {path: x}}"],
        "tasks.x.task: translation needs a decoder, and the tasks share an encoder; " + JOINED,
    ),
    (
        ["tasks.x={task: language_modelling, data: {path: x}}"],
        "tasks.x.model.objective: causal reads from left to right, and the shared encoder reads "
        "both ways; set masked",
    ),
    (["tasks.tags=null"], "tasks: two tasks or more are joined; train a single one by its own"),
    (["tasks=3"], "tasks should name tasks, each with the path of its file, found 3"),
    (["tasks.x=3"], "tasks.x: should be the path of a task file, or its settings, found 3"),
    (["tasks.x={extends: 3}"], "tasks.x: extends should be the path of a task file, found 3"),
    (["tasks.x={data: {path: a}}"], f"tasks.x.task is missing; known: {', '.join(sorted(KINDS))}"),
    (
        ["tasks.x={task: poetry}"],
        "tasks.x.task: there is no kind 'poetry'; known: ",
    ),
    (["tasks={'a/b': {task: tagging, data: {path: x}}}"], "tasks.a/b: text should match pattern"),
    (["weighting=much"], "weighting: should be equal, uncertainty, or a weight for each task"),
    (["weighting={labels: 1}"], "weighting: the weight of tags is missing"),
    (
        ["weighting={labels: 1, tags: 1, tag: 2}"],
        "weighting: there is no task 'tag'; did you mean 'tags'? known: labels, tags",
    ),
    (["weighting={labels: 0, tags: 1}"], "weighting: a weight should be a number above 0, found 0"),
    (["sampling.temperature=0"], "sampling.temperature: should be greater than 0, found 0"),
    (["sampling.temp=1"], "sampling.temp is not a setting; known: temperature"),
    (["data={path: a}"], "data: each task has data of its own, in its own file; delete it here"),
    (
        ["training.class_weights=balanced"],
        "training: class_weights are of the labels of one task; say them in its file",
    ),
    (
        ["attention={regularise: [{term: agreement}]}"],
        "attention: agreement is with the rows of one task, and here are several",
    ),
    (
        ["attention.log=true", "training.eval_every=0"],
        "attention: log goes with evaluations; set training.eval_every, or delete log",
    ),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_what_cannot_be_joined_is_named_by_its_key(tmp_path, words, message):
    with pytest.raises(TaskError) as caught:
        load_task(write(tmp_path), words)
    text = re.sub(r"\n.*", "", str(caught.value)).removeprefix("command line: ")
    assert text.startswith(message), text


def test_line_of_a_task_that_differs_is_named(tmp_path):
    path = write(tmp_path, {**JOINT, "training": {"steps": 31}})
    with pytest.raises(
        TaskError,
        match=r"parts/tags\.yaml, line 5: tasks\.tags\.training\.steps: 30 here, and 31 for all",
    ):
        load_task(path)


def test_missing_file_of_a_task_is_named_with_the_line_that_names_it(tmp_path):
    path = write(tmp_path, {**JOINT, "tasks": {**JOINT["tasks"], "x": "none.yaml"}})
    with pytest.raises(
        TaskError, match=r"joint\.yaml, line 5: tasks\.x: .*none\.yaml: there is no such file$"
    ):
        load_task(path)


def test_joint_task_is_not_joined_again(tmp_path):
    path = write(tmp_path, {**JOINT, "tasks": {**JOINT["tasks"], "x": "joint.yaml"}})
    with pytest.raises(TaskError, match=r"line 5: tasks\.x\.task: a joint task cannot be joi"):
        load_task(path)
