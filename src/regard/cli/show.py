"""`regard show PROGRAM`: its formula, what it reads, how it would run, its picture and its code.

Of a variant of the catalogue also who published it, when to use it, and its knobs.
Leaves to others: finding the program (`find_program`), drawing (`view`).
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from regard import view
from regard.catalogue.find_program import HELP, find_variant, load_program
from regard.catalogue.variant import Variant
from regard.cli.catalogue import describe_variant
from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram, Leaf
from regard.ops.explain import Explanation, emitted_code, explain

# What the explanation is for, unless the command says otherwise.
_ROWS, _HEADS, _WIDTH = 512, 8, 64


def show(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help=HELP)],
    out: Annotated[
        Path | None, typer.Option(help="Write the picture here: .png, .svg or .pdf.")
    ] = None,
    latex: Annotated[
        bool, typer.Option("--latex", help="Print the formula as LaTeX, alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    code: Annotated[
        str | None,
        typer.Option(
            metavar="BACKEND", help="Print the code that a backend writes, alone: cpu or triton."
        ),
    ] = None,
    backward: Annotated[
        bool, typer.Option("--backward", help="With --code: that of the gradient.")
    ] = False,
    queries: Annotated[
        int | None, typer.Option(min=1, help="N; 32 in the picture, 512 in the explanation.")
    ] = None,
    keys: Annotated[
        int | None, typer.Option(min=1, help="M; as many as queries unless given.")
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option(min=1, help="H; 8, or 1 in the picture of a program alike in all heads."),
    ] = None,
) -> None:
    """Show a program: its formula, what it reads, how it would run; --out draws it."""
    found, named = load_program(program), find_variant(program)
    if backward and code is None:
        raise InputError("--backward shows the gradient's code; give --code as well")
    if code is not None:
        shapes = _shapes(queries, keys, heads)
        typer.echo(emitted_code(found, *shapes, backend=code, training=backward), nl=False)
    elif latex:
        typer.echo(found.formula("latex"))
    elif as_json:
        described = describe(found, _explain(found, queries, keys, heads))
        if named is not None:
            described["variant"] = describe_variant(named[0]) | {"set": named[1]}
        typer.echo(json.dumps(described, ensure_ascii=False, indent=2))
    else:
        shown = report(found, _explain(found, queries, keys, heads))
        typer.echo("\n\n".join([*([] if named is None else [_credit(*named)]), shown]))
    if out is not None:
        view.draw(found, queries or 32, keys, heads=heads, path=out)
        # Kept apart from what a pipe may read.
        print(f"picture: {out}", file=sys.stderr)


def _explain(
    program: AttentionProgram, queries: int | None, keys: int | None, heads: int | None
) -> Explanation:
    return explain(program, *_shapes(queries, keys, heads))


def _shapes(queries: int | None, keys: int | None, heads: int | None) -> list[tuple[int, ...]]:
    """Return the shapes of q and k that a program is explained for."""
    rows, heads = queries or _ROWS, heads or _HEADS
    return [(1, heads, rows, _WIDTH), (1, heads, keys or rows, _WIDTH)]


def _credit(variant: Variant, knobs: dict[str, Any]) -> str:
    """Return who published a variant, and how its knobs are set."""
    lines = [f"{variant.title}, {variant.source}", variant.link]
    if variant.contracts and knobs:
        lines.append(f"contracts as published: {', '.join(variant.contracts)}")
    for name, published in variant.knobs.items():
        now = f"{knobs[name]!r}, published as " if name in knobs else ""
        lines.append(f"knob {name} = {now}{published!r}")
    return "\n".join(lines)


def report(program: AttentionProgram, explanation: Explanation) -> str:
    """Return what the command prints.

    Args:
        program: The program.
        explanation: How it would run.

    Returns:
        Text without a final newline.
    """
    parts = [program.formula()]
    if program.doc:
        parts.append(program.doc)
    parts.append("contracts: " + (", ".join(program.contracts) or "none declared"))
    rows = [(one["name"], one["kind"], one["shape"], one["start"]) for one in inputs_of(program)]
    if rows:
        wide = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["reads, beside q, k and v:"]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, wide, strict=False)]
            lines.append("  " + "  ".join([*cells, row[3]]).rstrip())
        parts.append("\n".join(lines))
    parts.append(str(explanation).removeprefix(explanation.formula).strip())
    return "\n\n".join(parts)


def describe(program: AttentionProgram, explanation: Explanation) -> dict[str, Any]:
    """Return the same as plain data.

    Args:
        program: The program.
        explanation: How it would run.

    Returns:
        What `--json` prints.
    """
    how = {
        key: value
        for key, value in explanation.as_dict().items()
        if key not in ("program", "formula")
    }
    return {
        "name": program.name,
        "doc": program.doc,
        "contracts": list(program.contracts),
        "hash": program.hash,
        "formula": program.formula(),
        "latex": program.formula("latex"),
        "inputs": inputs_of(program),
        "explanation": how,
        "program": json.loads(program.to_json()),
    }


def inputs_of(program: AttentionProgram) -> list[dict[str, str]]:
    """Return what a program reads beside q, k and v.

    Args:
        program: The program.

    Returns:
        For each input its name, kind, shape in the letters of the language, and how it starts.
    """
    return [_describe_input(leaf) for leaf in program.inputs if leaf.name not in ("q", "k", "v")]


def _describe_input(leaf: Leaf) -> dict[str, str]:
    match leaf:
        case n.Array():
            start = f"starts as {_start(leaf.init)}" if leaf.source == "parameter" else ""
            return _row(leaf, leaf.source, _array_shape(leaf), start)
        case n.Scalar():
            start = "must be given" if leaf.default is None else f"{leaf.default:g} unless given"
            return _row(leaf, "run-time scalar", "()", start)
        case n.Feature():
            shape = "(B, H, N)" if leaf.side == "query" else "(B, G or H, M)"
            return _row(leaf, f"{leaf.side} feature", f"broadcasts to {shape}", "")
        case n.Vector():
            rows = "(B, H, N, any width)" if leaf.side == "query" else "(B, G, M, any width)"
            return _row(leaf, f"{leaf.side} vector", rows, "")
        case _:
            return _row(leaf, "pair input", "(B or 1, H or 1, N, M)", "")


def _row(leaf: Leaf, kind: str, shape: str, start: str) -> dict[str, str]:
    return {"name": leaf.name, "kind": kind, "shape": shape, "start": start}


def _array_shape(array: n.Array) -> str:
    if not array.per:
        return "() one number"
    letters = {"head": "H", "channel": "channels", "rows": "any"}
    sizes = [letters[axis] if isinstance(axis, str) else str(axis) for axis in array.per]
    per = array.per[0] if len(array.per) == 1 else array.per
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''}) per={per!r}"


def _start(init: n.Init | None) -> str:
    if init is None:
        return "zeros"
    numbers = ", ".join(f"{number:g}" for number in init.numbers)
    return f"{init.name}({numbers})" if numbers else init.name
