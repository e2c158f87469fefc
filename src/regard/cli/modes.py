"""`regard modes NAME…`: ready modes listed, one of them explained, several compared and drawn.

Leaves to others: the modes (`modes`), the picture (`view`).
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from regard import view
from regard.catalogue import VARIANTS
from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.modes.collection import READY, find
from regard.modes.mode import save_mode
from regard.modes.ready import ReadyMode
from regard.ops.contracts.check import check
from regard.ops.explain import explain
from regard.ops.measure_machine import measure_machine

_WIDTH, _HEADS, _CHANNELS = 100, 8, 64
_PLAIN = {"decoder": "causal"}


def list_modes(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Explain this one; compare these."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="N and M of the costs.")] = 1024,
    backend: Annotated[
        str, typer.Option(help='Where it is to run: "auto", or the name of one.')
    ] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Predict no time if this machine is not yet measured.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Draw what they look at here: .png, .svg, .pdf; all if none is named."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the one mode that is named here, as a mode's .json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """List ready modes: what each is for, when to use it, what it costs beside plain attention."""
    chosen = [find(name) for name in names or READY]
    if save is not None and len(chosen) != 1:
        raise InputError("--save writes one mode; name it")
    if names:
        if not quick:
            measure_machine(dtype=torch.float32, say=lambda line: print(line, file=sys.stderr))
        told = [describe_mode(one, rows, backend) for one in chosen]
    else:
        told = [_named(one) for one in chosen]
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    elif names:
        shown = [_explained(one, chosen[0]) for one in told] if len(told) == 1 else []
        typer.echo("\n\n".join([*shown, _table(told, rows)]))
    else:
        typer.echo("\n".join(line for one in told for line in _entry(one)))
    if out is not None:
        view.draw_comparison(dict(_drawn(chosen)), path=out)
        print(f"picture: {out}", file=sys.stderr)
    if save is not None:
        save_mode(chosen[0](), save)
        print(f"mode: {save}", file=sys.stderr)


def describe_mode(mode: ReadyMode, rows: int, backend: str = "auto") -> dict[str, Any]:
    """Return a ready mode as plain data, with what it costs and promises.

    Args:
        mode: The mode.
        rows: N and M of the costs.
        backend: Where it is to run.

    Returns:
        What `--json` prints of it.
    """
    programs = {
        role: {
            "formula": program.formula(),
            "contracts": {answer.contract: answer.status for answer in check(program)},
            **_cost(program, role, rows, backend),
        }
        for role, program in mode.programs.items()
    }
    return {**_named(mode), "programs": programs}


def _named(mode: ReadyMode) -> dict[str, Any]:
    return {
        "name": mode.name,
        "intent": mode.intent,
        "use": mode.use,
        "knobs": mode.knobs,
        "roles": list(mode.programs),
    }


def _cost(program: AttentionProgram, role: str, rows: int, backend: str) -> dict[str, Any]:
    """Return the share of pairs that is visited, and the time beside the role's plain attention."""
    row = torch.zeros(()).expand(1, _HEADS, rows, _CHANNELS)
    plain = VARIANTS[_PLAIN.get(role, "scaled_dot_product")].program
    own, other = (explain(one, row, row, backend=backend) for one in (program, plain))
    times = [one.predicted_ms.get(one.backend) for one in (own, other)]
    return {
        "backend": own.backend,
        "visited": (own.as_dict()["plan"] or {"visited": 1.0})["visited"],
        "times_plain": times[0] / times[1] if times[0] and times[1] else None,
    }


def _entry(told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['name']}  ({', '.join(told['roles'])})"
    yield from _wrapped(told["intent"])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _explained(told: dict[str, Any], mode: ReadyMode) -> str:
    lines = [*_entry(told), "", *_wrapped(told["use"])]
    lines += [f"  knob {name} = {value!r}" for name, value in mode.knobs.items()]
    for role, program in told["programs"].items():
        kept = [name for name, status in program["contracts"].items() if status == "proved"]
        lines += ["", f"{role}: {', '.join(kept) or 'no contract'} (proved)"]
        lines += textwrap.indent(program["formula"], "  ").splitlines()
    return "\n".join(lines)


def _table(told: Sequence[dict[str, Any]], rows: int) -> str:
    lines = [
        f"at {rows} rows of {_HEADS} heads, {_CHANNELS} channels, beside plain attention:",
        f"  {'mode':<14}{'role':<10}{'backend':<10}{'pairs visited':>14}{'predicted time':>16}",
    ]
    for one in told:
        for role, cost in one["programs"].items():
            time = "–" if cost["times_plain"] is None else f"{cost['times_plain']:.2f} ×"
            where = f"  {one['name']:<14}{role:<10}{cost['backend']:<10}"
            lines.append(f"{where}{cost['visited']:>14.0%}{time:>16}")
    return "\n".join(lines)


def _drawn(modes: Sequence[ReadyMode]) -> Iterator[tuple[str, AttentionProgram]]:
    """Yield what is drawn: of each mode the program of its first role."""
    for mode in modes:
        role = next(iter(mode.programs))
        yield f"{mode.name}\n{role}", mode.programs[role]
