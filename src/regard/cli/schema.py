"""`regard schema WHAT`: the JSON schemas of files that people write, and how to write programs."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from regard.errors import InputError, nearest


def print_schema(
    what: Annotated[str, typer.Argument(help="Of which files: task, mode, grammar or guide.")],
) -> None:
    """Print the JSON schema of task files or modes; the grammar of programs; a guide to modes."""
    if what not in _TEXTS:
        raise InputError(f"there is no schema of '{what}'; {nearest(what, _TEXTS)}")
    typer.echo(_TEXTS[what](), nl=False)


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False, indent=1) + "\n"


def _task() -> str:
    from regard.tasks import task_schema

    return _json(task_schema())


def _mode() -> str:
    from regard.search import mode_schema

    return _json(mode_schema())


def _grammar() -> str:
    from regard.search import write_grammar

    return write_grammar()


def _guide() -> str:
    from regard.search import write_guide

    return write_guide()


_TEXTS: dict[str, Callable[[], str]] = {
    "task": _task,
    "mode": _mode,
    "grammar": _grammar,
    "guide": _guide,
}
