"""A short distillation: the changed layers learn to make the model say what the original says.

Only the projections of changed layers are trained, and only towards the original: no text is
learned that it does not know. Stopping by Ctrl-C ends it after the step at hand; a checkpoint in a
folder lets a later run go on. Leaves to others: what is changed (`choose`), the verdict (`run`).
"""

import inspect
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from regard.errors import FileError
from regard.hf.cheaper.layers import Layer, State
from regard.hf.tuning.structure import find_parts

# Steps are as many as fit the minutes, by what the first ones take.
_TIMED, _CHECKPOINTS, _WARM_UP = 2, 4, 0.1
_NAMES = ("weight", "mean", "square")


@dataclass(frozen=True)
class Distilled:
    """What a distillation came to.

    Attributes:
        steps: How many steps were done, earlier runs included.
        planned: How many were meant to be.
        seconds: How long this run took.
        losses: Of each step of this run.
        asked: Whether somebody stopped it.
    """

    steps: int
    planned: int
    seconds: float
    losses: list[float]
    asked: bool


def trained_of(
    model: PreTrainedModel, layers: tuple[Layer, ...], state: State
) -> dict[str, nn.Parameter]:
    """Return what is trained: the parameters of the projections of changed layers, by name."""
    paths = [
        part.path
        for layer, units in zip(layers, state, strict=True)
        if any(units)
        for part in find_parts(model, layer.place).values()
    ]
    return {
        f"{path}.{name}": parameter
        for path in dict.fromkeys(paths)
        for name, parameter in model.get_submodule(path).named_parameters()
    }


