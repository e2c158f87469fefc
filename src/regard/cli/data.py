"""`regard data TASK.yaml`: read and check the data of a task, and tell what was found."""

import json
from pathlib import Path
from typing import Annotated

import typer

# What `regard` ends with when something is wrong with what it was given.
REFUSED = 2


def check_data(
    task: Annotated[Path, typer.Argument(help="The task file (YAML).")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings in place of the file's: data.max_words=50", metavar="K=V"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print counts and every finding as JSON.")
    ] = False,
) -> None:
    """Check the data of a task: files, rows, labels, and what splits share.

    Ends with code 2 if training would refuse them.
    """
    from regard.tasks import load_task, load_task_data

    corpus = load_task_data(load_task(task, settings or ()))
    report = corpus.report
    if as_json:
        found = {**report.as_dict(), "labels": list(corpus.labels), "sha256": corpus.sha256}
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        typer.echo(str(report))
    if report.errors:
        raise typer.Exit(REFUSED)
