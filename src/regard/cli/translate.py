"""`regard translate`: translate with the model of a run."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def translate(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Texts; the lines of standard input if not given.", show_default=False),
    ] = None,
) -> None:
    """Translate texts, one line each."""
    from regard.train import translate_run

    texts = text or sys.stdin.read().splitlines()
    for line in translate_run(run, texts):
        typer.echo(line)
