"""Which candidate each unit is given: a path of states, each cheaper than the one before.

Each step is the change of some neighbouring units of a layer that saves most time for what it is
thought to lose. Leaves to others: how far along the path a model may go (`loss`).
"""

from dataclasses import dataclass

from regard.hf.cheaper.layers import State
from regard.hf.cheaper.look import Look
from regard.hf.cheaper.price import Prices

# An error no smaller than rounding, so that what loses nothing is taken first and not divided by 0.
_LEAST_ERROR = 1e-7


@dataclass(frozen=True)
class _Move:
    """A change of a layer.

    Attributes:
        units: What its units run afterwards.
        saved: Milliseconds.
        lost: How much more it errs.
    """

    units: tuple[int, ...]
    saved: float
    lost: float

    @property
    def worth(self) -> float:
        """Milliseconds saved for what is lost."""
        return self.saved / max(self.lost, _LEAST_ERROR)


def path_of(looks: tuple[Look, ...], prices: Prices, calls: tuple[int, ...]) -> list[State]:
    """Return states from the model's own attention to where nothing saves any time.

    Args:
        looks: What was seen of each layer.
        prices: What layers cost.
        calls: How often a forward pass runs each layer.

    Returns:
        The states, the first all plain, each predicted to take less time than the one before.
    """
    state = [(0,) * look.error.shape[1] for look in looks]
    moves = [_best(at, units, looks[at], prices) for at, units in enumerate(state)]
    path: list[State] = [tuple(state)]
    while any(moves):
        worths = [
            -1.0 if one is None else one.worth * count
            for one, count in zip(moves, calls, strict=True)
        ]
        at = worths.index(max(worths))
        chosen = moves[at]
        assert chosen is not None, "the best of some moves is one"
        state[at] = chosen.units
        moves[at] = _best(at, chosen.units, looks[at], prices)
        path.append(tuple(state))
    return path


def predicted_ms(state: State, prices: Prices, calls: tuple[int, ...]) -> float:
    """Return what all layers take in a forward pass.

    Args:
        state: What their units run.
        prices: What layers cost.
        calls: How often a forward pass runs each.

    Returns:
        Milliseconds.
    """
    return sum(
        count * prices.layer(at, units)
        for at, (units, count) in enumerate(zip(state, calls, strict=True))
    )


def error_of(state: State, looks: tuple[Look, ...]) -> float:
    """Return what all layers err by together, each as a share of its own output."""
    return sum(
        float(look.error[which, at])
        for look, units in zip(looks, state, strict=True)
        for at, which in enumerate(units)
    )


def _best(layer: int, units: tuple[int, ...], look: Look, prices: Prices) -> _Move | None:
    """Return the change of one unit, or of all, that saves most for what it loses."""
    error = look.error.tolist()

    def move(changed: tuple[int, ...]) -> _Move:
        lost = sum(
            error[new][at] - error[old][at]
            for at, (old, new) in enumerate(zip(units, changed, strict=True))
        )
        return _Move(changed, prices.layer(layer, units) - prices.layer(layer, changed), lost)

    spans = [(at, at + 1) for at in range(len(units))]
    spans += [(0, len(units))] if len(units) > 1 else []
    found = [
        move(units[:start] + (which,) * (stop - start) + units[stop:])
        for which in range(len(error))
        for start, stop in spans
    ]
    return max((one for one in found if one.saved > 0), key=lambda one: one.worth, default=None)
