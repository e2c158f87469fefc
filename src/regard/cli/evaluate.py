"""`regard evaluate`: score the model of a run again."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Other rows, in columns or keys like the task's.", show_default=False),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Which task of a run that joins several.", show_default=False),
    ] = None,
) -> None:
    """Score a trained model on its held-out rows, or on other rows."""
    from regard.cli.tables import sample_table, score_table
    from regard.train import evaluate_run

    found = evaluate_run(run, data, task)
    typer.echo(score_table(found.metrics()))
    typer.echo(sample_table(found.records))
