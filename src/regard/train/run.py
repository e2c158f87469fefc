"""A run from its task to its scores.

Leaves to others: the loop (`trainer`), the folder (`folder`), what is translated (`tasks`).
"""

import contextlib
import csv
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.utils import logging as bars

from regard.data import DataWarning, Report
from regard.errors import DataError, TaskError, located
from regard.metrics.records import Record, measures_of
from regard.metrics.translation import signatures
from regard.metrics.uncertainty import bootstrap
from regard.modes import Mode
from regard.tasks.data import Pair, read_pairs
from regard.tasks.kinds import Task, TranslationTask
from regard.tasks.plan_data import layout_of
from regard.tasks.programs import build_mode
from regard.tasks.tokenizer import train_tokenizer
from regard.tasks.translation import Corpus, Evaluation, evaluate, read_corpus, translate
from regard.train.examples import write_records
from regard.train.folder import RunFolder, begin_run, continue_run
from regard.train.model import build_model, load_model, save_model
from regard.train.record import LogFile, ProgressBar, StopWhenAsked
from regard.train.trainer import build_trainer


@dataclass(frozen=True)
class Result:
    """Where a run has come to.

    Attributes:
        folder: The run folder.
        step: Steps trained.
        steps: Steps asked for.
        metrics: What `metrics.json` holds, or None if the run was stopped before its end.
    """

    folder: Path
    step: int
    steps: int
    metrics: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.metrics is not None


def train(
    task: Task,
    run_dir: str | os.PathLike,
    resume: bool = False,
    progress: bool = True,
    on_report: Callable[[Report], None] | None = None,
) -> Result:
    """Train a task's model and score it on its held-out pairs.

    Ctrl-C ends the training after the step at hand, with a checkpoint; a run continued from there
    ends with the weights it would have had.

    Args:
        task: The task.
        run_dir: The run folder.
        resume: Continue the run that is there.
        progress: Show a progress bar.
        on_report: Is told what was found in the data that training goes on with. None: a
            DataWarning says how much it is.

    Returns:
        Where the run has come to.

    Raises:
        TaskError: If the run folder is taken, or holds nothing to continue, or the task is of a
            kind that is checked, but not trained.
        DataError: If the data cannot be used; nothing was trained then.
    """
    if not isinstance(task, TranslationTask):
        raise TaskError(
            f"a task of the kind {task.task} cannot be trained yet; its data can be checked with "
            "`regard data`"
        )
    mode = build_mode(task.mode)
    corpus = read_corpus(task.data, task.model.positions)
    task = _with_fingerprint(task, corpus)
    folder = (continue_run if resume else begin_run)(run_dir, task, mode)
    folder.write_data_report(corpus.report)
    if corpus.report.warnings:
        (on_report or _warn)(corpus.report)
    with _threads(task.training.threads), _quiet():
        return _train(task, folder, corpus, mode, progress)


def _train(
    task: Task, folder: RunFolder, corpus: Corpus, mode: Mode | None, progress: bool
) -> Result:
    tokenizer = train_tokenizer(_texts(corpus.splits.train), task.tokenizer.size)
    model = build_model(task, tokenizer, mode)
    checkpoint = folder.last_checkpoint()
    log = LogFile(folder.log, _step_of(checkpoint))
    stop = StopWhenAsked()
    watchers: list[TrainerCallback] = [log, stop, *([ProgressBar()] if progress else [])]
    trainer = build_trainer(task, model, tokenizer, corpus.splits, folder.checkpoints, watchers)
    with stop.listen():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    step, steps = trainer.state.global_step, task.training.steps
    if step < steps:
        return Result(folder.path, step, steps, None)
    save_model(model, tokenizer, folder.model)
    metrics = _finish(folder, task, corpus, model, tokenizer, log.seconds)
    return Result(folder.path, step, steps, metrics)


def _warn(report: Report) -> None:
    first = report.warnings[0]
    message = f"{len(report.warnings)} remarks on the data, in data.json of the run; {first}"
    warnings.warn(message, DataWarning, stacklevel=3)


