"""`regard train`: train a task and score it."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

# What a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def train(
    task: Annotated[Path, typer.Argument(help="The task file (YAML).")],
    run: Annotated[
        Path | None,
        typer.Option(help="The run folder; runs/NAME if not given.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that is there.")
    ] = False,
) -> None:
    """Train a model, score it on held-out pairs, and keep everything in a run folder."""
    # Here, so that `regard --help` does not wait for torch.
    from regard.cli.tables import score_table
    from regard.tasks import load_task
    from regard.train import train as train_task
    from regard.train.report import write_run_report

    folder = run or Path("runs") / task.stem
    result = train_task(load_task(task), folder, resume=resume)
    if result.metrics is None:
        again = shlex.join(["regard", "train", str(task), "--run", str(folder), "--resume"])
        typer.echo(f"stopped at step {result.step} of {result.steps}; continue with: {again}")
        raise typer.Exit(INTERRUPTED)
    typer.echo(score_table(result.metrics["test"]))
    report = folder / "report.html"
    command = shlex.join(["regard", "train", str(task), "--run", str(folder)])
    write_run_report({task.stem: folder}, report, f"Translation: {task.stem}", command)
    training = result.metrics["training"]
    typer.echo(f"{training['steps']} steps in {training['seconds']:.0f} s, kept in {folder}")
    typer.echo(f"report: {report}")
