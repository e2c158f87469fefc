"""A task with other settings: what a search tries."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from regard.errors import TaskError, nearest
from regard.tasks.kinds import Task
from regard.tasks.layers import part_of
from regard.tasks.search_settings import Range, SearchSettings


def vary(task: Task, settings: Mapping[str, Any]) -> Task:
    """Return a task with some settings replaced, and nothing to be searched.

    Args:
        task: The task.
        settings: Values by dotted key.

    Returns:
        The other task.

    Raises:
        TaskError: If there is no such setting, or it cannot have such a value.
    """
    values = task.model_dump()
    values["search"] = None
    for key, value in settings.items():
        *parts, last = key.split(".")
        inside = values
        for part in parts:
            inside = inside.get(part) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            known = [name for name in _keys(type(task)) if not name.startswith("search")]
            raise TaskError(f"there is no setting '{key}'; {nearest(key, known)}")
        inside[last] = value
    try:
        return type(task).model_validate(values)
    except ValidationError as problem:
        said = "; ".join(one["msg"].removeprefix("Value error, ") for one in problem.errors())
        tried = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        raise TaskError(f"{tried}: {said}") from None


def _keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all settings of a schema."""
    for name, field in schema.model_fields.items():
        inner = part_of(field.annotation)
        if inner is None:
            yield f"{prefix}{name}"
        else:
            yield from _keys(inner, f"{prefix}{name}.")


def check_search(task: Task) -> SearchSettings:
    """Return what a task says of its search, once each value it may try was found to be possible.

    Args:
        task: The task.

    Returns:
        Its part `search`.

    Raises:
        TaskError: If it has none, names a setting that there is not, or a value it cannot have.
    """
    if task.search is None:
        raise TaskError(
            "the task says nothing of a search; give it a part such as\n"
            "search:\n  ranges:\n    training.lr: {low: 0.0005, high: 0.01, log: true}\n"
            "    model.layers: [1, 2, 4]"
        )
    for key, values in task.search.ranges.items():
        for value in ends_of(values):
            try:
                vary(task, {key: value})
            except TaskError as problem:
                raise TaskError(f"search.ranges: {problem}") from None
    return task.search


def ends_of(values: list[Any] | Range) -> list[Any]:
    """Return the values between which all others are.

    Args:
        values: A list, or a range of numbers.

    Returns:
        All of a list; both ends of a range.
    """
    return values if isinstance(values, list) else [values.low, values.high]
