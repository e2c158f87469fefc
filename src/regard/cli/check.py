"""`regard check`: the contracts of a program, or what every attention of a model must keep to.

Leaves to others: finding the program (`programs`) or the model (`hf/check/load`), the answers
(`ops/contracts`, `hf/check`).
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from regard import view
from regard.catalogue.absent import ABSENT
from regard.catalogue.find_program import HELP, find_variant, load_program
from regard.errors import InputError
from regard.ops.contracts.check import PROVED, REFUTED, check

NOT_KEPT = 1
_MODELS = (
    "Or a model: a folder with config.json, a class of transformers such as LlamaForCausalLM, or a "
    "model type such as llama (small, with random weights; a name of the catalogue comes first)."
)


def check_program_or_model(
    what: Annotated[str, typer.Argument(metavar="PROGRAM|MODEL", help=f"{HELP} {_MODELS}")],
    contract: Annotated[
        list[str] | None,
        typer.Option(
            help='Of a program: ask for this one, such as "causal" or "window <= 256"; may be '
            "given again. All are asked for unless one is."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help='Of a model: run this check, such as "left padding"; may be given again.'
        ),
    ] = None,
    attn: Annotated[
        str | None,
        typer.Option(
            help="Of a model: the attention under test, regard unless given; eager, sdpa or one "
            "that is registered with transformers."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Of a program: draw the pair that breaks the first refuted contract: .png, .svg, "
            ".pdf."
        ),
    ] = None,
) -> None:
    """Check a program's contracts, or the attention of a Hugging Face model.

    A program's contracts are proved, refuted with a pair, or unknown; code 1 if one that is asked
    for or declared is not proved. A model is run: causality, padding, caches, gradients and more;
    code 1 if a check fails.
    """
    if names_model(what):
        _refuse(what, "a model", {"--contract": contract, "--out": out})
        _check_model(what, attn, only, as_json)
    else:
        _refuse(what, "a program", {"--attn": attn, "--only": only})
        _check_program(what, contract, as_json, out)


def names_model(reference: str) -> bool:
    """Tell whether a reference is to a model rather than to a program.

    Args:
        reference: What was typed.

    Returns:
        Whether it is a folder or a name that transformers knows, and no name of the catalogue.

    Raises:
        InputError: If it is a name that neither knows.
    """
    path = Path(reference)
    if path.suffix in (".json", ".py") or path.suffix.startswith(".py:"):
        return False
    try:
        if find_variant(reference) is not None:
            return False
        unknown = f"'{reference}' is no file of programs and no folder"
    except InputError as problem:
        if "(" in reference:
            raise
        unknown = str(problem)
    if path.is_dir():
        return True
    # Here, so that programs are checked without transformers.
    from regard.hf.check.tiny import find_model_class

    try:
        find_model_class(reference)
    except InputError as problem:
        known = reference in {one.name for one in ABSENT}
        raise InputError(unknown if known else f"{unknown}\n{problem}") from None
    return True


def _refuse(what: str, kind: str, given: dict[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise InputError(f"'{what}' is {kind}, which {option} is not for")


def _check_model(what: str, attn: str | None, only: list[str] | None, as_json: bool) -> None:
    from regard.hf.check import check_model
    from regard.hf.check.load import find_model
    from regard.hf.interface import NAME

    report = check_model(find_model(what), attn or NAME, only=only)
    told = report.as_dict() if as_json else report
    typer.echo(json.dumps(told, ensure_ascii=False, indent=2) if as_json else str(told))
    if not report.passed:
        raise typer.Exit(NOT_KEPT)


def _check_program(what: str, contract: list[str] | None, as_json: bool, out: Path | None) -> None:
    found = check(load_program(what), contract)
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
