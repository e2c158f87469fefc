"""`regard suggest "TASK"`: ready modes for a task told in words, with reasons.

Leaves to others: the ranking (`modes/suggestions`).
"""

import json
from typing import Annotated

import typer

from regard.modes.collection import READY
from regard.modes.suggestions import suggest

NOTHING_KNOWN = 1


def suggest_modes(
    task: Annotated[
        list[str],
        typer.Argument(metavar="TASK", help='"long contracts where a few phrases decide"'),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Suggest ready modes for a task that is told in words; offline.

    Ends with code 1 if no word of the task speaks for a mode.
    """
    found = suggest(" ".join(task))
    if as_json:
        told = [{"name": x.mode.name, "score": x.score, "reasons": x.reasons} for x in found]
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    for number, one in enumerate([] if as_json else found, 1):
        typer.echo(f"{number}. {one.mode.name}: {one.mode.intent}")
        typer.echo("\n".join(f"     {reason}" for reason in one.reasons))
    if not found:
        typer.echo(
            f"no word of this speaks for a mode; `regard modes` lists all: {', '.join(READY)}",
            err=True,
        )
        raise typer.Exit(NOTHING_KNOWN)
    if not as_json:
        typer.echo("\nA suggestion is a place to start: which mode is best, data must tell.")
