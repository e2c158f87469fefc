"""`regard verdict TASK MODE…`: modes against plain attention, over several seeds, on test rows.

Leaves to others: all of the work (`customise`).
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

# What a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def verdict(
    task: Annotated[Path, typer.Argument(help="The task file (YAML), without a mode.")],
    modes: Annotated[
        list[str],
        typer.Argument(
            metavar="MODE…",
            help="Finalists: names of ready modes, mode.json files, or programs.",
        ),
    ],
    runs: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the verdict; verdicts/NAME if not given.", show_default=False
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each contender.")] = 5,
    random: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="The winner of a random search at equal budget; compared with as well.",
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="The chance of any false alarm.")] = 0.05,
    margin: Annotated[
        str, typer.Option(help="The loss that counts as none: 1% of plain's score, or a number.")
    ] = "1%",
    faster: Annotated[
        float, typer.Option(help="The share of plain attention's time that counts as cheaper.")
    ] = 0.7,
    metric: Annotated[
        str | None,
        typer.Option(help="Judge by this one; the task's first if not given.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the verdict that is there.")
    ] = False,
) -> None:
    """Train modes and plain attention with several seeds, and say what is shown on test rows."""
    # Here, so that `regard --help` does not wait for torch.
    from regard.customise.verdict import judge_modes
    from regard.customise.verdict.plan import Terms, VerdictFolder
    from regard.customise.verdict.report import verdict_lines, write_verdict
    from regard.tasks import load_task

    folder = VerdictFolder(runs or Path("verdicts") / task.stem)
    words = ["regard", "verdict", str(task), *modes, "--runs", str(folder.path)]
    told = {"seeds": seeds, "random": random, "alpha": alpha, "margin": margin, "faster": faster}
    for option, value in {**told, "metric": metric}.items():
        words += [] if value is None else [f"--{option}", str(value)]
    found = judge_modes(
        load_task(task), modes, folder.path, Terms(seeds, alpha, margin, faster, metric),
        random=random, resume=resume, say=_say,
    )  # fmt: skip
    if found is None:
        typer.echo(f"stopped; continue with: {shlex.join([*words, '--resume'])}")
        raise typer.Exit(INTERRUPTED)
    write_verdict(found, folder, shlex.join(words))
    typer.echo(verdict_lines(found))
    typer.echo(f"verdict: {folder.answer}\nreport: {folder.page}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
