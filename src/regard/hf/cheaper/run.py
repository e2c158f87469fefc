"""From a model and texts to a cheaper model: look, time, choose, distil, decide, measure.

Leaves to others: each of these steps.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from regard.errors import InputError
from regard.hf.apply import apply, restore
from regard.hf.cheaper.candidates import Candidate, candidates_for
from regard.hf.cheaper.choose import error_of, path_of
from regard.hf.cheaper.distil import Distillation, Distilled, trained_of
from regard.hf.cheaper.folder import Choice, Folder, settings_of
from regard.hf.cheaper.layers import Layer, State, find_layers, is_causal, mode_of
from regard.hf.cheaper.look import look
from regard.hf.cheaper.loss import Loss, Metric, Yardstick
from regard.hf.cheaper.measure import ROUNDS, measure
from regard.hf.cheaper.pieces import Pieces
from regard.hf.cheaper.price import price
from regard.hf.cheaper.report import CHEAPER, Cheaper, cache_bytes, rows_of
from regard.hf.interface import NAME

# Pieces that are looked at; and how much more than allowed may be lost before distillation, which
# wins back about half of it in its first steps.
_LOOKED_AT, _BEFOREHAND = 2, 3.0
# States whose loss is measured before one is taken; and what is lost for an error, at a first guess
# (of SmolLM2-135M): each measured loss says it better.
# Nearer than `_NEAR` to what is allowed need no state be.
_ASKED, _NEAR, _PER_ERROR = 5, 0.85, 0.1


def cheapen(
    model: PreTrainedModel,
    pieces: Pieces,
    *,
    loss: float = 0.01,
    minutes: float = 10.0,
    metric: Metric | None = None,
    out: Path | str | None = None,
    rate: float = 1e-4,
    seed: int = 0,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda line: None,
) -> Cheaper:
    """Find which heads of a trained model can do with cheaper attention, and give it to them.

    Every head is looked at with every candidate (local windows, blocks, a linear state), candidates
    are timed on this machine, and heads are changed where that saves most time for what it loses,
    as far as the loss allows; a short distillation towards the original allows more. The loss is
    measured, with its uncertainty, on pieces that chose, and at the end on pieces held out.

    Args:
        model: A decoder or an encoder of transformers, trained, on a CPU or another device; it is
            left as it is.
        pieces: Texts of the length that is to be cheaper; see `cut` and `Pieces.of`.
        loss: The share that may be lost: of a decoder how much perplexity may grow, of an encoder
            1 - cosine of its mean embeddings with the original's, of a metric how much of it.
        minutes: How long the distillation may take; 0 leaves it out. Ctrl-C ends it earlier and
            keeps what it came to.
        metric: A score of a model on a piece (1, N) of whole numbers, larger is better.
        out: A folder for the model, its mode and the report; a run that was stopped goes on there.
        rate: The largest step size of the distillation.
        seed: Of the order in which pieces are read.
        rounds: How many rounds of forward passes are timed.
        say: Is told what is done.

    Returns:
        The model and the report.

    Raises:
        InputError: If an option makes no sense, or the model has a mode or adapters already.
        UnsupportedError: If the model is neither a decoder nor an encoder of one text.
        FileError: If the folder holds another run.
    """
    begun = time.perf_counter()
    _check(model, loss, minutes, rounds, out)
    _check_pieces(model, pieces)
    causal = is_causal(model)
    folder = _folder(model, pieces, out, loss=loss, rate=rate, seed=seed, metric=metric)
    training = model.training
    try:
        run = _Run(model.eval(), pieces, causal, loss, metric, say)
        run.use(folder)
        found = run.finish(minutes, rate, seed, rounds, folder, begun)
    finally:
        model.train(training)
    folder.finish(found)
    return found


def _folder(
    model: PreTrainedModel,
    pieces: Pieces,
    out: Path | str | None,
    *,
    metric: Metric | None,
    **others: Any,
) -> Folder:
    """Return where a run keeps what it finds, marked with what it is."""
    named = getattr(metric, "__qualname__", str(type(metric)))
    settings = settings_of(model, pieces, metric=named, **others)
    return Folder(None if out is None else Path(out), settings)


def _check(model: Any, loss: float, minutes: float, rounds: int, out: Path | str | None) -> None:
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"hf.cheapen takes a model of transformers, not {type(model).__name__}")
    if not 0 < loss < 1:
        raise InputError(f"loss={loss!r} must lie between 0 and 1: 0.01 is 1 %")
    if not 0 <= minutes < 1e6:
        raise InputError(f"minutes={minutes!r} must be 0 or more")
    if type(rounds) is not int or rounds < 3:
        raise InputError(f"rounds={rounds!r} must be a whole number from 3")
    if hasattr(model, "regard_mode") or hasattr(model, "peft_config"):
        raise InputError(
            "the model is re-programmed or has adapters already; take them out first: "
            "rg.hf.restore(model), model.unload()"
        )
    if out is not None and getattr(model, "hf_quantizer", None) is not None:
        raise InputError(
            "the model was read from a quantized file, and transformers will not save it; make one "
            "of its class from its configuration and load its state_dict"
        )


def _check_pieces(model: PreTrainedModel, pieces: Pieces) -> None:
    if not isinstance(pieces, Pieces):
        raise InputError(
            f"hf.cheapen takes pieces of text, not {type(pieces).__name__}; make them with "
            "rg.hf.cut(tokenizer, texts, tokens) or rg.hf.Pieces.of(ids)"
        )
    longest = getattr(model.config, "max_position_embeddings", None) or pieces.tokens
    if pieces.tokens > longest:
        raise InputError(f"pieces have {pieces.tokens} tokens; the model reads {longest} at most")
    largest = max(int(part.max()) for part in vars(pieces).values())
    words = len(next(model.get_input_embeddings().parameters()))
    if largest >= words:
        raise InputError(f"pieces hold token {largest}; the model knows {words}")


@dataclass(frozen=True)
class _Stage:
    """How far along the path a model may go.

    Attributes:
        at: The number of the state.
        loss: What it loses.
    """

    at: int
    loss: Loss


class _Run:
    """What the steps of a run share."""

    def __init__(
        self,
        original: PreTrainedModel,
        pieces: Pieces,
        causal: bool,
        limit: float,
        metric: Metric | None,
        say: Callable[[str], None],
    ) -> None:
        self.original, self.pieces, self.limit, self.say = original, pieces, limit, say
        self.causal = causal
        self.student = copy.deepcopy(original)
        self.yardstick = Yardstick(original, causal, metric)
        self.candidates: list[Candidate] = candidates_for(pieces.tokens)
        self.layers: tuple[Layer, ...] = find_layers(
            self.student, self.candidates, pieces.choose[:1]
        )
        self._losses: dict[int, Loss] = {}
        self._per_error = _PER_ERROR

    def look_and_time(self) -> Choice:
        """Return what is seen and timed of every layer with every candidate."""
        looked_at = self.pieces.choose[:_LOOKED_AT]
        prices = price(self.student, self.layers, looked_at[:1], self.say)
        looks = look(self.student, self.layers, self.candidates, looked_at, self.say)
        return Choice(looks, prices)

    def use(self, folder: Folder) -> None:
        """Go on with what was seen and timed before, or see and time it now."""
        choice = folder.choice
        if choice is None:
            choice = self.look_and_time()
            folder.keep(choice)
        self.choice = choice
        self.path = path_of(choice.looks, choice.prices, tuple(one.calls for one in self.layers))
        self.errors = [error_of(state, choice.looks) for state in self.path]

    def put(self, state: State) -> None:
        """Let the student run a state."""
        mode = mode_of(self.layers, self.candidates, state)
        restore(self.student)
        if mode is not None:
            apply(self.student, mode)
        self.student.set_attn_implementation(NAME)

    def furthest(self, allowed: float, last: int, sure: bool = True) -> _Stage:
        """Return the furthest state of the path, up to one, that loses no more than is allowed.

        Args:
            allowed: What may be lost.
            last: The number of the last state that is thought of.
            sure: Whether with 95 % confidence, or on average.

        Returns:
            The state; at worst the first.
        """
        low, high, asked = 0, last, 0
        at = self._like(last, self._per_error, allowed)
        while low < high and asked < _ASKED:
            at = min(max(at, low + 1), high)
            found = self._loss_at(at)
            size = found.upper if sure else found.mean
            self.say(f"state {at} of {len(self.path) - 1} loses {found}")
            low, high = (at, high) if size <= allowed else (low, at - 1)
            if _NEAR * allowed <= size <= allowed:
                break
            self._per_error = max(size, 0.1 * allowed) / max(self.errors[at], 1e-9)
            at = self._like(high, self._per_error, allowed)
            asked += 1
        return _Stage(low, self._loss_at(low))

    def _like(self, last: int, per_error: float, allowed: float) -> int:
        """Return the state whose predicted error, at a loss for it, is nearest to what may be."""
        fits = [at for at in range(last + 1) if self.errors[at] * per_error <= allowed]
        return fits[-1]

    def _loss_at(self, at: int) -> Loss:
        if at not in self._losses:
            self.put(self.path[at])
            self._losses[at] = self.yardstick.loss(self.student, self.pieces.choose)
        return self._losses[at]

    def distil(self, at: int, minutes: float, rate: float, seed: int, folder: Folder) -> Distilled:
        """Train the student in a state."""
        self.put(self.path[at])
        trained = trained_of(self.student, self.layers, self.path[at])
        training = Distillation(
            self.original, self.student, trained, self.pieces.train, writes=self.yardstick.writes,
            rate=rate, seed=seed, file=folder.checkpoint_of(self.path[at]),
        )  # fmt: skip
        done = training.run(minutes, self.say)
        self._losses.clear()
        return done

    def forget(self) -> bool:
        """Give the student the original's weights again; return that it is not trained."""
        self.put(self.path[0])
        self.student.load_state_dict(self.original.state_dict())
        self._losses.clear()
        return False

    def finish(
        self, minutes: float, rate: float, seed: int, rounds: int, folder: Folder, begun: float
    ) -> Cheaper:
        """Choose, distil, decide and measure."""
        last = len(self.path) - 1
        if not minutes:
            best = first = self.furthest(self.limit, last)
            done, trained = None, False
        else:
            first = self.furthest(self.limit * _BEFOREHAND, last, sure=False)
            done = self.distil(first.at, minutes, rate, seed, folder) if first.at else None
            trained = done is not None and self._loss_at(first.at).mean < first.loss.mean
            if trained:
                lost = max(self._loss_at(first.at).upper, 0.1 * self.limit)
                self._per_error = lost / max(self.errors[first.at], 1e-9)
            else:
                self.forget()
            best = self.furthest(self.limit, first.at)
        if not best.at:
            # What is no cheaper is the original itself, trained or not.
            trained = self.forget()
            best = _Stage(0, self._loss_at(0))
        self.put(self.path[best.at])
        return self._report(best, first, done, trained, rounds, begun)

    def _report(
        self,
        best: _Stage,
        first: _Stage,
        done: Distilled | None,
        trained: bool,
        rounds: int,
        begun: float,
    ) -> Cheaper:
        state, held_out = self.path[best.at], self.pieces.held_out
        self.say(f"reading {len(held_out)} pieces that were held out")
        lost = self.yardstick.loss(self.student, held_out)
        self.say("timing forward passes")
        own = self.original.config._attn_implementation or "eager"
        contenders = {one: (self.original, one) for one in dict.fromkeys((own, "sdpa", NAME))}
        contenders[CHEAPER] = (self.student, NAME if best.at else own)
        times = measure(contenders, self.pieces.choose[:1], rounds)
        size = next(self.student.parameters()).element_size()
        was, now = (
            cache_bytes(self.layers, self.candidates, one, self.pieces.tokens, size)
            for one in (self.path[0], state)
        )
        table = self.choice.prices.times[0]
        return Cheaper(
            model=self.student,
            mode=getattr(self.student, "regard_mode", None),
            tokens=self.pieces.tokens,
            limit=self.limit,
            what=self.yardstick.what,
            chosen=best.loss,
            held_out=lost,
            untrained=first.loss,
            steps=0 if done is None else done.steps,
            trained=trained,
            stopped=done is not None and done.asked,
            rows=rows_of(self.layers, self.candidates, state, *vars(self.choice).values()),
            prices={one.name: table[at][-1] for at, one in enumerate(self.candidates)},
            cache_bytes=(was, now) if self.causal else None,
            times=times,
            threads=torch.get_num_threads(),
            seconds=time.perf_counter() - begun,
        )
