"""Which weights a run ends with, and when: by the scores of the validation rows.

All is read from the scores so far, which a checkpoint holds, so nothing of it is lost on the way.
Leaves to others: writing checkpoints (transformers), measuring (`trainer`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regard.data import Corpus
from regard.errors import TaskError, nearest
from regard.learners import Learner
from regard.learners.evaluation import records_of
from regard.metrics.records import measures_of
from regard.tasks.settings import TrainingSettings

# How transformers names a score of the validation rows, and the file that holds them.
VALID = "eval_"
STATE = "trainer_state.json"


def rises(learner: Learner, corpus: Corpus) -> bool:
    """Return whether what training watches is better when it is larger.

    Args:
        learner: Of the task.
        corpus: Its rows.

    Returns:
        False for the loss.

    Raises:
        TaskError: If something is to be selected by scores that there are not.
    """
    settings, (train, valid, _) = learner.task.training, corpus.splits
    if not settings.selects:
        return False
    if not valid:
        asks = "keep: best" if settings.keep == "best" else "patience"
        raise TaskError(
            f"training.{asks} goes by validation rows, but there are none; data.split gives some"
        )
    if settings.watch in learner.losses:
        return False
    # What needs no model is measured alike.
    guessed = records_of(learner, valid, learner.baseline(train, valid))
    (measures,) = measures_of(learner.task.task, [guessed], learner.options)
    known = {one.name: one.higher_is_better for one in measures}
    if settings.watch not in known:
        raise TaskError(
            f"training.watch: '{settings.watch}' is not measured; "
            f"{nearest(settings.watch, [*learner.losses, *known])}"
        )
    return known[settings.watch]


def best_of(scores: Sequence[float], rising: bool) -> int | None:
    """Return the place of the best score, the first among equals.

    Args:
        scores: Any number, NaN where there is none.
        rising: Whether larger is better.

    Returns:
        Its place; None if there is no score.
    """
    there = [place for place, score in enumerate(scores) if not math.isnan(score)]
    sign = -1 if rising else 1
    return min(there, key=lambda place: sign * scores[place], default=None)


class Selection(TrainerCallback):
    """Keeps the best weights in a checkpoint, and ends training that gets no better."""

    def __init__(self, settings: TrainingSettings, rising: bool) -> None:
        """Remember what to go by.

        Args:
            settings: Say what is watched, what is kept, and how long to be patient.
            rising: Whether a larger score is better.
        """
        self.settings, self.rising = settings, rising

    def scores(self, state: TrainerState) -> list[tuple[int, float]]:
        """Return what was watched so far.

        Args:
            state: Of the run.

        Returns:
            (step, score) pairs.
        """
        name = f"{VALID}{self.settings.watch}"
        return [(int(line["step"]), line[name]) for line in state.log_history if name in line]

    def best_step(self, state: TrainerState) -> int | None:
        """Return the step of the best score.

        Args:
            state: Of the run.

        Returns:
            The step; None without any score.
        """
        steps = self.scores(state)
        best = best_of([score for _, score in steps], self.rising)
        return None if best is None else steps[best][0]

    def ran_out(self, state: TrainerState) -> bool:
        """Return whether patience has run out.

        Args:
            state: Of the run.

        Returns:
            Whether so many scores in a row were no better than one before.
        """
        if self.settings.patience is None:
            return False
        best, scores = self.best_step(state), self.scores(state)
        return sum(best is None or step > best for step, _ in scores) >= self.settings.patience

    def ended(self, state: TrainerState) -> bool:
        """Return whether training has come to its end.

        Args:
            state: Of the run.

        Returns:
            True after the last step, or when patience has run out.
        """
        return 0 < state.max_steps <= state.global_step or self.ran_out(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a line of the log at each evaluation, which may end in a checkpoint.

        Args:
            args: Unused.
            state: Unused.
            control: Takes the order.
        """
        if self.settings.selects:
            control.should_log = control.should_log or control.should_evaluate

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save what is best so far; end when patience has run out.

        Args:
            args: Unused.
            state: Holds the scores, with the one just measured.
            control: Takes the orders.
        """
        if self.settings.keep == "best" and self.best_step(state) == state.global_step:
            control.should_save = True
        if self.ran_out(state):
            control.should_save = control.should_training_stop = True

    def read_ended(self, checkpoint: Path | None) -> bool:
        """Return whether the training that wrote a checkpoint had come to its end.

        Args:
            checkpoint: Its folder.

        Returns:
            As `ended`; False without a checkpoint.
        """
        if checkpoint is None:
            return False
        return self.ended(TrainerState.load_from_json(str(checkpoint / STATE)))
