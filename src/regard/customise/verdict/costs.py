"""What a training step of each contender costs on this machine: time in turn, memory alone.

A step is forward, loss, backward and update of a batch of the task. All contenders take the same
batches one after another, A B C B C A …, so that whatever else the machine does falls on all alike,
and times are compared within a round. Leaves to others: the runs themselves (`judge`).
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from regard.data import Corpus
from regard.learners import Learner
from regard.learners.batches import TokenBudgetBatches
from regard.metrics.need import need
from regard.modes import Mode
from regard.train.model import build_model
from regard.train.tuning import begin_tuning

ROUNDS, FEWEST = 25, 9
# Rows that batches are made of, and batches: each has a shape that kernels are prepared for once.
_ROWS, _BATCHES = 2000, 5
_SECONDS = 300.0


@dataclass(frozen=True)
class Costs:
    """What steps took.

    Attributes:
        times: By contender, milliseconds of a step, round by round.
        peak_bytes: By contender, of weights, optimiser and the tensors of a step together, at their
            highest.
        machine: Where it was measured.
    """

    times: Mapping[str, Sequence[float]]
    peak_bytes: Mapping[str, int]
    machine: Mapping[str, Any]

    def median(self, name: str) -> float:
        """Return the time of a step in the middle of all rounds, in ms."""
        return float(np.median(self.times[name]))

    def ratio(self, name: str, baseline: str, level: float) -> "Ratio":
        """Return the time of one contender beside that of another.

        Args:
            name: The one.
            baseline: The other.
            level: Of the interval.

        Returns:
            The ratio.
        """
        return ratio_of(self.times[name], self.times[baseline], level)


@dataclass(frozen=True)
class Ratio:
    """The time of a step as a share of another's.

    Attributes:
        value: The median over rounds.
        low: The lower end of its interval.
        high: The upper end.
    """

    value: float
    low: float
    high: float


def ratio_of(times: Sequence[float], others: Sequence[float], level: float) -> Ratio:
    """Return the median of ratios within rounds, with an interval that supposes nothing.

    Args:
        times: Round by round.
        others: Of the same rounds.
        level: Of the interval, which the order statistics of the sign test bound (David & Nagaraja
            2003, 7.1); the smallest and largest ratio if there are too few rounds for it.

    Returns:
        The ratio.
    """
    found = np.sort(np.asarray(times) / np.asarray(others))
    outside = int(need("scipy.stats").binom.ppf((1 - level) / 2, len(found), 0.5))
    # The ends leave out as many rounds on either side as chance does less often than allowed.
    first = max(outside - 1, 0)
    return Ratio(float(np.median(found)), float(found[first]), float(found[-1 - first]))


def measure_costs(
    learner: Learner, corpus: Corpus, modes: Mapping[str, Mode | None], rounds: int = ROUNDS
) -> Costs:
    """Measure steps of contenders on the task's own batches.

    Args:
        learner: Of the task.
        corpus: Its rows; training rows alone are read.
        modes: By contender; None for the model's own attention.
        rounds: How many rounds count; fewer, but not below 9, if they take more than five minutes.

    Returns:
        Times and memory.
    """
    batches = _batches(learner, corpus)
    steppers = {name: _Stepper(learner, mode) for name, mode in modes.items()}
    peak = {}
    for name, stepper in steppers.items():
        # Also the round that does not count: kernels are prepared, states of the optimiser made.
        for batch in batches:
            stepper.step(batch)
        peak[name] = stepper.standing_bytes() + _grown(stepper, max(batches, key=_size))
    times = _take_turns(steppers, batches, rounds)
    device = next(iter(steppers.values())).device
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return Costs(times, peak, machine)


def _take_turns(
    steppers: Mapping[str, "_Stepper"], batches: Sequence[dict[str, Tensor]], rounds: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steppers}
    names, began = list(steppers), time.monotonic()
    for turn in range(rounds):
        if turn >= FEWEST and time.monotonic() - began > _SECONDS:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            steppers[name].step(batches[turn % len(batches)])
            times[name].append((time.perf_counter() - begun) * 1e3)
    return times


class _Stepper:
    """One contender's model, trained step by step on batches it is given."""

    def __init__(self, learner: Learner, mode: Mode | None) -> None:
        self.learner, self.settings = learner, learner.task.training
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tuning = begin_tuning(build_model(learner, mode), learner.task)
        self.model: PreTrainedModel = tuning.model.to(self.device).train()  # type: ignore[assignment]
        self.trained = [one for one in self.model.parameters() if one.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-5)

    def step(self, batch: Mapping[str, Tensor]) -> None:
        inputs = {name: value.to(self.device) for name, value in batch.items()}
        labels = inputs.pop("labels")
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, self.settings.bfloat16):
            loss = self.learner.loss(self.model(**inputs), labels)
        loss.backward()
        if self.settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.trained, self.settings.max_grad_norm)
        self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def standing_bytes(self) -> int:
        """Return the size of what stays from step to step."""
        states = [
            value
            for state in self.optimiser.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
        kept = [*self.model.parameters(), *self.model.buffers(), *states]
        return sum(one.numel() * one.element_size() for one in kept)


def _batches(learner: Learner, corpus: Corpus) -> list[dict[str, Tensor]]:
    settings = learner.task.training
    examples = learner.encode(corpus.splits.train[:_ROWS])
    examples = [learner.vary(one, f"cost {place}") for place, one in enumerate(examples)]
    drawn = list(TokenBudgetBatches(examples, settings.batch_tokens, settings.seed))[:_BATCHES]
    return [learner.collate([examples[place] for place in places]) for places in drawn]


def _size(batch: Mapping[str, Tensor]) -> int:
    return max(value.numel() for value in batch.values())


def _grown(stepper: _Stepper, batch: dict[str, Tensor]) -> int:
    """Return by how much tensors grow in a step, at their highest, gradients included."""
    stepper.optimiser.zero_grad()
    if stepper.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        stepper.step(batch)
        return torch.cuda.max_memory_allocated() - before
    with _hushed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        stepper.step(batch)
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events: list[Any] = watched.profiler.kineto_results.events()
    events = [one for one in events if one.name() == "[memory]"]
    sizes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
    return int(max(np.cumsum([0, *sizes])))


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep the profiler's library from writing to the terminal, which it does past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
