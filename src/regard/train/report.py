"""The report of runs: their scores side by side, samples, programs, alignments and curves.

Leaves to others: how a page looks (`view`), what a run folder holds (`folder`).
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard import hf
from regard.metrics.records import as_line
from regard.modes import Mode, load_mode
from regard.train.examples import read_records
from regard.train.folder import RunFolder
from regard.train.lines import read_lines, read_object
from regard.train.model import load_learner
from regard.train.sittings import describe_sittings, read_sittings
from regard.train.table import read_table
from regard.view.alignment import draw_alignment
from regard.view.heads import draw_head_curves
from regard.view.picture import draw
from regard.view.report import Alignment, Role, RunRecord, write_report

ROLE_NAMES = {
    "encoder": "encoder self-attention",
    "decoder": "decoder self-attention",
    "cross": "cross-attention",
}
SAMPLES, ALIGNMENTS = 8, 3
# Characters of a part of a sample.
WIDEST = 600
# Shorter texts have too little to show and to align.
FEWEST_WORDS = 5


@dataclass(frozen=True)
class Sample:
    """One held-out row as text, and what a model answered."""

    source: str
    reference: str
    answer: str


def write_run_report(
    runs: Mapping[str, str | os.PathLike], path: str | os.PathLike, title: str, command: str = ""
) -> None:
    """Write one page about finished runs of the same data.

    Args:
        runs: Run folders by the name each goes by on the page, in order.
        path: The HTML file.
        title: The headline.
        command: The command that made the runs.

    Raises:
        TaskError: If a run is not finished.
        FileError: If a run folder is not whole, or the page cannot be written.
    """
    folders = {name: RunFolder(Path(folder)) for name, folder in runs.items()}
    metrics = {name: read_object(folder.metrics) for name, folder in folders.items()}
    first, last = next(iter(folders.values())), list(folders)[-1]
    samples = {name: _read_samples(folder) for name, folder in folders.items()}
    record = RunRecord(
        title=title,
        summary=_summary(metrics),
        roles=[role for folder in folders.values() for role in _roles(folder)],
        settings=first.read_task().model_dump(mode="json"),
        metrics=_scores(metrics),
        curves={name: _curve(folder) for name, folder in folders.items()},
        heads={name: found for name, folder in folders.items() if (found := _heads(folder))},
        samples=_sample_rows(samples),
        alignments=_alignments(folders[last], samples[last]),
        environment=_environment(next(iter(metrics.values())), first),
        command=command,
    )
    write_report(record, path)


def _summary(metrics: Mapping[str, dict[str, Any]]) -> str:
    counts = next(iter(metrics.values()))["data"]
    return (
        f"Trained on {counts['train']} rows of {counts['read']} read; "
        f"scored on {counts['test']} held-out rows whose inputs were never trained on."
    )


def _scores(metrics: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    test = next(iter(metrics.values()))["test"]
    rows: list[dict[str, Any]] = [{"name": test["baseline_name"], **test["baseline"]}]
    for name, found in metrics.items():
        training = found["training"]
        rows.append(
            {
                "name": name,
                **found["test"]["scores"],
                "steps": training["steps"],
                "seconds": training["seconds"],
                "parameters": training["parameters"],
            }
        )
    return rows


def _roles(folder: RunFolder) -> list[Role]:
    if not folder.mode.is_file():
        return []
    mode: Mode = load_mode(folder.mode)
    return [
        Role(
            ROLE_NAMES[one.role], one.program.name, one.program.formula(), draw(one.program, 12, 12)
        )
        for one in mode.assignments
    ]


def _curve(folder: RunFolder) -> list[tuple[int, float, float]]:
    lines = read_lines(folder.log, ("step", "seconds"))
    return [(line["step"], line["loss"], line["seconds"]) for line in lines if "loss" in line]


def _heads(folder: RunFolder) -> Figure | None:
    """Draw the entropy of every head over training, if it was written down."""
    rows = [row for row in read_table(folder.heads) if row["entropy"]]
    steps = sorted({int(row["step"]) for row in rows})
    curves: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in rows:
        heads = curves.setdefault((row["role"], int(row["layer"])), {})
        heads.setdefault(row["head"], []).append(float(row["entropy"]))
    if not rows:
        return None
    return draw_head_curves(steps, {key: list(heads.values()) for key, heads in curves.items()})


def _read_samples(folder: RunFolder) -> list[Sample]:
    _, records = read_records(folder.path)
    return [
        Sample(_asked(one), as_line(one["reference"]), as_line(one["prediction"]))
        for one in records
    ]


def _asked(record: Mapping[str, Any]) -> str:
    """Return what was asked, and in which task if there are several."""
    text = as_line(record["input"])
    return f"{record['task']}: {text}" if "task" in record else text


def _sample_rows(samples: Mapping[str, Sequence[Sample]]) -> list[dict[str, str]]:
    first = next(iter(samples.values()))
    long = [k for k, one in enumerate(first) if len(one.source.split()) >= FEWEST_WORDS]
    chosen = long or range(len(first))
    return [
        {
            "source": as_line(first[k].source, WIDEST),
            "reference": as_line(first[k].reference, WIDEST),
        }
        | {name: as_line(found[k].answer, WIDEST) for name, found in samples.items()}
        for k in _spread(chosen)
    ]


def _spread(places: Sequence[int]) -> list[int]:
    """Return so many of them as are shown, from the first to the last: all tasks have some."""
    if len(places) <= SAMPLES:
        return list(places)
    return [places[k * len(places) // SAMPLES] for k in range(SAMPLES)]


def _alignments(folder: RunFolder, samples: Sequence[Sample]) -> list[Alignment]:
    if folder.read_task().task != "translation":
        return []
    learner, model = load_learner(folder.path)
    chosen = [one for one in samples if len(one.source.split()) >= FEWEST_WORDS and one.answer]
    found = []
    for one in chosen[:ALIGNMENTS]:
        weights, source, target = align(model, learner.tokenizer, one.source, one.answer)
        picture = draw_alignment(weights, source, target)
        found.append(Alignment(f"{one.source} → {one.answer}", picture))
    return found


def align(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, translation: str
) -> tuple[torch.Tensor, list[str], list[str]]:
    """Return the cross-attention of a translation in the last layer, by head.

    Args:
        model: A translation model.
        tokenizer: Its tokenizer.
        source: A text.
        translation: Its translation.

    Returns:
        Weights (heads, target tokens, source tokens): row t is what was read to write token t; the
        source's tokens; the translation's.
    """
    inputs = tokenizer(source, return_tensors="pt")
    written = tokenizer(translation, return_tensors="pt")["input_ids"]
    # The decoder reads the start token and all tokens but the last to write all tokens.
    start = torch.full((1, 1), model.config.decoder_start_token_id)
    with torch.no_grad(), hf.observe(model, ["weights"], role="cross", layers=-1) as seen:
        model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=torch.cat([start, written[:, :-1]], dim=1),
        )
    read = [tokenizer.convert_ids_to_tokens(int(one)) for one in inputs["input_ids"][0]]
    wrote = [tokenizer.convert_ids_to_tokens(int(one)) for one in written[0]]
    return seen["weights"][0][0], [str(token) for token in read], [str(token) for token in wrote]


def _environment(metrics: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    threads = metrics["training"]["threads"]
    own = {"machine": platform.machine(), "threads": threads, **metrics["versions"]}
    return own | describe_sittings(read_sittings(folder))
