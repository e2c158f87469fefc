"""`regard customise TASK.yaml`: find attention for a task within a budget.

Leaves to others: all of the work (`customise`).
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regard.customise import Progress, Result

# What a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def customise(
    task: Annotated[Path, typer.Argument(help="The task file (YAML).")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings in place of the file's: training.steps=100", metavar="K=V"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="How long it may take: 90s, 30m, 2h; 30m if not given, nor trials."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many candidates at most.")] = None,
    objective: Annotated[
        str, typer.Option(help="quality; or all: quality, step time and memory.")
    ] = "quality",
    method: Annotated[
        str, typer.Option(help="halving; or random, which the search has to beat.")
    ] = "halving",
    metric: Annotated[
        str | None, typer.Option(help="Of the validation rows; the first of the kind.")
    ] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="Modes in JSON that are candidates, too.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    study: Annotated[
        Path | None,
        typer.Option(help="The folder of the study; customised/NAME if not given."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study that is there.")
    ] = False,
) -> None:
    """Find attention for a task on its validation rows, and keep the best mode."""
    # Here, so that `regard --help` does not wait for torch.
    from regard.customise import Options, parse_duration
    from regard.customise import customise as customise_task
    from regard.tasks import load_task

    seconds = None if budget is None else parse_duration(budget)
    options = Options(seconds, trials, objective, method, metric, proposals, seed)
    folder = study or Path("customised") / task.stem
    found = customise_task(
        load_task(task, settings or ()), folder, options, resume, on_progress=_show
    )
    _tell(found)
    if found.mode is not None and not settings:
        judge = shlex.join(["regard", "verdict", str(task), str(found.folder.mode)])
        typer.echo(f"what of it holds on the test rows: {judge}")
    if found.stopped == "interrupt":
        given = {
            "study": folder, "budget": budget, "trials": trials, "objective": objective,
            "method": method, "metric": metric, "proposals": proposals, "seed": seed,
        }  # fmt: skip
        typer.echo(f"stopped; go on with: {_again([str(task), *(settings or ())], given)}")
        raise typer.Exit(INTERRUPTED)


def _tell(found: "Result") -> None:
    """Print what came of a search, and where it lies."""
    from regard.customise.report import summary

    for one in found.refusals:
        typer.echo(f"refused proposal: {one}", err=True)
    typer.echo(summary(found))
    if found.mode is not None:
        typer.echo(f"mode: {found.folder.mode}")
    typer.echo(f"task: {found.folder.best}")
    typer.echo(f"report: {found.folder.report}")


def _again(words: list[str], given: dict[str, object]) -> str:
    """Return the command that goes on with what was stopped."""
    said = [word for k, v in given.items() if v is not None for word in (f"--{k}", str(v))]
    return shlex.join(["regard", "customise", *words, *said, "--resume"])


def _show(at: "Progress") -> None:
    """Print a line when a training begins, and one when it has ended."""
    typer.echo(str(at), err=True)
