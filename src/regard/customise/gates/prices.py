"""What gates are charged for: the predicted time of the programs that they give shares to.

The expected time of a choice is differentiable in its shares (Cai et al. 2019, ProxylessNAS, arXiv
1812.00332, section 3.3). Leaves to others: predicting (`search.predict`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from regard.customise.gates.model import GatedModel
from regard.hf.places import Place
from regard.ir.program import AttentionProgram
from regard.modes import Assignment, Mode
from regard.search import Batch, Layers, Space, predict_cost

Prices = list[list[list[float]]]


def prices_of(gated: GatedModel, batch: Batch) -> Prices:
    """Return what each program costs in each gate, on this machine.

    Args:
        gated: The model with gates.
        batch: What a training step reads.

    Returns:
        For each layer, for each gate, for each of the layer's programs the share of a step's
        attention that it would be if all gates took what is dearest; those of a mode sum to 1 at
        most.
    """
    seconds = []
    for place, layer in gated.layers:
        each = [_seconds(one, place, batch) for one in layer.choices]
        seconds.append(
            [
                [
                    (offer.heads[1] - offer.heads[0]) * one if program in offered else 0.0
                    for program, one in zip(layer.choices, each, strict=True)
                ]
                for offer in layer.offers
                for offered in [list(offer.programs.values())]
            ]
        )
    dearest = sum(max(row) for rows in seconds for row in rows)
    return [[[one / dearest for one in row] for row in rows] for rows in seconds]


def _seconds(program: AttentionProgram, place: Place, batch: Batch) -> float:
    """Return what one head costs that runs a program."""
    space = Space({place.role: Layers(1, place.heads)}, may_read=place.given)
    mode = Mode("one", "", [Assignment(place.role, program)])
    return predict_cost(mode, space, batch).seconds / place.heads


def charge_for(prices: Prices, weight: float) -> Callable[[Sequence[Tensor]], Tensor]:
    """Return a term of the loss.

    Args:
        prices: From `prices_of`.
        weight: What the whole price counts in the loss.

    Returns:
        A function of the shares of each layer, (G, K) each; it returns weight · Σ share · price.
    """
    return partial(_charge, [torch.tensor(rows) for rows in prices], weight)


def _charge(prices: Sequence[Tensor], weight: float, shares: Sequence[Tensor]) -> Tensor:
    sums = [(one * price.to(one)).sum() for one, price in zip(shares, prices, strict=True)]
    return weight * torch.stack(sums).sum()
