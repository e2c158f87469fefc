"""The page about a customisation: what was found, what it costs, what was tried and dropped.

Leaves to others: pictures (`view`), the figures (`result`).
"""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from regard.customise.budget import format_duration
from regard.customise.candidate import PLAIN
from regard.customise.result import Result, front, tried
from regard.customise.trial import HERITAGE, curve_of
from regard.ir.files import write_text
from regard.metrics.records import LOWER_IS_BETTER
from regard.view.comparison import draw_comparison
from regard.view.front import Tried, draw_front, draw_learning
from regard.view.page import escape, facts, number, page, picture, section, tag
from regard.view.picture import draw

# Tokens and heads of a picture of a program, and modes that are drawn side by side.
_TOKENS, _HEADS, _COMPARED = 32, 4, 5
# Characters beside a row of such a picture.
_BESIDE = 18
_COSTS = ("ms per training step", "MB a training step adds")


def write_custom_report(result: Result) -> None:
    """Write the report.

    Args:
        result: What came of a customisation.
    """
    title = f"Attention for {result.ground.task.task.replace('_', ' ')}"
    parts = {
        "What it costs": _costs(result),
        "The best mode": _mode(result),
        "Side by side": _compared(result),
        "How they learned": _learning(result),
        "Where it comes from": _lineage(result),
        "All that was tried": _table(result),
        "Refused proposals": "".join(tag("p", escape(str(one))) for one in result.refusals),
        "How it was searched": _settings(result),
    }
    head = tag("header", tag("h1", escape(title)) + tag("p", escape(summary(result))))
    body = [section(name, inside) for name, inside in parts.items()]
    write_text(page(title, [head, tag("main", "\n".join(body))]), result.folder.report)


def summary(result: Result) -> str:
    """Return what came of a customisation, in two or three sentences.

    Args:
        result: What came of it.

    Returns:
        Text.
    """
    spent, count = format_duration(result.spent_s), len(result.standing.candidates)
    if result.best is None:
        return f"Nothing was compared within {spent}; give it more time."
    best, metric = result.standing.candidates[result.best], result.ground.metric
    steps, whole = result.steps(result.best), result.ground.steps
    partly = "" if steps == whole else f", after {steps} of {whole} steps: time was too short"
    found = f"{best.name}: {metric} {result.value(result.best):.4g} on validation rows{partly}."
    if result.best == PLAIN:
        found += " No mode was found that is better than the model's own attention."
    else:
        found += _against_plain(result)
    return f"{found} {count} candidates in {spent}."


def _against_plain(result: Result) -> str:
    """Return plain attention's figure beside the best one's, at the same steps if there is one."""
    scores = result.standing.scores.get(PLAIN, {})
    assert result.best is not None
    rung = result.standing.reached(result.best)
    if PLAIN not in result.standing.order():
        return ""
    if rung in scores:
        return f" Plain attention: {result.value(PLAIN, rung):.4g}."
    return f" Plain attention: {result.value(PLAIN):.4g} after {result.steps(PLAIN)} steps."


# ── Parts ────────────────────────────────────────────────────────────────────────────────────
def _drawn(result: Result, keys: list[str]) -> list[Tried]:
    """Return candidates as marks and lines."""
    standing, best, beaten_by_none = result.standing, result.best, front(result.standing)
    found = []
    for key in keys:
        score = standing.score(key)
        costs = (1e3 * score.seconds_per_step, score.bytes / 1e6)
        kind = "front" if key in beaten_by_none else ""
        kind = "best" if key == best else "plain" if key == PLAIN else kind
        whole = standing.reached(key) == standing.last
        heir = standing.candidates[key].root is not None and not whole
        curve = curve_of(result.folder.run_of(key, heir), result.ground.metric)
        if heir:
            root = result.folder.run_of(standing.candidates[key].root or PLAIN)
            curve = [*curve_of(root, result.ground.metric)[:1], *curve]
        if whole:
            curve = [*curve, (result.ground.steps, result.value(key))]
        name = standing.candidates[key].name
        named: dict[str, float] = dict(zip(_COSTS, costs, strict=True))
        found.append(Tried(name, result.value(key), named, curve, kind))
    return found


def _peers(result: Result) -> list[str]:
    """Return who reached the highest rung that anyone did."""
    order = result.standing.order()
    reached = result.standing.reached
    return [key for key in order if reached(key) == reached(order[0])]


def _costs(result: Result) -> str:
    if result.best is None:
        return ""
    falls = result.ground.metric in LOWER_IS_BETTER
    figure = draw_front(_drawn(result, _peers(result)), result.ground.metric, falls)
    said = (
        f"{len(_peers(result))} candidates after {result.steps(result.best)} steps. Those named are"
        " beaten by none in quality, time and memory at once; the diamond is the best, the square "
        "plain attention. Time and memory were measured on this machine while training."
    )
    return picture(figure, "What the quality of candidates costs.", said)


