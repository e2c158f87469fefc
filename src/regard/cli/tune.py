"""`regard tune`: search for the settings of a task that are best on its validation rows."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regard.train.trials import Trial

# What a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def tune(
    task: Annotated[Path, typer.Argument(help="The task file (YAML), with a part `search`.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings in place of the file's: search.trials=50", metavar="K=V"),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the study; studies/NAME if not given.", show_default=False
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that train side by side.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the study that is there.")
    ] = False,
) -> None:
    """Try settings of a task, and keep the task file that is best on the validation rows."""
    from regard.tasks import load_task
    from regard.train.study import StudyFolder
    from regard.train.study import tune as tune_task
    from regard.train.trials import best_of

    folder = StudyFolder(study or Path("studies") / task.stem)
    found = tune_task(
        load_task(task, settings or ()), folder.path, workers, resume,
        on_trial=lambda one: typer.echo(_line(one), err=True),
    )  # fmt: skip
    typer.echo(trial_table(found))
    if found and found[-1].state == "stopped":
        words = ["regard", "tune", str(task), *(settings or ()), "--study", str(folder.path)]
        typer.echo(f"stopped; continue with: {shlex.join([*words, '--resume'])}")
        raise typer.Exit(INTERRUPTED)
    best = best_of(found)
    if best is not None:
        typer.echo(f"best: trial {best.number}, kept as {folder.best}")
    typer.echo(f"table: {folder.table}")


def trial_table(trials: "Sequence[Trial]") -> str:
    """Return trials as lines for a terminal, the best first.

    Args:
        trials: Any number.

    Returns:
        Text without a final newline.
    """
    from regard.train.trials import ranked

    return "\n".join(_line(one) for one in ranked(trials))


def _line(one: "Trial") -> str:
    value = "" if one.value is None else f"{one.metric} {one.value:.4g}"
    settings = "  ".join(f"{key}={_short(value)}" for key, value in one.settings.items())
    said = one.problem or settings
    return f"trial {one.number:<4} {one.state:<9} {value:<24} {said}".rstrip()


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
