"""What each candidate costs on this machine, for so many heads at once: timed, not predicted.

A layer is only as cheap as its kernels allow: runs of heads that do the same are one call, blocks
of pairs are visited or skipped as a whole, and a call costs something by itself. Leaves to others:
which candidate is taken (`choose`).
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from regard.hf.cheaper.layers import Layer, own_of, record, runs
from regard.hf.check.calls import Call
from regard.hf.interface import change_of
from regard.hf.sight import sight_of
from regard.nn.programmed import Programmed

_ROUNDS, _UNMEASURED = 7, 1


class Prices:
    """Milliseconds of runs of heads, and from them of layers.

    Args:
        times: By kind of layer, candidate and length of a run, ms of a call.
        kinds: The kind of each layer.
    """

    def __init__(self, times: list[list[list[float]]], kinds: list[int]) -> None:
        self.times, self.kinds = times, kinds

    def layer(self, number: int, units: tuple[int, ...]) -> float:
        """Return what a layer takes.

        Args:
            number: The layer.
            units: What its units run.

        Returns:
            Milliseconds of a call.
        """
        table = self.times[self.kinds[number]]
        return sum(table[units[start]][stop - start] for start, stop in runs(units))


@torch.no_grad()
def price(
    model: PreTrainedModel, layers: tuple[Layer, ...], ids: Tensor, say: Callable[[str], None]
) -> Prices:
    """Time every candidate with every number of units, in turn, on the model's own rows.

    Args:
        model: The model, on Regard's kernels.
        layers: Its layers.
        ids: (1, N).
        say: Is told what is done.

    Returns:
        The times.
    """
    calls = record(model, ids)
    kinds: dict[Any, int] = {}
    times, numbers = [], []
    for layer in layers:
        key = (layer.units, layer.share, layer.place.width, layer.place.value_width, layer.programs)
        if key not in kinds:
            kinds[key] = len(kinds)
            say(f"timing {len(layer.programs)} candidates on layers such as {layer.place.path}")
            times.append(_table(layer, next(one for one in calls if one.path == layer.place.path)))
        numbers.append(kinds[key])
    return Prices(times, numbers)


def _table(layer: Layer, call: Call) -> list[list[float]]:
    """Return the time of each candidate by how many units it runs; 0 for none.

    It is processor time, and the least of the rounds: what else a machine does only adds to it.
    """
    contenders = {
        (which, count): _runner(layer, call, which, count)
        for which in range(len(layer.programs))
        for count in range(1, layer.units + 1)
    }
    found: dict[tuple[int, int], list[float]] = {key: [] for key in contenders}
    for turn in range(-_UNMEASURED, _ROUNDS):
        for key, run in contenders.items():
            begun = time.process_time()
            run()
            if turn >= 0:
                found[key].append((time.process_time() - begun) * 1e3 / torch.get_num_threads())
    counts = range(1, layer.units + 1)
    return [
        [0.0, *(min(found[which, count]) for count in counts)]
        for which in range(len(layer.programs))
    ]


def _runner(layer: Layer, call: Call, which: int, count: int) -> Callable[[], object]:
    """Return a call of one candidate with the first units of a layer, under the model's mask."""
    own, heads = own_of(call), count * layer.share
    sight = sight_of(call.module, call.query, call.key, call.mask, call.options.get("is_causal"))
    programmed = Programmed(
        layer.programs[which], heads, call.query.shape[3], key_heads=count,
        value_width=call.value.shape[3],
    ).eval()  # fmt: skip
    given = {**sight.inputs, **own.inputs}
    return partial(
        programmed,
        call.query[:, :heads],
        call.key[:, :count],
        call.value[:, :count],
        change=change_of(sight.condition, own.reach),
        query_offset=sight.query_offset or 0,
        **{name: _first(value, layer.place.heads, heads) for name, value in given.items()},
    )


def _first(value: Tensor, heads: int, wanted: int) -> Tensor:
    """Return the part of an input that belongs to the first heads."""
    axis = 0 if value.dim() < 3 else 1
    return value.narrow(axis, 0, wanted) if value.shape[axis] == heads else value
