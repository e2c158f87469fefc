"""The attention layers of a model, with what each may be given: its units of choice.

A unit is a group of heads that share keys, the smallest that a mode can give a program of its own.
Leaves to others: how well a unit does with a candidate (`look`), and what it costs (`price`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.hf.cheaper.candidates import PLAIN, Candidate
from regard.hf.check.calls import Call, recording
from regard.hf.interface import NAME
from regard.hf.own import Own, read_own
from regard.hf.places import Place, find_places
from regard.hf.tuning.structure import find_output
from regard.ir.program import AttentionProgram
from regard.modes.mode import Assignment, Mode

# What each unit of each layer runs, by the numbers of candidates; 0 is the model's own attention.
State = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layer:
    """A layer of self-attention.

    Attributes:
        place: Where it is.
        programs: What it may run, by candidate.
        output: The path of the projection behind its heads, or None.
        calls: How often a forward pass runs it: several layers may share a module.
    """

    place: Place
    programs: tuple[AttentionProgram, ...]
    output: str | None
    calls: int = 1

    @property
    def units(self) -> int:
        """How many groups of heads share keys."""
        return self.place.key_heads or self.place.heads

    @property
    def share(self) -> int:
        """How many heads share keys."""
        return self.place.heads // self.units


def is_causal(model: PreTrainedModel) -> bool:
    """Return whether a model writes; one that does neither or both is refused.

    Args:
        model: The model.

    Returns:
        True for a decoder, False for an encoder.

    Raises:
        UnsupportedError: If it has attention of other roles, or of both.
    """
    roles = sorted({place.role for _, place in find_places(model).values()})
    if roles not in (["decoder"], ["encoder"]):
        raise UnsupportedError(
            f"a {type(model).__name__} has attention of roles {', '.join(roles)}; models of one "
            "text are made cheaper, decoders such as Llama and encoders such as BERT"
        )
    return roles == ["decoder"]


def record(model: PreTrainedModel, ids: Tensor) -> list[Call]:
    """Return the calls of a model's own attention in a forward pass.

    Args:
        model: The model, on Regard's kernels.
        ids: (B, N).

    Returns:
        The calls, in order.
    """
    with torch.no_grad(), recording(model) as calls:
        model.base_model(input_ids=ids)
    return calls


def find_layers(
    model: PreTrainedModel, candidates: list[Candidate], ids: Tensor
) -> tuple[Layer, ...]:
    """Return a model's layers.

    Args:
        model: The model; it runs Regard's kernels afterwards.
        candidates: What heads may be given.
        ids: (B, N), any text.

    Returns:
        The layers, in order.

    Raises:
        UnsupportedError: If the model's attention cannot be reached.
    """
    causal = is_causal(model)
    model.set_attn_implementation(NAME)
    calls = record(model, ids)
    found = []
    for _, place in find_places(model).values():
        own_calls = [call for call in calls if call.path == place.path]
        if not own_calls:
            raise UnsupportedError(f"{place.path} did not call its attention function")
        own = own_of(own_calls[0])
        programs = tuple(one.make(own, causal) for one in candidates)
        found.append(Layer(place, programs, find_output(model, place), len(own_calls)))
    return tuple(found)


def own_of(call: Call) -> Own:
    """Return what a call says of the model's own attention."""
    options = {name: value for name, value in call.options.items() if name != "dropout"}
    return read_own(call.module, call.query, options.pop("scaling", None), options)


def mode_of(layers: tuple[Layer, ...], candidates: list[Candidate], state: State) -> Mode | None:
    """Return the mode in which each unit runs what a state says.

    Args:
        layers: The layers.
        candidates: What the numbers of the state mean.
        state: The state.

    Returns:
        The mode; None if all run the model's own attention.
    """
    assigned = []
    for layer, units in zip(layers, state, strict=True):
        if not any(units):
            continue
        number = layer.place.layer
        for start, stop in runs(units):
            heads = (
                None if stop - start == len(units) else (start * layer.share, stop * layer.share)
            )
            program = layer.programs[units[start]]
            assigned.append(Assignment(layer.place.role, program, (number, number + 1), heads))
    if not assigned:
        return None
    kinds = {candidates[number].name for units in state for number in units} - {PLAIN}
    return Mode(
        "cheaper", f"as good within a stated loss, with {', '.join(sorted(kinds))}", assigned
    )


def runs(units: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return where neighbours run the same: (first unit, unit after the last) of each run."""
    starts = [at for at in range(len(units)) if at == 0 or units[at] != units[at - 1]]
    return list(zip(starts, [*starts[1:], len(units)], strict=True))
