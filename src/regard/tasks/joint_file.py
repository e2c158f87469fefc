"""The task files that a joint task names, read as if they stood in it.

Leaves to others: what the tasks may say (`joint`, `kinds`), the layers of each (`layers`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.errors import RegardError, TaskError, located
from regard.tasks.layers import EXTENDS, Layer, read_layers
from regard.tasks.settings import absolute
from regard.tasks.yaml_file import Key

TASKS = "tasks"


def take_tasks(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """Take the tasks of a joint task out of its layers.

    A path stands for the file's layers and replaces what was said before; settings are one layer
    more, upon those of the file that they extend; null takes a task back.

    Args:
        layers: Of the joint task, the most basic first; they lose their tasks.

    Returns:
        The layers of each task by its name.

    Raises:
        TaskError: If a file cannot be read, or what is said is neither a file nor settings.
    """
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        said_of = layer.values.get(TASKS)
        if TASKS in layer.values and not isinstance(said_of, dict):
            place = layer.origins[TASKS,]
            raise TaskError(
                f"{place}: {TASKS} should name tasks, each with the path of its file, found "
                f"{said_of!r}"
            )
        for name, said in layer.values.pop(TASKS, {}).items():
            place = layer.origins.get((TASKS, name)) or layer.origins[TASKS,]
            try:
                _add(found, str(name), said, layer)
            except RegardError as problem:
                raise located(problem, f"{place}: {TASKS}.{name}") from None
    return found


def _add(found: dict[str, list[Layer]], name: str, said: Any, layer: Layer) -> None:
    if said is None:
        found.pop(name, None)
    elif isinstance(said, str):
        found[name] = read_layers(Path(absolute(said, layer.folder)))
    elif isinstance(said, dict):
        base, origins = said.get(EXTENDS), _inner(layer.origins, name)
        if base is not None and not isinstance(base, str):
            raise TaskError(f"{EXTENDS} should be the path of a task file, found {base!r}")
        own = Layer({k: v for k, v in said.items() if k != EXTENDS}, layer.folder, origins)
        above = read_layers(Path(absolute(base, layer.folder))) if base else []
        found[name] = [*(above or found.get(name, [])), own]
    else:
        raise TaskError(f"should be the path of a task file, or its settings, found {said!r}")


def _inner(origins: Mapping[Key, str], name: str) -> dict[Key, str]:
    """Return the origins of what stands in a task, by the key inside it."""
    return {key[2:]: place for key, place in origins.items() if key[:2] == (TASKS, name)}


def outer(origins: Mapping[Key, str], name: str) -> dict[Key, str]:
    """Return the origins of a task's settings, by the key in the joint task.

    Args:
        origins: By the key inside the task.
        name: Of the task.

    Returns:
        The same places.
    """
    return {(TASKS, name, *key): place for key, place in origins.items()}