def _mode(result: Result) -> str:
    if result.mode is None:
        return ""
    parts = [tag("p", escape(result.mode.intent))] if result.mode.intent else []
    shapes = result.ground.space.roles
    for program, places in _places(result.mode).items():
        heading = f"{program.name} ({'; '.join(places)})"
        role = next(one.role for one in result.mode.assignments if one.program == program)
        heads = min(shapes[role].heads, _HEADS) if role in shapes else _HEADS
        parts.append(tag("h3", escape(heading)))
        alt = f"The program {program.name}: which keys each query sees, its bias and its weights."
        parts.append(picture(draw(program, _TOKENS, heads=heads), alt))
        formula = tag("pre", escape(program.formula()), class_="wrapped")
        parts.append(tag("details", tag("summary", "The formula as text") + formula))
    return "".join(parts)


def _places(mode: Any) -> dict[Any, list[str]]:
    """Return where each program of a mode runs, in words."""
    found: dict[Any, list[str]] = {}
    for one in mode.assignments:
        layers = "all layers" if one.layers is None else f"layers {_span(one.layers)}"
        heads = "all heads" if one.heads is None else f"heads {_span(one.heads)}"
        found.setdefault(one.program, []).append(f"{one.role}, {layers}, {heads}")
    return found


def _span(span: tuple[int, int]) -> str:
    return f"{span[0]}–{span[1] - 1}" if span[1] - span[0] > 1 else str(span[0])


def _compared(result: Result) -> str:
    programs = {}
    for name, mode in result.finalists(_COMPARED).items():
        for program in _places(mode):
            lines = [*textwrap.wrap(name, _BESIDE), program.name[:_BESIDE]]
            programs.setdefault("\n".join(lines), program)
    if len(programs) < 2:
        return ""
    heads = min(_HEADS, min(one.heads for one in result.ground.space.roles.values()))
    figure = draw_comparison(dict(list(programs.items())[: 2 * _COMPARED]), heads=heads)
    said = "What each head attends to in the modes that ran to the end, parameters as they begin."
    return picture(figure, "The weights of the best modes, head by head.", said)


def _learning(result: Result) -> str:
    order = result.standing.order()
    if not order:
        return ""
    figure = draw_learning(_drawn(result, order), result.ground.rungs, result.ground.metric)
    said = "Upright lines are the rungs: there only the better half goes on."
    return picture(figure, "The learning curve of each candidate.", said)


def _lineage(result: Result) -> str:
    if result.best is None:
        return ""
    return tag("ul", "".join(tag("li", escape(one)) for one in _ancestors(result, result.best)))


def _ancestors(result: Result, key: str) -> Iterator[str]:
    """Yield how a candidate and all it was made of came about, in words."""
    seen, waiting = set(), [key]
    while waiting:
        key = waiting.pop(0)
        if key in seen:
            continue
        seen.add(key)
        one = result.standing.candidates[key]
        names = " and ".join(result.standing.candidates[parent].name for parent in one.parents)
        made = f", of {names}" if names else ""
        yield f"{one.name}: {one.origin}{made}{_taken(result, key)}"
        waiting += one.parents


def _taken(result: Result, key: str) -> str:
    """Return how much of another's weights a candidate went on from while it was pruned."""
    file = result.folder.run_of(key, heir=True).path / HERITAGE
    if not file.is_file():
        return ""
    told = json.loads(file.read_text("utf-8"))
    root = result.standing.candidates[told["from"]].name
    share = told["taken"] / (told["taken"] + told["new"])
    return f" ({share:.1%} of its weights went on from {root})"


def _table(result: Result) -> str:
    rows = [{k: v for k, v in row.items() if k != "key"} for row in tried(result)]
    if not rows:
        return ""
    heads = tag("tr", "".join(tag("th", escape(name), scope="col") for name in rows[0]))
    lines = [
        tag("tr", "".join(tag("td", escape(_cell(value))) for value in row.values()))
        for row in rows
    ]
    inside = tag("thead", heads) + tag("tbody", "".join(lines))
    return tag("div", tag("table", inside), class_="scroll")


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else number(value)


def _settings(result: Result) -> str:
    options, ground = result.options, result.ground
    told = {
        "method": options.method,
        "objective": options.objective,
        "metric": ground.metric,
        "rungs": ", ".join(map(str, ground.rungs)),
        "seed": options.seed,
        "budget": format_duration(options.seconds),
        "spent": format_duration(result.spent_s),
        "ended": result.stopped,
        "roles": {
            role: f"{one.layers} layers in {one.layer_groups} groups, {one.heads} heads in "
            f"{one.head_groups}"
            for role, one in ground.space.roles.items()
        },
        "data sha256": ground.task.model_dump()["data"].get("sha256"),
    }
    return facts(told, "How it was searched")
