"""A verdict on paper: lines for a terminal, a picture, and a page that loads nothing.

Leaves to others: what is shown (`answer`), how pages and pictures look (`view`).
"""

import json
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from regard.customise.verdict.answer import Comparison, Standing, Verdict, shown, signed
from regard.customise.verdict.plan import PLAIN, VerdictFolder
from regard.ir.files import write_text
from regard.train.folder import written_whole
from regard.view.gains import Row, draw_gains
from regard.view.page import escape, facts, page, picture, section, tag
from regard.view.picture import draw

METHOD = (
    "Every contender was trained from scratch with each seed, which decides its new weights, the "
    "order of its batches and its dropout; the rows it learned from, and the test rows, are the "
    "same for all. Gains are paired by seed and by test row. Their interval counts both: seeds by "
    "Student's t, rows by the jackknife (Banerjee 1960; Tukey 1958). All intervals on one baseline "
    "hold together (Bonferroni); p is corrected by Holm's method and decides nothing beyond them. "
    "Better or worse: the interval leaves out 0. Cheaper: a loss beyond the margin is excluded, "
    "and so is more than the given share of the time."
)


def write_verdict(verdict: Verdict, folder: VerdictFolder, command: str = "") -> None:
    """Write a verdict as data, picture and page.

    Args:
        verdict: The verdict.
        folder: Where.
        command: What made it.

    Raises:
        FileError: If a file cannot be written.
    """
    text = json.dumps(verdict.as_dict(), ensure_ascii=False, indent=1, allow_nan=False)
    with written_whole(folder.answer) as part:
        part.write_text(text + "\n", encoding="utf-8")
    drawn = {name: draw_verdict(verdict, name) for name in baselines_of(verdict)}
    drawn[PLAIN].savefig(folder.picture)
    parts = {
        "Verdict": _sentences(verdict),
        "Gains": "".join(
            picture(one, f"Gains on {name} with their intervals; the table has the numbers.")
            for name, one in drawn.items()
        ),
        "Contenders": _table(*standing_rows(verdict), "Contenders"),
        "Comparisons": _table(*comparison_rows(verdict), "Comparisons"),
        "How it was judged": tag("p", escape(METHOD)),
        "Programs": _programs(verdict),
        "What was promised": facts(_promised(verdict), "Plan"),
        "Machine": facts(dict(verdict.machine), "Machine"),
        "Made by": tag("pre", escape(command), class_="wrapped") if command else "",
    }
    head = tag("h1", escape(f"Verdict: {verdict.task.replace('_', ' ')}"))
    head += tag("p", escape(_summary(verdict)), class_="quiet")
    sections = [section(title, inside) for title, inside in parts.items()]
    body = [tag("header", head), tag("main", "\n".join(one for one in sections if one))]
    write_text(page("Verdict", body), folder.page)


def baselines_of(verdict: Verdict) -> list[str]:
    """Return the names of what was compared with, plain attention first."""
    return list(dict.fromkeys(one.baseline for one in verdict.comparisons))


def draw_verdict(verdict: Verdict, baseline: str = PLAIN) -> Figure:
    """Draw the gains on one baseline.

    Args:
        verdict: The verdict.
        baseline: Plain attention, or random search.

    Returns:
        The figure.
    """
    found = [one for one in verdict.comparisons if one.baseline == baseline]
    rows = [
        Row(
            one.contender, one.gain.value, one.gain.low, one.gain.high, one.by_seed, one.outcome,
            "" if one.time is None else f"{one.time.value:.2f} of the time",
        )
        for one in found
    ]  # fmt: skip
    return draw_gains(rows, verdict.plan.metric, baseline, found[0].margin)


def verdict_lines(verdict: Verdict) -> str:
    """Return a verdict as lines for a terminal.

    Args:
        verdict: The verdict.

    Returns:
        Text without a final newline.
    """
    lines = [_summary(verdict), "", *_columns(*standing_rows(verdict)), ""]
    lines += [*_columns(*comparison_rows(verdict)), ""]
    lines += [f"{one.contender}: {one.sentence}" for one in verdict.comparisons]
    return "\n".join([*lines, *(f"note: {one}" for one in verdict.remarks)])


