"""Who watches a run: the log file, the progress bar, and the one who stops it when asked to."""

import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regard.train import processes
from regard.train.folder import WHOLE, written_whole
from regard.train.lines import read_lines
from regard.train.table import Table

# The trainer's names for what we log, and ours.
_LOGGED = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
}
_WATCHED, _TIMED = "eval_", ("runtime", "per_second")
# How the log names what attention should do, apart from the loss.
TERM = "attention_"


def valid_scores(measured: Mapping[str, Any]) -> dict[str, float]:
    """Return what the trainer measured on the validation rows.

    Args:
        measured: What it logs.

    Returns:
        The loss and the metrics, each named `valid_NAME`; nothing of how long it took.
    """
    return {
        f"valid_{name.removeprefix(_WATCHED)}": value
        for name, value in measured.items()
        if name.startswith(_WATCHED) and not name.endswith(_TIMED)
    }


def numbers_of(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Return what the trainer measured, by our names.

    Args:
        logs: What it logs.

    Returns:
        Losses, scores of the validation rows, and what attention should do.
    """
    measured = logs or {}
    found = {ours: measured[name] for name, ours in _LOGGED.items() if name in measured}
    found |= {
        name: value
        for name, value in measured.items()
        # What belongs to one of several tasks has its name in front.
        if name.startswith(TERM) or ("/" in name and not name.startswith(_WATCHED))
    }
    return found | valid_scores(measured)


class LogFile(TrainerCallback):
    """Writes losses and validation scores, a JSON object a line, and the seconds so far.

    The same numbers stand in a table beside it.

    Attributes:
        step: The step the run continues from.
        told: The last step that was written before, later than where the run continues if it died.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        """Open the log of a run.

        Args:
            path: The file; the table has the same name and ends in .csv.
            step: The step the run continues from; later lines are dropped.
        """
        self.path, self.step, self.began = path, step, time.monotonic()
        self.seconds_before, self.told = 0.0, 0
        # In every process, because it gives orders as well; but one alone writes.
        if not processes.is_first():
            return
        found = read_lines(path, ("step", "seconds"))
        self.told = max((line["step"] for line in found), default=0)
        kept = [line for line in found if line["step"] <= step]
        self.seconds_before = kept[-1]["seconds"] if kept else 0.0
        with written_whole(path) as part:
            part.write_text("".join(map(_as_line, kept)), encoding="utf-8")
        self.table = Table(path.with_suffix(".csv"), kept)

    @property
    def seconds(self) -> float:
        """Seconds trained so far, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.began

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a line at each checkpoint, so that a continued log averages over the same steps.

        Args:
            args: Unused.
            state: Unused.
            control: Takes the order.
        """
        control.should_log = control.should_log or control.should_save

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write a line.

        Args:
            args: Unused.
            state: Knows the step.
            control: Unused.
            logs: What the trainer measured.
        """
        found = numbers_of(logs)
        if not found or not processes.is_first():
            return
        line = {"step": state.global_step, "seconds": round(self.seconds, 2), **found}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_as_line(line))
        self.table.add(line)


def _as_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"


class MarkWhole(TrainerCallback):
    """Marks a checkpoint that every process has written to its end."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the checkpoint just written.

        Args:
            args: Know the folder of checkpoints.
            state: Knows the step.
            control: Unused.
        """
        processes.wait_for_all()
        if processes.is_first():
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / WHOLE).touch()


class ProgressBar(TrainerCallback):
    """Shows steps, the last loss and the last validation score."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare the bar.

        Args:
            console: Where it is drawn; None is standard error.
        """
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}  {task.fields[score]}"),
            console=console or Console(stderr=True),
        )
        self.steps = self.bar.add_task("training", loss="", score="", total=None)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Draw the bar.

        Args:
            args: Unused.
            state: Knows the steps.
            control: Unused.
        """
        self.bar.update(self.steps, total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar.

        Args:
            args: Unused.
            state: Knows the step.
            control: Unused.
        """
        self.bar.update(self.steps, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show the last numbers.

        Args:
            args: Unused.
            state: Unused.
            control: Unused.
            logs: What the trainer measured.
        """
        logs = logs or {}
        if "loss" in logs:
            self.bar.update(self.steps, loss=f"loss {logs['loss']:.2f}")
        scores = valid_scores(logs)
        scores.pop("valid_loss", None)
        for name, value in list(scores.items())[:1]:
            self.bar.update(
                self.steps, score=f"validation {name.removeprefix('valid_')} {value:.4g}"
            )

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()


class StopWhenAsked(TrainerCallback):
    """Ends the training after the step at hand, with a checkpoint, once `asked` is true.

    Of several processes each hears for itself; they stop at the same step, when one has heard.
    """

    asked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and stop, if asked.

        Args:
            args: Unused.
            state: Unused.
            control: Takes the orders.
        """
        if processes.anyone(self.asked):
            control.should_log = control.should_save = control.should_training_stop = True

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as the question while this lasts; the second ends all at once.

        SIGTERM is what clusters send before they take a machine back.

        Yields:
            Nothing.
        """
        # Python lets only the main thread listen to signals.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

        def ask(*_: Any) -> None:
            self.asked = True
            for one, handler in before.items():
                signal.signal(one, handler)
            # A shell starts background jobs with Ctrl-C ignored; the second one ends those too.
            if not callable(before[signal.SIGINT]):
                signal.signal(signal.SIGINT, signal.default_int_handler)

        for one in before:
            signal.signal(one, ask)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
