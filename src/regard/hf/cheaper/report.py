"""What came of making a model cheaper: as data, and as a page of text.

Leaves to others: every figure in it.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from transformers import PreTrainedModel

from regard.hf.cheaper.candidates import FIRST, Candidate
from regard.hf.cheaper.layers import Layer, State
from regard.hf.cheaper.look import Look
from regard.hf.cheaper.loss import Loss
from regard.hf.cheaper.measure import Ratio, Times, ratio
from regard.hf.cheaper.price import Prices
from regard.modes.mode import Mode

CHEAPER = "cheaper"
_TIMES = (
    "  {:<8} attention {:.1f} ms of {:.1f} ms in processor time a thread, "
    "{:.1f} of {:.1f} on the clock"
)
# A gain below this may be noise, however often it is measured.
_LEAST_GAIN = 1.02


@dataclass(frozen=True)
class Row:
    """What a layer became.

    Attributes:
        layer: The path of its attention.
        heads: What each of its heads runs.
        kept: Which share of its weights each head keeps by it, before distillation; None where
            nothing keeps weights.
        ms: What it is predicted to take, by the prices of its parts.
        plain_ms: What its own attention takes, likewise.
    """

    layer: str
    heads: tuple[str, ...]
    kept: tuple[float | None, ...]
    ms: float
    plain_ms: float


@dataclass(frozen=True)
class Cheaper:
    """A model whose attention is cheaper, and what that cost and saved.

    Attributes:
        model: The model, its mode applied and its projections trained; a copy of the original if
            nothing was gained.
        mode: The mode, or None.
        tokens: How many tokens a piece has.
        limit: The loss that was allowed.
        what: What the loss is.
        chosen: The loss on the pieces that chose.
        held_out: The loss on pieces that nothing saw before.
        untrained: The loss on the pieces that chose, before distillation.
        steps: How many steps of distillation there were.
        trained: Whether their weights were kept.
        stopped: Whether somebody stopped the distillation.
        rows: What each layer became.
        prices: By candidate, ms of a layer that runs it throughout, as the first layer does.
        cache_bytes: Keys and values, or states, that later tokens can still read: of the original,
            of this model; None for an encoder.
        times: Measured forward passes, by contender.
        threads: How many threads ran.
        seconds: How long all of it took.
    """

    model: PreTrainedModel
    mode: Mode | None
    tokens: int
    limit: float
    what: str
    chosen: Loss
    held_out: Loss
    untrained: Loss
    steps: int
    trained: bool
    stopped: bool
    rows: tuple[Row, ...]
    prices: dict[str, float]
    cache_bytes: tuple[int, int] | None
    times: dict[str, Times] = field(default_factory=dict)
    threads: int = 1
    seconds: float = 0.0

    @property
    def peer(self) -> str:
        """Which implementation runs the original's attention fastest."""
        others = [name for name in self.times if name != CHEAPER]
        return min(others, key=lambda name: statistics.median(self.times[name].attention))

    @property
    def attention(self) -> Ratio:
        """How many times as fast attention is as the original's fastest."""
        return ratio(self.times[self.peer].attention, self.times[CHEAPER].attention)

    @property
    def forward(self) -> Ratio:
        """How many times as fast a forward pass is as the original's fastest."""
        return ratio(self.times[self.peer].forward, self.times[CHEAPER].forward)

    @property
    def gained(self) -> bool:
        """Whether attention is faster in three rounds of four, by more than noise."""
        return self.mode is not None and self.attention.low >= _LEAST_GAIN

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.gained:
            return f"no gain: nothing that saves time stays within {self.limit:.2%}"
        if self.held_out.upper <= self.limit:
            kept = f"within the stated {self.limit:.2%}"
        elif self.held_out.mean <= self.limit:
            kept = f"within the stated {self.limit:.2%} on average, not with 95 % confidence"
        else:
            kept = f"above the stated {self.limit:.2%} on texts held out"
        return f"attention {self.attention.median:.2f} × as fast, {kept}"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        left_out = ("model", "mode", "times", "rows")
        told = {
            name: asdict(value) if isinstance(value, Loss) else value
            for name, value in vars(self).items()
            if name not in left_out
        }
        return {
            "verdict": self.verdict,
            "gained": self.gained,
            **told,
            "mode": None if self.mode is None else {"name": self.mode.name, "hash": self.mode.hash},
            "attention": asdict(self.attention),
            "forward": asdict(self.forward),
            "peer": self.peer,
            "times_ms": {name: asdict(one) for name, one in self.times.items()},
            "rows": [asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        lines = [
            self.verdict,
            "",
            f"{'layer':<44}{'heads':<40}{'weights kept':>13}{'ms':>8}{'was':>8}",
        ]
        for row in self.rows:
            heads = ", ".join(f"{count} {name}" for name, count in Counter(row.heads).items())
            known = [one for one in row.kept if one is not None]
            kept = f"{sum(known) / len(known):.1%}" if known else "–"
            lines.append(f"{row.layer:<44}{heads:<40}{kept:>13}{row.ms:>8.2f}{row.plain_ms:>8.2f}")
        return "\n".join([*lines, "", *self._figures()])

    def _figures(self) -> list[str]:
        found = [
            f"loss ({self.what}), texts held out: {self.held_out}",
            f"  texts that chose: {self.chosen}; before distillation {self.untrained}",
        ]
        if self.held_out.was is not None:
            found.append(f"  texts held out: {self.held_out.now:.3f}, was {self.held_out.was:.3f}")
        trained = f"{self.steps} steps" + (", stopped" if self.stopped else "")
        found.append(
            f"distillation: {trained}" + ("" if self.trained else "; its weights were not kept")
        )
        found.append(f"attention {self.attention} as fast as the original's on '{self.peer}'")
        found.append(f"a forward pass {self.forward}")
        for name, times in self.times.items():
            medians = [statistics.median(one) for one in vars(times).values()]
            found.append(_TIMES.format(name, *medians))
        if self.cache_bytes is not None:
            was, now = (size / 1e6 for size in self.cache_bytes)
            found.append(f"keys and values later tokens can read: {now:.2f} MB, were {was:.2f} MB")
        listed = ", ".join(f"{name} {ms:.2f}" for name, ms in self.prices.items())
        found.append(f"ms of a layer with one program throughout: {listed}")
        found.append(f"{self.tokens} tokens, {self.threads} threads, {self.seconds:.0f} s in all")
        return found


def rows_of(
    layers: tuple[Layer, ...],
    candidates: Sequence[Candidate],
    state: State,
    looks: tuple[Look, ...],
    prices: Prices,
) -> tuple[Row, ...]:
    """Return what each layer became.

    Args:
        layers: The layers.
        candidates: What the numbers of the state mean.
        state: What their units run.
        looks: What was seen of them.
        prices: What they cost.

    Returns:
        A row a layer.
    """
    found = []
    for at, (layer, units, look) in enumerate(zip(layers, state, looks, strict=True)):
        of_head = [unit for unit in units for _ in range(layer.share)]
        kept = [float(look.kept[unit, head]) for head, unit in enumerate(of_head)]
        found.append(Row(
            layer.place.path,
            tuple(candidates[unit].name for unit in of_head),
            tuple(None if one != one else one for one in kept),
            prices.layer(at, units),
            prices.layer(at, (0,) * len(units)),
        ))  # fmt: skip
    return tuple(found)


def cache_bytes(
    layers: tuple[Layer, ...],
    candidates: Sequence[Candidate],
    state: State,
    tokens: int,
    number_bytes: int,
) -> int:
    """Return how much of so many tokens' keys and values later tokens can still read.

    Args:
        layers: The layers.
        candidates: What the numbers of the state mean.
        state: What their units run.
        tokens: N.
        number_bytes: Of one number.

    Returns:
        Bytes.
    """
    total = 0
    for layer, units in zip(layers, state, strict=True):
        width = layer.place.width
        values = layer.place.value_width or width
        for one in (candidates[unit] for unit in units):
            rows = tokens if one.reach is None else min(tokens, one.reach + FIRST)
            # A linear unit keeps a state instead: D rows of E values and their sum, a query head's
            # own being the same for all that share keys.
            kept = width * (values + 1) if one.kind == "linear" else rows * (width + values)
            total += kept * layer.calls
    return total * number_bytes


def is_plain(state: State) -> bool:
    """Return whether nothing changed."""
    return not any(unit for units in state for unit in units)