def standing_rows(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Return a table of contenders: its head, and a row for each."""
    head = ["contender", verdict.plan.metric, "by seed", "parameters", "steps", "ms a step", "peak"]
    return head, [_standing(one) for one in verdict.standings]


def comparison_rows(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Return a table of comparisons: its head, and a row for each."""
    level = verdict.comparisons[0].gain.level
    head = ["contender", "against", "gain", f"interval ({level:.4g})", "p", "by seeds", "time"]
    return head, [_comparison(one) for one in verdict.comparisons]


def _standing(one: Standing) -> list[str]:
    low, high = min(one.scores), max(one.scores)
    return [
        one.name if one.kind != "random" else f"{one.name} (random search)",
        f"{one.score:.4g}",
        f"{low:.4g} to {high:.4g}",
        f"{one.parameters:,}",
        ", ".join(map(str, sorted(set(one.steps)))),
        "–" if one.step_ms is None else f"{one.step_ms:.3g}",
        "–" if one.peak_bytes is None else f"{one.peak_bytes / 2**20:.3g} MiB",
    ]


def _comparison(one: Comparison) -> list[str]:
    time = one.time
    return [
        one.contender,
        one.baseline,
        signed(one.gain.value),
        f"{signed(one.gain.low)} to {signed(one.gain.high)}",
        f"{one.corrected_p:.2g}",
        f"{one.gain.by_seeds:.0%}",
        "–" if time is None else f"{time.value:.2f} ({time.low:.2f} to {time.high:.2f})",
    ]


def _summary(verdict: Verdict) -> str:
    plan, first = verdict.plan, verdict.comparisons[0]
    sense = "" if verdict.higher_is_better else " (lower is better; a gain is a fall)"
    return (
        f"{verdict.task.replace('_', ' ')}, {verdict.rows} test rows (sha256 "
        f"{verdict.test_sha256[:12]}…), {len(plan.seeds)} seeds; {plan.metric}{sense}; α = "
        f"{plan.alpha:g} over all contenders; margin {shown(first.margin)} ({plan.margin.strip()})"
    )


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [head, *rows]
    wide = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip()
        for row in table
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    kinds = [None, *["number"] * (len(head) - 1)]
    heads = [
        tag("th", escape(one), scope="col", class_=kind)
        for one, kind in zip(head, kinds, strict=True)
    ]
    lines = []
    for row in rows:
        cells = [tag("th", escape(row[0]), scope="row")]
        cells += [tag("td", escape(one), class_="number") for one in row[1:]]
        lines.append(tag("tr", "".join(cells)))
    inside = tag("caption", escape(caption), class_="unseen")
    inside += tag("thead", tag("tr", "".join(heads))) + tag("tbody", "".join(lines))
    return tag("div", tag("table", inside, class_="numbers"), class_="scroll")


def _sentences(verdict: Verdict) -> str:
    said = [
        tag("li", f"<strong>{escape(one.contender)}</strong>: {escape(one.sentence)}")
        for one in verdict.comparisons
    ]
    notes = [tag("p", escape(one), class_="quiet") for one in verdict.remarks]
    return tag("ul", "".join(said)) + "".join(notes)


def _promised(verdict: Verdict) -> dict[str, Any]:
    told = verdict.plan.as_dict()
    named = [f"{one.name} ({one.kind})" for one in verdict.plan.contenders]
    return {**told, "contenders": named}


def _programs(verdict: Verdict) -> str:
    found = []
    for one in verdict.plan.contenders:
        for each in one.mode.assignments if one.mode is not None else ():
            place = "".join(
                f", {word} {span[0]}–{span[1] - 1}"
                for word, span in (("layers", each.layers), ("heads", each.heads))
                if span
            )
            found.append(tag("h3", escape(f"{one.name}, {each.role}{place}: {each.program.name}")))
            alt = f"The program {each.program.name}: which keys each query sees, and its weights."
            found.append(picture(draw(each.program, 12, 12), alt))
            found.append(tag("pre", escape(each.program.formula()), class_="wrapped"))
    return "".join(found)
