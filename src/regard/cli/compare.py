"""`regard compare RUN RUN…`: finished runs side by side, with intervals and verdicts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regard.errors import InputError, nearest

if TYPE_CHECKING:
    from regard.train.compare import Comparison

NOT_MET = 1
_EXPECTED = {"better": {"better"}, "not-worse": {"better", "no difference shown"}}


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN…", help="Run folders; the first is the baseline."),
    ],
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.")] = 2000,
    permutations: Annotated[int, typer.Option(help="Of the permutation test.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    expect: Annotated[
        str | None,
        typer.Option(help="better, or not-worse; ends with code 1 unless every other run is."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Which task of a run that joins several.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Compare finished runs over the same test examples: better, worse, or no difference shown."""
    # Here, so that `regard --help` does not wait for torch.
    from regard.train.compare import compare_runs

    if expect is not None and expect not in _EXPECTED:
        raise InputError(f"--expect is '{expect}'; {nearest(expect, _EXPECTED)}")
    found = compare_runs(runs, level, resamples, permutations, seed, task)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo(comparison_table(found))
    if expect is not None and not found.answers <= _EXPECTED[expect]:
        raise typer.Exit(NOT_MET)


def comparison_table(found: "Comparison") -> str:
    """Return a comparison as lines for a terminal.

    Args:
        found: Scores and verdicts.

    Returns:
        Text without a final newline.
    """
    first, *others = found.scores
    rows: list[tuple[str, ...]] = [
        ("", "metric", "value", "interval", "difference", "interval", "p", "verdict")
    ]
    for score in found.scores[first]:
        rows.append((first, score.name, f"{score.value:.4g}", _span(score.interval), *[""] * 4))
    for other in others:
        for score, verdict in zip(found.scores[other], found.verdicts[other], strict=True):
            told = (f"{verdict.difference:+.4g}", _span(verdict.interval))
            shown = (*told, f"{verdict.corrected_p:.2g}", verdict.answer)
            rows.append((other, score.name, f"{score.value:.4g}", _span(score.interval), *shown))
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip()
        for row in rows
    ]
    level = found.scores[first][0].interval
    assert level is not None
    heading = f"{found.task}, {found.examples} test examples (sha256 {found.test_sha256[:12]}…)"
    tested = sum(map(len, found.verdicts.values()))
    note = (
        f"Differences are from {first}; intervals hold {level.level:.0%} (bootstrap over test "
        f"examples, paired).\np is of a permutation test, corrected for all {tested} (Holm). "
        "Another seed of training may differ by more."
    )
    return "\n".join([heading, *lines, note])


def _span(interval: object) -> str:
    return str(interval).partition(": ")[2]
