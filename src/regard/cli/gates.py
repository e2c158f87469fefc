"""`regard gates TASK.yaml`: learn in one training run which program each head should run.

Leaves to others: all of the work (`customise.gates`).
"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

# What a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def gates(
    task: Annotated[Path, typer.Argument(help="The task file (YAML).")],
    candidates: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODE…",
            help="What plain attention is tried beside: ready modes, mode.json files or programs; "
            "the ready modes that fit if none is given.",
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run folder; runs/NAME-gates if not given.")
    ] = None,
    cost: Annotated[
        float, typer.Option(help="What the predicted time of attention counts in the loss.")
    ] = 0.0,
    head_groups: Annotated[
        int | None, typer.Option(help="Gates of a layer; one for each head if not given.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that is there.")
    ] = False,
) -> None:
    """Learn in one training run which of several programs each head should run."""
    # Here, so that `regard --help` does not wait for torch.
    from regard.customise.gates import learn_gates
    from regard.tasks import load_task

    folder = run or Path("runs") / f"{task.stem}-gates"
    found = learn_gates(
        load_task(task), candidates or None, folder, cost=cost, head_groups=head_groups,
        resume=resume,
    )  # fmt: skip
    if not found.finished:
        words = ["regard", "gates", str(task), *(candidates or ()), "--run", str(folder)]
        words += ["--cost", str(cost)]
        words += [] if head_groups is None else ["--head-groups", str(head_groups)]
        typer.echo(f"stopped; continue with: {shlex.join([*words, '--resume'])}")
        raise typer.Exit(INTERRUPTED)
    typer.echo(str(found.mode()))
    for name, scores in (("at the end", found.final), ("as gates settled", found.before)):
        shown = ", ".join(f"{metric} {value:.4g}" for metric, value in (scores or {}).items())
        typer.echo(f"validation rows {name}: {shown or 'there are none'}")
    typer.echo(f"mode: {folder / 'model' / 'mode.json'}\nshares: {folder / 'gates.png'}")
