"""A training run as one HTML page: results, samples, programs, alignments, curve, settings.

The page is a single file that loads nothing and runs nothing. Leaves to others: collecting the
record (`train`), the pieces of the page (`page`), the curve (`curve`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.ir.files import write_text
from regard.view.curve import Point, describe, draw_curves
from regard.view.page import Picture, anchor_of, escape, facts, number, page, picture, section, tag

# Columns in which the largest number is the best one.
HIGHER_IS_BETTER = (
    "BLEU", "chrF", "chrF++", "accuracy", "macro F1", "span F1", "span macro F1", "tag accuracy",
    "exact match", "answer F1", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum", "Pearson",
    "Spearman", "MRR",
)  # fmt: skip


@dataclass(frozen=True)
class Role:
    """The program of one role of attention.

    Attributes:
        role: Such as "encoder self", "decoder self", "cross".
        program: Its name.
        formula: Its text.
        picture: What `draw` returned, if there is one.
    """

    role: str
    program: str
    formula: str
    picture: Picture | None = None


@dataclass(frozen=True)
class Alignment:
    """The alignment of one translation.

    Attributes:
        caption: A line below the picture.
        picture: What `draw_alignment` returned.
    """

    caption: str
    picture: Picture


@dataclass(frozen=True)
class RunRecord:
    """What a report says about a training run; what is empty is left out.

    Attributes:
        title: The headline.
        summary: A paragraph below it.
        roles: The programs, each for its role.
        settings: The task's settings; may be nested.
        metrics: A row per model and one for copying, each with "name" and numbers such as "BLEU".
        curves: By name, (step, loss, seconds since the start) in the order of training.
        heads: By name, a picture of what every head did over training.
        samples: Each with "source", "reference", and a translation by the name of each model.
        alignments: Pictures of cross-attention.
        environment: Machine, versions, date.
        command: The command that made the run.
        language: Of the page's own texts, as a BCP 47 tag.
    """

    title: str
    summary: str = ""
    roles: Sequence[Role] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    heads: Mapping[str, Picture] = field(default_factory=dict)
    samples: Sequence[Mapping[str, str]] = ()
    alignments: Sequence[Alignment] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    language: str = "en"


def write_report(run: RunRecord, path: str | os.PathLike) -> None:
    """Write the report of a run, in one step.

    Args:
        run: What to say.
        path: Where, usually ending in .html.

    Raises:
        FileError: If a picture cannot be read or the report cannot be written.
        InputError: If a picture is no picture.
    """
    write_text(render_report(run), path)


def render_report(run: RunRecord) -> str:
    """Return the report of a run as HTML.

    Args:
        run: What to say.

    Returns:
        A whole page.
    """
    parts = {
        "Results": _metrics(run.metrics),
        "Samples": "".join(_sample(sample) for sample in run.samples),
        "Attention programs": "".join(_role(role) for role in run.roles),
        "Alignments": "".join(_alignment(alignment) for alignment in run.alignments),
        "Training": _training(run.curves) + _heads(run.heads),
        "Settings": facts(run.settings, "Settings of the task"),
        "Environment": facts(run.environment, "Environment of the run"),
        "Made by": tag("pre", escape(run.command), class_="wrapped") if run.command else "",
    }
    parts = {title: inside for title, inside in parts.items() if inside}
    head = tag("h1", escape(run.title))
    head += tag("p", escape(run.summary), class_="quiet") if run.summary else ""
    sections = [section(title, inside) for title, inside in parts.items()]
    body = [tag("header", head + _contents(list(parts))), tag("main", "\n".join(sections))]
    return page(run.title, body, run.language)


def _contents(titles: list[str]) -> str:
    if len(titles) < 2:
        return ""
    links = [tag("li", tag("a", escape(title), href=f"#{anchor_of(title)}")) for title in titles]
    return tag("nav", tag("ul", "".join(links)), aria_label="Contents")


def _metrics(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "name"))
    best = {column: _best(column, rows) for column in columns}
    bars = next((column for column in columns if best[column] is not None), None)
    numeric = {column for column in columns if any(_is_number(row.get(column)) for row in rows)}
    heads = [tag("th", "Model", scope="col")]
    for column in columns:
        kind = "number" if column in numeric else None
        heads.append(tag("th", escape(column), scope="col", class_=kind))
    body = []
    for row in rows:
        cells = [tag("th", escape(row.get("name", "")), scope="row")]
        for column in columns:
            value, winner = row.get(column), best[column]
            cells.append(
                _cell(value, column in numeric, winner, winner if column == bars else None)
            )
        body.append(tag("tr", "".join(cells)))
    caption = tag(
        "caption", "Results by model; the best number of a column is bold", class_="unseen"
    )
    table = caption + tag("thead", tag("tr", "".join(heads))) + tag("tbody", "".join(body))
    return tag("div", tag("table", table, class_="numbers"), class_="scroll")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _best(column: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the best number of a column, or None where larger is not better."""
    if column not in HIGHER_IS_BETTER:
        return None
    return max((row[column] for row in rows if _is_number(row.get(column))), default=None)


def _cell(value: Any, numeric: bool, best: float | None, full: float | None) -> str:
    """Return a cell; `best` marks the best number, `full` is as long as a bar may be."""
    shown, style = escape(number(value)), None
    classes = ["number"] if numeric else []
    if _is_number(value) and value == best:
        classes.append("best")
        shown += tag("span", " (best)", class_="unseen")
    if _is_number(value) and full:
        classes.append("bar")
        style = f"--share: {min(max(value / full, 0.0), 1.0):.1%}"
    return tag("td", shown, class_=" ".join(classes) or None, style=style)


def _sample(sample: Mapping[str, str]) -> str:
    reference = sample.get("reference", "").strip()
    lines = []
    for name, text in sample.items():
        given = name in ("source", "reference")
        exact = not given and reference and text.strip() == reference
        mark = tag("span", "✓ as the reference", class_="exact") if exact else ""
        lines.append(tag("dt", escape(name)))
        said = tag("span", escape(text), dir="auto")
        lines.append(tag("dd", said + mark, class_="given" if given else None))
    return tag("dl", "".join(lines), class_="sample")


def _role(role: Role) -> str:
    heading = tag("h3", f"{escape(role.role)}: {escape(role.program)}")
    formula = tag("pre", escape(role.formula), class_="wrapped")
    if role.picture is None:
        return heading + formula
    alt = f"The program {role.program}: which keys each query sees, its bias and its weights."
    # The picture shows the formula as well, so as text it may stay folded.
    folded = tag("details", tag("summary", "The formula as text") + formula)
    return heading + picture(role.picture, alt) + folded


def _alignment(alignment: Alignment) -> str:
    alt = f"How much each target token reads each source token: {alignment.caption}"
    return picture(alignment.picture, alt, alignment.caption)


def _training(curves: Mapping[str, Sequence[Point]]) -> str:
    said = [escape(describe(name, points)) + "." for name, points in curves.items() if points]
    if not said:
        return ""
    return draw_curves(curves) + "".join(tag("p", line, class_="quiet") for line in said)


def _heads(pictures: Mapping[str, Picture]) -> str:
    found = []
    for name, one in pictures.items():
        said = f"{name}: the entropy of the weights of each head on validation rows, by layer"
        found.append(picture(one, f"Entropy of every head of {name} over training.", said))
    return "".join(found)
