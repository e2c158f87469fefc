"""`regard predict`: what a run's model answers to the rows of a file."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regard.data import BadRow


def predict(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    file: Annotated[Path, typer.Argument(help="The rows: .csv, .tsv, .jsonl, .txt, .parquet, …")],
    out: Annotated[
        Path | None,
        typer.Option(help="The .jsonl to write; standard output if not given.", show_default=False),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Which task of a run that joins several.", show_default=False),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Go on after a row that cannot be read or answered.")
    ] = False,
) -> None:
    """Answer each row of a file with a trained model: a JSON object a line, as rows are read."""
    from regard.train import predict_run

    skipped: list[BadRow] = []

    def note(bad: "BadRow") -> None:
        skipped.append(bad)
        typer.echo(f"{file}, line {bad.line}: {bad.problem}", err=True)

    written = 0
    with _opened(out) as lines:
        for line, answer in predict_run(run, file, note if skip else None, task=task):
            lines.write(json.dumps({"line": line, "prediction": answer}, ensure_ascii=False) + "\n")
            lines.flush()
            written += 1
    if out is not None or skipped:
        where = "" if out is None else f", kept in {out}"
        typer.echo(f"{written} rows answered, {len(skipped)} skipped{where}", err=True)


@contextmanager
def _opened(out: Path | None) -> "Iterator[TextIO]":
    if out is None:
        yield sys.stdout
        return
    with out.open("w", encoding="utf-8") as file:
        yield file
