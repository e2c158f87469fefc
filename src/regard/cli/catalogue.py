"""`regard catalogue WORDS`: the published variants, by family or by words.

Leaves to others: the variants (`catalogue`), showing one of them (`show`).
"""

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from regard.catalogue import (
    FAMILIES,
    describe_family,
    search,
    search_absent,
    suggest,
)
from regard.catalogue.absent import Absent
from regard.catalogue.variant import Variant
from regard.errors import InputError, nearest

NOTHING_FOUND = 1
_WIDTH = 100


def list_catalogue(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]", help="List those alone that speak of all these words."),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help=f"List one family alone: {', '.join(FAMILIES)}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """List published attention mechanisms, each a program; and those that no program can say.

    Ends with code 1 if nothing is found. `regard show NAME` shows one.
    """
    if family is not None and family not in FAMILIES:
        raise InputError(f"the catalogue has no family '{family}'; {nearest(family, FAMILIES)}")
    asked = " ".join(words or [])
    found = [one for one in search(asked) if family in (None, one.family)]
    absent = search_absent(asked) if family is None else []
    if as_json:
        told = {
            "variants": [describe_variant(one) for one in found],
            "absent": [asdict(one) for one in absent],
        }
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    elif found or absent:
        typer.echo("\n\n".join(_families(found, absent)))
    if not found and not absent:
        where = f"the family '{family}'" if family else "the catalogue"
        typer.echo(f"nothing in {where} speaks of '{asked}'; {suggest(asked)}", err=True)
        raise typer.Exit(NOTHING_FOUND)


def describe_variant(one: Variant) -> dict[str, Any]:
    """Return a variant as plain data.

    Args:
        one: The variant.

    Returns:
        What `--json` prints of it.
    """
    return {
        "name": one.name,
        "family": one.family,
        "title": one.title,
        "source": one.source,
        "link": one.link,
        "says": one.says,
        "use": one.use,
        "knobs": one.knobs,
        "contracts": list(one.contracts),
    }


def _families(found: Sequence[Variant], absent: Sequence[Absent]) -> Iterator[str]:
    wide = max(len(one.name) for one in [*found, *absent])
    for family in FAMILIES:
        own = [one for one in found if one.family == family]
        if own:
            lines = [f"{family}: {describe_family(family)}"]
            lines += [_entry(one, one.says, wide) for one in own]
            yield "\n".join(lines)
    if absent:
        lines = ["not in the catalogue, and why:"]
        yield "\n".join([*lines, *(_entry(one, one.reason, wide) for one in absent)])


def _entry(one: Variant | Absent, text: str, wide: int) -> str:
    """Return a name, with its source and a text beside it."""
    indent = " " * (wide + 4)
    lines = textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join([f"  {one.name:<{wide}}  {one.title}, {one.source}", *lines])
