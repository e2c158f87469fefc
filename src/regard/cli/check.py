"""`regard check PROGRAM`: which contracts it keeps, which it breaks, and with which pair.

Leaves to others: finding the program (`programs`), the answers (`ops/contracts`).
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from regard import view
from regard.catalogue.find_program import HELP, load_program
from regard.errors import InputError
from regard.ops.contracts.check import PROVED, REFUTED, check

NOT_KEPT = 1


def check_program(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help=HELP)],
    contract: Annotated[
        list[str] | None,
        typer.Option(
            help='Ask for this one, such as "causal" or "window <= 256"; may be given again. '
            "All are asked for unless one is."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Draw the pair that breaks the first refuted contract: .png, .svg, .pdf."
        ),
    ] = None,
) -> None:
    """Check a program's contracts: proved, refuted with a pair, or unknown.

    Ends with code 1 if a contract that is asked for or declared is not proved.
    """
    found = check(load_program(program), contract)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo(str(found))
    if out is not None:
        refuted = [answer for answer in found if answer.status == REFUTED]
        if not refuted:
            raise InputError("no contract is refuted: there is no pair to draw")
        view.draw_counterexample(refuted[0], out)
        print(f"picture: {out} ({refuted[0].contract})", file=sys.stderr)
    needed = [answer for answer in found if contract or answer.declared]
    if any(answer.status != PROVED for answer in needed):
        raise typer.Exit(NOT_KEPT)
