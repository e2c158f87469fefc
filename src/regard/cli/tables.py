"""Numbers and texts as lines for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from regard.metrics.records import as_line

# Rows, and characters of a part of one.
SHOWN, WIDEST = 5, 400


def score_table(metrics: Mapping[str, Any]) -> str:
    """Return a model's scores beside those of what needs no model.

    Args:
        metrics: As `Evaluation.metrics` returns them.

    Returns:
        Three lines; as many for each task if there are several.
    """
    tasks = dict.fromkeys(name.rpartition("/")[0] for name in metrics["scores"])
    if list(tasks) == [""]:
        return _score_lines(metrics, f"{metrics['examples']} held-out rows")
    return "\n".join(_score_lines(_of_task(metrics, name), name) for name in tasks)


def _of_task(metrics: Mapping[str, Any], task: str) -> dict[str, Any]:
    found = {**metrics}
    for part in ("scores", "baseline"):
        found[part] = {
            name.removeprefix(f"{task}/"): value
            for name, value in metrics[part].items()
            if name.startswith(f"{task}/")
        }
    return found


def _score_lines(metrics: Mapping[str, Any], heading: str) -> str:
    rows = {"this model": metrics["scores"], metrics["baseline_name"]: metrics["baseline"]}
    names = list(metrics["scores"])
    wide = max(len(heading), *(len(name) + 2 for name in rows)) + 2
    columns = [max(8, len(name) + 2) for name in names]
    cells = [name.rjust(width) for name, width in zip(names, columns, strict=True)]
    lines = [heading.ljust(wide) + "".join(cells)]
    for name, scores in rows.items():
        cells = [f"{scores[key]:.4g}".rjust(w) for key, w in zip(names, columns, strict=True)]
        lines.append(f"  {name}".ljust(wide) + "".join(cells))
    return "\n".join(lines)


def sample_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the first few rows with what a model answered.

    Args:
        records: As `metrics.records` describes them.

    Returns:
        Three lines a row, and a blank one before each.
    """
    shown = {"input": "input", "reference": "reference", "prediction": "model"}
    lines = []
    for record in records[:SHOWN]:
        lines.append("")
        for key, name in shown.items():
            lines.append(f"  {name:<9}  {as_line(record[key], WIDEST)}".rstrip())
    return "\n".join(lines)
