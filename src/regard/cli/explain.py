"""`regard explain PROGRAM`: where a call would run, which blocks it visits, how long it takes.

Leaves to others: finding the program (`programs`), the answer (`ops/explain`).
"""

import json
import sys
from typing import Annotated

import torch
import typer

from regard.catalogue.find_program import HELP, load_program
from regard.errors import InputError, nearest
from regard.ops.explain import explain
from regard.ops.imagine_call import random_rows
from regard.ops.measure_machine import measure_machine

_DTYPES = ("float32", "float64", "bfloat16", "float16")


def explain_program(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help=HELP)],
    batch: Annotated[int, typer.Option(min=1, help="B.")] = 1,
    heads: Annotated[int, typer.Option(min=1, help="H.")] = 8,
    groups: Annotated[
        int | None, typer.Option(min=1, help="G, heads of keys and values; H unless given.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="N.")] = 2048,
    keys: Annotated[int | None, typer.Option(min=1, help="M; N unless given.")] = None,
    width: Annotated[int, typer.Option(min=1, help="D.")] = 64,
    dtype: Annotated[str, typer.Option(help=", ".join(_DTYPES) + ".")] = "float32",
    backend: Annotated[str, typer.Option(help='"auto", or the name of one.')] = "auto",
    training: Annotated[
        bool, typer.Option("--training", help="With the gradients of q, k, v and all parameters.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run the call, and say how long it takes.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Predict no time if this machine is not yet measured.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Explain a call: its backend, its blocks of pairs, its cost, its time.

    The first prediction on a machine takes some seconds: calls are timed once, and kept.
    """
    if dtype not in _DTYPES:
        raise InputError(f"there is no dtype '{dtype}' here; {nearest(dtype, _DTYPES)}")
    found = load_program(program)
    one = torch.zeros((), dtype=getattr(torch, dtype))
    q = one.expand(batch, heads, queries, width)
    k = one.expand(batch, groups or heads, keys or queries, width)
    if not quick:
        measure_machine(dtype=one.dtype, say=_say)
    rows = [random_rows(q), random_rows(k)] if measure else [q, k]
    told = explain(found, *rows, backend=backend, training=training, measure=measure)
    typer.echo(json.dumps(told.as_dict(), ensure_ascii=False, indent=2) if as_json else str(told))


def _say(line: str) -> None:
    # Kept apart from what a pipe may read.
    print(line, file=sys.stderr)
