"""`regard schema task`: the JSON schema of files that people write, for their editors."""

import json
from typing import Annotated

import typer

from regard.errors import InputError, nearest


def print_schema(
    what: Annotated[str, typer.Argument(help="Of which files: task.")],
) -> None:
    """Print the JSON schema of task files."""
    from regard.tasks import task_schema

    schemas = {"task": task_schema}
    if what not in schemas:
        raise InputError(f"there is no schema of '{what}'; {nearest(what, schemas)}")
    typer.echo(json.dumps(schemas[what](), ensure_ascii=False, indent=1))