class Distillation:
    """Trains a student towards the original.

    Args:
        original: The teacher.
        student: The model that is trained, in evaluation mode: nothing is dropped out.
        trained: Its parameters that are, by name.
        pieces: (P, N), read in an order that the seed decides.
        writes: Whether models give logits that are to agree; otherwise hidden states are.
        rate: The largest step size of AdamW.
        seed: Of the order.
        file: Where a checkpoint is kept, if anywhere.
    """

    def __init__(
        self,
        original: PreTrainedModel,
        student: PreTrainedModel,
        trained: dict[str, nn.Parameter],
        pieces: Tensor,
        *,
        writes: bool,
        rate: float,
        seed: int,
        file: Path | None,
    ) -> None:
        self.original, self.student, self.trained = original, student, trained
        self.writes, self.rate, self.file = writes, rate, file
        drawn = torch.Generator().manual_seed(seed)
        self.pieces = pieces[torch.randperm(len(pieces), generator=drawn)]
        self.optimiser = torch.optim.AdamW(trained.values(), lr=rate, weight_decay=0.0)
        self.step, self.planned = 0, 0

    def run(self, minutes: float, say: Callable[[str], None]) -> Distilled:
        """Train for some minutes, the first time; go on with what is left of the steps later.

        Args:
            minutes: How long.
            say: Is told of progress.

        Returns:
            What it came to.
        """
        begun, losses = time.perf_counter(), []
        self._read_checkpoint()
        with only_these(self.student, self.trained), listening() as asked:
            while not asked() and (not self.planned or self.step < self.planned):
                losses.append(self._one_step())
                spent = time.perf_counter() - begun
                if not self.planned and self.step >= _TIMED:
                    self.planned = max(self.step, int(self.step * 60 * minutes / spent))
                left = f" of {self.planned}" if self.planned else ""
                say(f"distilling: step {self.step}{left}, loss {losses[-1]:.4f}, {spent:.0f} s")
                if self.planned and self.step % max(1, self.planned // _CHECKPOINTS) == 0:
                    self._write_checkpoint()
            if losses:
                self._write_checkpoint()
            spent = time.perf_counter() - begun
            return Distilled(self.step, self.planned or self.step, spent, losses, asked())

    def _one_step(self) -> float:
        ids = self.pieces[self.step % len(self.pieces)][None]
        share = self.step / self.planned if self.planned else 0.0
        warm = min(1.0, (self.step + 1) / max(1, _WARM_UP * (self.planned or 20)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        loss = self._loss(ids)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        return float(loss.detach())

    def _loss(self, ids: Tensor) -> Tensor:
        if self.writes:
            options = self._some_rows(ids.shape[1])
            with torch.no_grad():
                wanted = self.original(input_ids=ids, **options).logits[0].float().log_softmax(-1)
            found = self.student(input_ids=ids, **options).logits[0].float().log_softmax(-1)
            return kl_div(found, wanted, reduction="batchmean", log_target=True)
        with torch.no_grad():
            wanted = self.original.base_model(input_ids=ids).last_hidden_state
        found = self.student.base_model(input_ids=ids).last_hidden_state
        pooled = (found.mean(1) - wanted.mean(1)).square().sum() / wanted.mean(1).square().sum()
        return (found - wanted).square().sum() / wanted.square().sum() + pooled

    def _some_rows(self, tokens: int) -> dict[str, Any]:
        """Return options of a pass that gives logits of a quarter of its tokens: words are many."""
        options: dict[str, Any] = {"use_cache": False}
        if "logits_to_keep" in inspect.signature(type(self.student).forward).parameters:
            drawn = torch.Generator().manual_seed(self.step)
            rows = torch.randperm(tokens, generator=drawn)[: max(1, tokens // 4)]
            options["logits_to_keep"] = rows.sort().values
        return options

    def _write_checkpoint(self) -> None:
        if self.file is None:
            return
        kept = {}
        for name, parameter in self.trained.items():
            known = self.optimiser.state.get(parameter, {})
            moments = (parameter.detach(), known.get("exp_avg"), known.get("exp_avg_sq"))
            kept |= {
                f"{part}:{name}": value.contiguous()
                for part, value in zip(_NAMES, moments, strict=True)
                if value is not None
            }
        unfinished = self.file.with_suffix(".part")
        save_file(kept, unfinished, {"step": str(self.step), "planned": str(self.planned)})
        unfinished.replace(self.file)

    def _read_checkpoint(self) -> None:
        if self.file is None or not self.file.is_file():
            return
        try:
            with safe_open(self.file, framework="pt") as kept:
                about = kept.metadata() or {}
                step, planned = int(about["step"]), int(about["planned"])
                values = {name: kept.get_tensor(name) for name in kept.keys()}
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    weight, mean, square = (values[f"{part}:{name}"] for part in _NAMES)
                    parameter.copy_(weight)
                    self.optimiser.state[parameter] = {
                        "step": torch.tensor(float(step)), "exp_avg": mean, "exp_avg_sq": square,
                    }  # fmt: skip
        # safetensors has an error of its own that is no ValueError.
        except Exception as problem:
            raise FileError(
                f"{self.file}: no checkpoint of this distillation ({problem}); remove it to begin "
                "anew"
            ) from None
        self.step, self.planned = step, planned


@contextmanager
def only_these(model: nn.Module, trained: dict[str, nn.Parameter]) -> Iterator[None]:
    """Let gradients reach some parameters alone for a while."""
    before = {one: one.requires_grad for one in model.parameters()}
    chosen = {id(one) for one in trained.values()}
    try:
        for one in before:
            one.requires_grad_(id(one) in chosen)
        with torch.enable_grad():
            yield
    finally:
        for one, wanted in before.items():
            one.requires_grad_(wanted)
            one.grad = None


@contextmanager
def listening() -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C as a question while this lasts; a second one ends everything at once.

    Yields:
        Tells whether it was asked.
    """
    questions: list[int] = []
    # Python lets only the main thread listen to signals.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        questions.append(number)
        signal.signal(signal.SIGINT, before if callable(before) else signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(questions)
    finally:
        signal.signal(signal.SIGINT, before)