def _with_fingerprint(task: Task, corpus: Corpus) -> Task:
    data = task.data.model_copy(update={"sha256": corpus.sha256})
    return task.model_copy(update={"data": data})


def _texts(pairs: Sequence[Pair]) -> Iterator[str]:
    for pair in pairs:
        yield pair.source
        yield pair.target


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from bars of its own, and from missing weights that are tied or rebuilt."""
    bar, trainer = bars.is_progress_bar_enabled(), logging.getLogger("transformers.trainer")
    level = trainer.level
    bars.disable_progress_bar()
    trainer.setLevel(logging.ERROR)
    try:
        yield
    finally:
        trainer.setLevel(level)
        if bar:
            bars.enable_progress_bar()


def _finish(
    folder: RunFolder,
    task: Task,
    corpus: Corpus,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    seconds: float,
) -> dict[str, Any]:
    """Score the model on the held-out pairs and write what was found."""
    found = evaluate(model, tokenizer, corpus.splits.test)
    _write_samples(folder.samples, corpus.splits.test, found)
    mode: Mode | None = getattr(model, "regard_mode", None)
    records = _records(corpus.splits.test, found)
    metrics = {
        "test": found.metrics(),
        "scores": [bootstrap(one).as_dict() for one in measures_of(task.task, [records])[0]],
        "measured": write_records(folder, task.task, records),
        "training": {
            "steps": task.training.steps,
            "seconds": round(seconds, 1),
            "steps_per_second": round(task.training.steps / seconds, 2),
            "parameters": sum(one.numel() for one in model.parameters()),
            "threads": torch.get_num_threads(),
        },
        "data": corpus.counts(),
        "mode": None if mode is None else {"name": mode.name, "hash": mode.hash},
        "signatures": signatures(),
        "versions": _versions(),
    }
    folder.write_metrics(metrics)
    return metrics


def _records(pairs: Sequence[Pair], found: Evaluation) -> list[Record]:
    return [
        {"input": pair.source, "reference": pair.target, "prediction": text}
        for pair, text in zip(pairs, found.translations, strict=True)
    ]


def _versions() -> dict[str, str]:
    names = ("regard", "torch", "transformers", "tokenizers", "sacrebleu")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _write_samples(path: Path, pairs: Sequence[Pair], found: Evaluation) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
        rows.writerow(("source", "reference", "translation"))
        rows.writerows(
            (pair.source, pair.target, text)
            for pair, text in zip(pairs, found.translations, strict=True)
        )


def evaluate_run(
    run_dir: str | os.PathLike, data: str | os.PathLike | None = None
) -> tuple[list[Pair], Evaluation]:
    """Score a finished run again.

    Args:
        run_dir: The run folder.
        data: Other pairs, in a file with the columns or keys of the task's data; None scores the
            run's own held-out pairs.

    Returns:
        The pairs and what the model makes of them.

    Raises:
        TaskError: If there is no finished run.
        DataError: If the data cannot be used.
    """
    folder = RunFolder(Path(run_dir))
    task = folder.read_task()
    model, tokenizer = load_model(folder.finished_model())
    if data is None:
        pairs = read_corpus(task.data).splits.test
        return pairs, evaluate(model, tokenizer, pairs)
    pairs = read_pairs(data, layout=layout_of(task.data))
    try:
        return pairs, evaluate(model, tokenizer, pairs)
    except DataError as problem:
        raise located(problem, str(data)) from None


def translate_run(run_dir: str | os.PathLike, texts: Sequence[str]) -> list[str]:
    """Translate texts with the model of a finished run.

    Args:
        run_dir: The run folder.
        texts: The texts.

    Returns:
        Their translations.

    Raises:
        TaskError: If there is no finished run.
        DataError: If a text is too long.
    """
    folder = RunFolder(Path(run_dir))
    folder.read_task()
    return translate(*load_model(folder.finished_model()), texts)
