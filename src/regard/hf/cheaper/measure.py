"""The time of attention within whole forward passes, of several models in turn.

Processor time a thread stands beside the time on the clock: on a machine that others use as well,
the first tells what a model costs, the second also what the others did.

Leaves to others: what the figures mean (`report`).
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import AttentionInterface

ROUNDS = 9


@dataclass(frozen=True)
class Times:
    """What forward passes of one model took, round by round, in milliseconds.

    Attributes:
        attention: All calls of attention functions together, in processor time a thread.
        forward: The whole pass, likewise.
        attention_clock: The calls, on the clock.
        forward_clock: The whole pass, on the clock.
    """

    attention: tuple[float, ...]
    forward: tuple[float, ...]
    attention_clock: tuple[float, ...]
    forward_clock: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one model is as another, taken round by round.

    Attributes:
        median: The middle of the rounds.
        low: The lower quartile.
        high: The upper quartile.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} × ({self.low:.2f} to {self.high:.2f})"


def ratio(slow: tuple[float, ...], fast: tuple[float, ...]) -> Ratio:
    """Return how many times as fast.

    Args:
        slow: Times of one, round by round.
        fast: Times of the other, in the same rounds.

    Returns:
        The ratio.
    """
    found = [one / two for one, two in zip(slow, fast, strict=True)]
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Ratio(median, low, high)


@torch.no_grad()
def measure(
    contenders: dict[str, tuple[PreTrainedModel, str]], ids: Tensor, rounds: int = ROUNDS
) -> dict[str, Times]:
    """Time forward passes, A B C A B C …, after one round that does not count.

    Args:
        contenders: Models by name, with the attention implementation each runs.
        ids: (B, N).
        rounds: How many rounds count, at least 2.

    Returns:
        The times of each.
    """
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    for turn in range(-1, rounds):
        for name, (model, implementation) in contenders.items():
            before = model.config._attn_implementation or "eager"
            if implementation != before:
                model.set_attn_implementation(implementation)
            with _timed() as spent:
                begun = _now()
                model.base_model(input_ids=ids)
                whole = _since(begun)
            if implementation != before:
                model.set_attn_implementation(before)
            if turn >= 0:
                attention = [sum(column) for column in zip(*spent, strict=True)]
                found[name].append((attention[0], whole[0], attention[1], whole[1]))
    return {name: Times(*zip(*rows, strict=True)) for name, rows in found.items()}


def _now() -> tuple[float, float]:
    """Return processor time a thread and the time on the clock, in ms."""
    return time.process_time() * 1e3 / torch.get_num_threads(), time.perf_counter() * 1e3


def _since(begun: tuple[float, float]) -> tuple[float, float]:
    processor, clock = _now()
    return processor - begun[0], clock - begun[1]


@contextlib.contextmanager
def _timed() -> Iterator[list[tuple[float, float]]]:
    """Take the time of every call of an attention function, processor and clock."""
    spent: list[tuple[float, float]] = []
    own = AttentionInterface.get_interface

    def get_interface(self: AttentionInterface, name: str, default: Callable) -> Callable:
        function = own(self, name, default)

        def timed(*args: Any, **options: Any) -> Any:
            begun = _now()
            result = function(*args, **options)
            spent.append(_since(begun))
            return result

        return timed

    AttentionInterface.get_interface = get_interface  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        AttentionInterface.get_interface = own  # type: ignore[method-assign]
