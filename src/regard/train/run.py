"""A run from its task to its scores.

Leaves to others: the loop (`trainer`), the folder (`folder`), what is answered (`learners`).
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers.utils import logging as bars

from regard.data import Corpus, DataWarning, Report
from regard.data.labels import check_known
from regard.data.read_file import read_file
from regard.data.record import Record
from regard.data.split import Splits
from regard.errors import TaskError
from regard.learners import Evaluation, Learner, evaluate, learner_class
from regard.learners.pretrained import fit
from regard.learners.tokenizer import read_tokenizer
from regard.metrics.translation import signatures
from regard.metrics.uncertainty import bootstrap
from regard.modes import Mode
from regard.tasks.kinds import Task
from regard.tasks.plan_data import layout_of, load_task_data, with_fingerprint
from regard.tasks.programs import build_mode
from regard.train import processes
from regard.train.checkpoint import writing
from regard.train.examples import write_records
from regard.train.folder import RunFolder, begin_run, check_free, continue_run
from regard.train.heads import HeadLog
from regard.train.model import build_model, load_learner, save_model
from regard.train.r_drop import check_r_drop
from regard.train.record import LogFile, MarkWhole, ProgressBar, StopWhenAsked
from regard.train.selection import STATE, Selection, rises
from regard.train.sittings import sitting, versions, write_sitting
from regard.train.trackers import Tracking, check_trackers, open_trackers
from regard.train.trainer import LearnerTrainer, build_trainer
from regard.train.tuning import Tuning, begin_tuning


@dataclass(frozen=True)
class Result:
    """Where a run has come to.

    Attributes:
        folder: The run folder.
        step: Steps trained.
        steps: Steps asked for; patience may have ended it before.
        metrics: What `metrics.json` holds, or None if the run was stopped before its end. Empty in
            all but the first of several processes.
    """

    folder: Path
    step: int
    steps: int
    metrics: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.metrics is not None


@dataclass(frozen=True)
class Known:
    """What runs of one task have in common, so that it is read once.

    Attributes:
        corpus: The records.
        tokenizer: The subwords.
    """

    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase


def train(
    task: Task,
    run_dir: str | os.PathLike,
    resume: bool = False,
    progress: bool = True,
    on_report: Callable[[Report], None] | None = None,
    watchers: Sequence[TrainerCallback] = (),
    test: bool = True,
    begin: Callable[[PreTrainedModel, Learner, Splits[Record]], Tuning] | None = None,
    known: Known | None = None,
) -> Result:
    """Train a task's model and score it on its held-out rows.

    Ctrl-C ends the training after the step at hand, with a checkpoint; a run continued from there
    ends with the weights it would have had.

    Args:
        task: The task.
        run_dir: The run folder.
        resume: Continue the run that is there.
        progress: Show a progress bar.
        on_report: Is told what was found in the data; None: a DataWarning says how much it is.
        watchers: Who else is told of each step.
        test: Score the test rows too. A search does not: it sees the validation rows alone.
        begin: Says what of the model is trained, and may change it; None: as the task says.
        known: What `know` returned for this task; None: it is read anew.

    Returns:
        Where the run has come to.

    Raises:
        TaskError: If the run folder is taken, or holds nothing to continue.
        DataError: If the data cannot be used; nothing was trained then.
    """
    check_trackers(task.tracking)
    mode = build_mode(task.mode)
    if not resume and processes.is_first():
        check_free(run_dir)
    with working(task.training.threads):
        learner, corpus = prepare(task, known)
        task = learner.task
        check_r_drop(learner)
        selection = Selection(task.training, rises(learner, corpus))
        model = build_model(learner, mode)
        tuning = begin(model, learner, corpus.splits) if begin else begin_tuning(model, task)
        running: Mode | None = getattr(model, "regard_mode", None)
        folder = RunFolder(Path(run_dir))
        if processes.is_first():
            folder = (continue_run if resume else begin_run)(run_dir, task, running)
            write_sitting(folder, sitting(task, running, _step_of(folder.last_checkpoint())))
            folder.write_data_report(corpus.report)
            if corpus.report.warnings:
                (on_report or _warn)(corpus.report)
        bar = [ProgressBar()] if progress and processes.is_first() else []
        scored = ("valid", "test") if test else ("valid",)
        return _train(learner, tuning, folder, corpus, selection, [*watchers, *bar], scored)


def prepare(task: Task, known: Known | None = None) -> tuple[Learner, Corpus]:
    """Read the rows of a task and make what feeds and judges its model.

    Args:
        task: The task.
        known: What `know` returned for it; None: it is read anew.

    Returns:
        The learner, whose task has the fingerprint of its data, and the rows.

    Raises:
        TaskError: If there is no learning this task, or its settings do not fit its labels.
        DataError: If the data cannot be used.
    """
    kind = learner_class(task)
    if kind.model_class is not None:
        task = fit(task)
    known = known or know(task)
    learner = kind(with_fingerprint(task, known.corpus), known.tokenizer, known.corpus.labels)
    learner.check()
    return learner, known.corpus


def know(task: Task) -> Known:
    """Read the data of a task, and its subwords or learn them.

    Args:
        task: The task.

    Returns:
        What `train` takes.

    Raises:
        TaskError: If there is no learning this task.
        DataError: If the data cannot be used.
    """
    corpus = load_task_data(task)
    corpus.report.refuse()
    return Known(corpus, _tokenizer(learner_class(task), task, corpus))


def _train(
    learner: Learner,
    tuning: Tuning,
    folder: RunFolder,
    corpus: Corpus,
    selection: Selection,
    watchers: Sequence[TrainerCallback],
    scored: Sequence[str],
) -> Result:
    checkpoint = folder.last_checkpoint()
    log = LogFile(folder.log, _step_of(checkpoint))
    stop = StopWhenAsked()
    callbacks = [log, stop, MarkWhole(), *watchers]
    trainer = build_trainer(
        learner, tuning, corpus.splits, folder.checkpoints, callbacks, selection
    )
    with stop.listen(), _tracked(trainer, folder, log):
        _learn(trainer, checkpoint)
    state = trainer.state
    if not selection.ended(state):
        return Result(folder.path, state.global_step, state.max_steps, None)
    if not processes.is_first():
        return Result(folder.path, state.global_step, state.max_steps, {})
    kept = state.global_step
    if learner.task.training.keep == "best" and (best := selection.best_step(state)) is not None:
        kept = best
        trainer.load_weights(folder.checkpoints / f"checkpoint-{best}")
    # Takes bfloat16 out again, so that the model is scored as it will be loaded.
    trainer.accelerator.unwrap_model(tuning.model, keep_fp32_wrapper=False)
    model = tuning.finish(folder.adapter)
    with writing(folder.model):
        save_model(model, learner.tokenizer, folder.model)
    trained = {
        "steps": state.global_step,
        "kept_step": kept,
        "seconds": log.seconds,
        "trained": tuning.count.trainable,
        "share": tuning.count.share,
    }
    metrics = _finish(folder, learner, corpus, model, trained, scored)
    return Result(folder.path, state.global_step, state.max_steps, metrics)


def _learn(trainer: LearnerTrainer, checkpoint: Path | None) -> None:
    """Train from a checkpoint on, if it is not the last one."""
    if checkpoint is not None and trainer.selection.read_ended(checkpoint):
        trainer.load_weights(checkpoint)
        trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


@contextlib.contextmanager
def _tracked(trainer: LearnerTrainer, folder: RunFolder, log: LogFile) -> Iterator[None]:
    """Tell trackers of the training, and write down statistics of heads, as the task says."""
    if not processes.is_first():
        yield
        return
    learner, step = trainer.learner, log.step
    trackers = open_trackers(learner.task, folder.path, step, log.told)
    try:
        trainer.add_callback(Tracking(trackers))
        if learner.task.attention.log:
            model = trainer.regularisers.model
            heads = HeadLog(learner, model, trainer.valid, folder.heads, step, trackers)
            trainer.add_callback(heads)
        yield
    finally:
        for tracker in trackers:
            tracker.close()


def _warn(report: Report) -> None:
    first = report.warnings[0]
    message = f"{len(report.warnings)} remarks on the data, in data.json of the run; {first}"
    warnings.warn(message, DataWarning, stacklevel=3)


def _tokenizer(kind: type[Learner], task: Task, corpus: Corpus) -> PreTrainedTokenizerBase:
    if task.model.pretrained is not None:
        return read_tokenizer(task.model.pretrained)
    texts = (text for row in corpus.splits.train for text in kind.texts_of(row))
    return kind.make_tokenizer(task, texts)


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


@contextlib.contextmanager
def working(threads: int | None) -> Iterator[None]:
    """Work as a training does: with its threads, and without words of transformers.

    Args:
        threads: Of torch; None leaves them as they are.

    Yields:
        Nothing.
    """
    with _threads(threads), _quiet():
        yield


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
    """Keep transformers from bars of its own, from missing weights that are tied, and from times.

    It orders checkpoints by their numbers where a disk's times are too coarse, and says so.
    """
    bar = bars.is_progress_bar_enabled()
    loggers = [logging.getLogger(f"transformers.{name}") for name in ("trainer", "trainer_utils")]
    levels = [logger.level for logger in loggers]
    bars.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bar:
            bars.enable_progress_bar()


def _finish(
    folder: RunFolder,
    learner: Learner,
    corpus: Corpus,
    model: PreTrainedModel,
    trained: dict[str, Any],
    scored: Sequence[str],
) -> dict[str, Any]:
    """Score the model on held-out rows and write what was found."""
    mode: Mode | None = getattr(model, "regard_mode", None)
    metrics = {
        **_scores(folder, learner, corpus, model, scored),
        "training": {
            **trained,
            "seconds": round(trained["seconds"], 1),
            "steps_per_second": round(trained["steps"] / trained["seconds"], 2),
            "parameters": sum(one.numel() for one in model.parameters()),
            "threads": torch.get_num_threads(),
        },
        "data": corpus.report.counts(),
        "mode": None if mode is None else {"name": mode.name, "hash": mode.hash},
        "signatures": signatures(),
        "versions": versions(),
    }
    folder.write_metrics(metrics)
    return metrics


def _scores(
    folder: RunFolder,
    learner: Learner,
    corpus: Corpus,
    model: PreTrainedModel,
    scored: Sequence[str],
) -> dict[str, Any]:
    """Return the scores of splits that have rows; the answers to test rows are kept."""
    scores: dict[str, Any] = {}
    for split in scored:
        rows = getattr(corpus.splits, split)
        if not rows:
            continue
        found = evaluate(learner, model, rows, corpus.splits.train)
        scores[split] = found.metrics()
        if split == "test":
            scores["scores"] = [bootstrap(one).as_dict() for one in found.measures]
            kept = write_records(folder, learner.task.task, found.records, learner.options)
            scores["measured"] = kept
    return scores


def evaluate_run(
    run_dir: str | os.PathLike, data: str | os.PathLike | None = None, task: str | None = None
) -> Evaluation:
    """Score a finished run again.

    Args:
        run_dir: The run folder.
        data: Other rows, in a file with the columns or keys of the task's data; None scores the
            run's own held-out rows.
        task: Which of several tasks that the run joins; None: all of them, on its own rows.

    Returns:
        What the model makes of the rows.

    Raises:
        TaskError: If there is no finished run.
        DataError: If the data cannot be used.
    """
    learner, model = load_learner(run_dir)
    if data is not None or task is not None:
        learner, model = learner.only(task, model)
    corpus = load_task_data(learner.task)
    rows = corpus.splits.test
    if data is not None:
        settings = learner.task.data
        steps = tuple(settings.normalise)
        silent = getattr(settings, "no_answer", False)
        rows = read_file(data, settings.data_kind(), layout_of(settings), steps, silent)
        check_known(settings.data_kind(), learner.labels, rows)
    return evaluate(learner, model, rows, corpus.splits.train)


def translate_run(run_dir: str | os.PathLike, texts: Sequence[str]) -> list[str]:
    """Translate texts with the model of a finished run.

    Args:
        run_dir: The run folder.
        texts: The texts.

    Returns:
        Their translations.

    Raises:
        TaskError: If there is no finished run, or it does not translate.
        DataError: If a text is too long.
    """
    learner, model = load_learner(run_dir)
    if learner.task.task != "translation":
        raise TaskError(f"{run_dir}: this run is of the kind {learner.task.task}; use evaluate")
    rows = [Record({"source": text}, "texts", line) for line, text in enumerate(texts, 1)]
    return learner.answer(model, rows)
