"""How well each group of heads does with each candidate: looked at once, on the model's own rows.

The queries, keys and values of a pass through the model as it is are given to every candidate.
What its output errs by, behind the layer's last projection and as a share of the layer's output,
tells beforehand how much a model loses by it; the weights it keeps tell a reader why. Leaves to
others: the loss itself (`loss`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from regard.hf.apply import apply, restore
from regard.hf.cheaper.candidates import Candidate
from regard.hf.cheaper.layers import Layer, mode_of, record
from regard.hf.check.calls import Call
from regard.hf.interface import NAME
from regard.hf.observe import observe


@dataclass(frozen=True)
class Look:
    """What was seen of a layer.

    Attributes:
        error: (candidates, units): what the output errs by, squared, as a share of its square.
        kept: (candidates, heads): which share of its weights a head keeps; NaN where a candidate
            has no weights.
    """

    error: Tensor
    kept: Tensor


@torch.no_grad()
def look(
    model: PreTrainedModel,
    layers: tuple[Layer, ...],
    candidates: list[Candidate],
    pieces: Tensor,
    say: Callable[[str], None],
) -> tuple[Look, ...]:
    """Look at every layer with every candidate.

    Args:
        model: The model, on Regard's kernels; it is left as it was.
        layers: Its layers.
        candidates: The candidates.
        pieces: (P, N).
        say: Is told what is done.

    Returns:
        What was seen of each layer.
    """
    sizes = [(len(candidates), layer.units) for layer in layers]
    errors = [torch.zeros(size, dtype=torch.float64) for size in sizes]
    kept = [torch.zeros(len(candidates), one.place.heads, dtype=torch.float64) for one in layers]
    wholes = [0.0 for _ in layers]
    for at, ids in enumerate(pieces):
        say(f"looking at piece {at + 1} of {len(pieces)}")
        calls = record(model, ids[None])
        plain = list(_outputs(model, calls, True))
        of_path = {layer.place.path: number for number, layer in enumerate(layers)}
        numbers = [of_path[call.path] for call in calls]
        for number, (output, _) in zip(numbers, plain, strict=True):
            wholes[number] += float(_projected(model, layers[number], output).square().sum())
        for which, one in enumerate(candidates):
            mode = mode_of(layers, candidates, tuple((which,) * one.units for one in layers))
            if mode is None:
                continue
            apply(model, mode)
            found = _outputs(model, calls, one.kind != "linear")
            for number, (old, lse), (new, own_lse) in zip(numbers, plain, found, strict=True):
                errors[number][which] += _per_unit(model, layers[number], new - old)
                if own_lse is not None and lse is not None:
                    share = (own_lse.double() - lse.double()).exp().mean((0, 2))
                    kept[number][which] += share / (len(pieces) * layers[number].calls)
                else:
                    kept[number][which] = torch.nan
            restore(model)
            model.set_attn_implementation(NAME)
    for of_layer in kept:
        of_layer[0] = 1.0
    return tuple(
        Look(error / whole, share) for error, whole, share in zip(errors, wholes, kept, strict=True)
    )


def _outputs(
    model: PreTrainedModel, calls: list[Call], weights: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield what calls give, run again, and the logarithms of their rows' sums (B, H, N)."""
    for call in calls:
        if not weights:
            yield call.run(), None
            continue
        with observe(model, ["lse"]) as seen:
            output = call.run()
        yield output, seen["lse"][0]


def _weight(model: PreTrainedModel, layer: Layer) -> Tensor | None:
    """Return the projection behind a layer's heads, (heads · E, channels)."""
    if layer.output is None:
        return None
    module = model.get_submodule(layer.output)
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight if isinstance(module, Conv1D) else weight.T


def _projected(model: PreTrainedModel, layer: Layer, output: Tensor) -> Tensor:
    """Return (B, N, H, E) behind the layer's last projection."""
    weight = _weight(model, layer)
    return output.flatten(2) if weight is None else output.flatten(2) @ weight


def _per_unit(model: PreTrainedModel, layer: Layer, error: Tensor) -> Tensor:
    """Return the square of an error (B, N, H, E) behind the last projection, unit by unit."""
    weight, width = _weight(model, layer), layer.share * error.shape[3]
    rows = error.flatten(2).split(width, dim=2)
    parts = [None] * layer.units if weight is None else weight.split(width, dim=0)
    squares = [
        (row if part is None else row @ part).double().square().sum()
        for row, part in zip(rows, parts, strict=True)
    ]
    return torch.stack(squares)
