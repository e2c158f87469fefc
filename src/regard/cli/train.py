"""`regard train`: train a task and score it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regard.data import Report

# What a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def train(
    task: Annotated[Path, typer.Argument(help="The task file (YAML).")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings in place of the file's: training.steps=100", metavar="K=V"),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The run folder; runs/NAME if not given.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that is there.")
    ] = False,
) -> None:
    """Train a model, score it on held-out rows, and keep everything in a run folder."""
    # Here, so that `regard --help` does not wait for torch.
    from regard.cli.tables import score_table
    from regard.tasks import load_task
    from regard.train import processes
    from regard.train import train as train_task
    from regard.train.report import write_run_report

    folder = run or Path("runs") / task.stem
    words = ["regard", "train", str(task), *(settings or ()), "--run", str(folder)]
    loaded = load_task(task, settings or ())
    result = train_task(loaded, folder, resume=resume, on_report=_show_warnings)
    if not processes.is_first():
        # One of several processes speaks for all.
        raise typer.Exit(0 if result.finished else INTERRUPTED)
    if result.metrics is None:
        again = shlex.join([*words, "--resume"])
        typer.echo(f"stopped at step {result.step} of {result.steps}; continue with: {again}")
        raise typer.Exit(INTERRUPTED)
    typer.echo(score_table(result.metrics["test"]))
    report = folder / "report.html"
    title = f"{loaded.task.replace('_', ' ').capitalize()}: {task.stem}"
    write_run_report({task.stem: folder}, report, title, shlex.join(words))
    training = result.metrics["training"]
    if training["trained"] < training["parameters"]:
        share = f"{training['share']:.2%}"
        typer.echo(f"{training['trained']:,} weights were trained, {share} of all")
    typer.echo(f"{training['steps']} steps in {training['seconds']:.0f} s, kept in {folder}")
    typer.echo(f"report: {report}")


def _show_warnings(report: "Report") -> None:
    typer.echo(f"the data:\n{report}\n", err=True)
