"""The task file: what to learn from what, in YAML, checked before anything runs.

Leaves to others: its layers (`layers`), the schema of each kind (`kinds`).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from regard.errors import TaskError, nearest
from regard.tasks.complaints import complain
from regard.tasks.joint import ALL_KINDS, JOINT, EveryTask, JointTask
from regard.tasks.joint_file import TASKS, outer, take_tasks
from regard.tasks.kinds import KINDS, Task
from regard.tasks.layers import EXTENDS, Layer, merge_layers, read_layers


def load_task(path: str | os.PathLike, overrides: Sequence[str] = ()) -> Task:
    """Read a task file.

    Args:
        path: A YAML file. The paths in it are relative to its folder; `extends` names another task
            file, whose settings hold where this one says nothing.
        overrides: Settings that replace the file's, such as "training.steps=100"; their paths are
            relative to the folder one is in.

    Returns:
        The task, of the class of its kind, with absolute paths.

    Raises:
        TaskError: If a file cannot be read or says something that has no meaning; the message
            names each place by file, line and dotted key.
    """
    place = Path(path)
    layers = read_layers(place, overrides)
    schema = _schema_of(place, layers, ALL_KINDS)
    whole = _join(place, layers) if schema is JointTask else merge_layers(layers, schema)
    try:
        return schema.model_validate(whole.values)
    except ValidationError as problem:
        lines = complain(problem, schema, whole.origins, str(place))
        raise TaskError("\n".join(lines)) from None


def _join(place: Path, layers: Sequence[Layer]) -> Layer:
    """Return what all layers of a joint task say together, those of its tasks among them."""
    tasks = take_tasks(layers)
    whole = merge_layers(layers, JointTask)
    if tasks:
        whole.values[TASKS] = {}
    for name, own in tasks.items():
        at = whole.origins.get((TASKS, name), str(place))
        merged = merge_layers(own, _schema_of(at, own, KINDS, f"{TASKS}.{name}."))
        whole.values[TASKS][name] = merged.values
        whole.origins |= outer(merged.origins, name)
    return whole


def _schema_of(
    place: Path | str, layers: Sequence[Layer], known: Mapping[str, type[Task]], inside: str = ""
) -> type[Task]:
    """Return the schema of the kind that the last layer to name one names."""
    for layer in reversed(layers):
        if "task" not in layer.values:
            continue
        kind = layer.values["task"]
        if kind == JOINT and kind not in known:
            raise TaskError(
                f"{place}: {inside}task: a joint task cannot be joined again; list its tasks here"
            )
        if not isinstance(kind, str) or kind not in known:
            raise TaskError(
                f"{layer.origins.get(('task',), place)}: {inside}task: there is no kind {kind!r}; "
                f"{nearest(str(kind), known)}"
            )
        return known[kind]
    raise TaskError(f"{place}: {inside}task is missing; known: {', '.join(sorted(known))}")


def save_task(task: Task, path: str | os.PathLike) -> None:
    """Write a task file.

    Args:
        task: The task.
        path: Where; its folder must exist.
    """
    text = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def task_schema() -> dict[str, Any]:
    """Return the JSON schema of task files, for editors.

    Returns:
        A schema of draft 2020-12. A file that extends another may leave out what that one says.
    """
    whole: dict[str, Any] = TypeAdapter(EveryTask).json_schema()
    kinds = [schema.__name__ for schema in ALL_KINDS.values()]
    extends = {"type": "string", "description": "Another task file, whose settings hold here."}
    file = {"type": "string", "description": "The file of a task."}
    parts = [{"$ref": f"#/$defs/{schema.__name__}Part"} for schema in KINDS.values()]
    joined = whole["$defs"][JointTask.__name__]["properties"][TASKS]
    joined["additionalProperties"] = False
    for pattern in joined["patternProperties"]:
        joined["patternProperties"][pattern] = {"anyOf": [file, *parts]}
    for name in kinds:
        full = whole["$defs"][name]
        full["properties"][EXTENDS] = extends
        whole["$defs"][f"{name}Part"] = {k: v for k, v in full.items() if k != "required"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A task of regard",
        "$defs": whole["$defs"],
        "type": "object",
        "if": {"required": [EXTENDS]},
        "then": {"anyOf": [{"$ref": f"#/$defs/{name}Part"} for name in kinds]},
        "else": {"oneOf": whole["oneOf"], "discriminator": whole["discriminator"]},
    }
