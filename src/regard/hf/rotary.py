"""Moving cached keys to other positions, as the model's own rotary embeddings would have put them.

What rotates which layer, and which channels of a key, is not read off names: the model is run on a
few tokens at two places, and what turns the keys of one into those of the other is what rotates
them. Leaves to others: which keys are moved, and when (`streaming`).
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from regard.errors import UnsupportedError
from regard.hf.watching import watchers

Turn = Callable[[Tensor, Tensor, Tensor], Tensor]
# How many tokens, and how far apart the two places are.
_TOKENS, _APART = 4, 37


@dataclass(frozen=True)
class _Call:
    """A call of a module that computes cosines and sines of positions."""

    module: nn.Module
    args: tuple[Any, ...]
    options: dict[str, Any]
    result: Any

    def at(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines at a position, each (1, 1, channels), without a factor."""
        where = torch.tensor([[position]])
        args = [_placed(value, where) for value in self.args]
        options = {name: _placed(value, where) for name, value in self.options.items()}
        cos, sin = (part.float() for part in self.module(*args, **options))
        # Some models scale both, which keys in a cache have behind them.
        factor = (cos.square() + sin.square()).sqrt()
        return cos / factor, sin / factor


def _placed(value: Any, where: Tensor) -> Any:
    """Return positions in the place of positions, anything else as it is."""
    is_positions = isinstance(value, Tensor) and not value.is_floating_point()
    return where.to(value.device) if is_positions else value


class Rotary:
    """Moves the cached keys of a model.

    Args:
        model: A decoder.

    Raises:
        UnsupportedError: If the model's keys do not know their positions by rotation alone.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if "position_ids" not in inspect.signature(type(model).forward).parameters:
            raise UnsupportedError(
                f"{type(model).__name__} takes no position_ids, so its tokens cannot be placed "
                "within a cache that drops some"
            )
        first, found = _probe(model, 0)
        second, _ = _probe(model, _APART)
        self._layers: list[tuple[_Call, Turn] | None] = []
        for layer, (before, after) in enumerate(zip(first, second, strict=True)):
            self._layers.append(_turn_of(model, layer, before, after, found.get(layer)))
        if all(one is None for one in self._layers):
            raise UnsupportedError(
                f"{type(model).__name__} has no rotary embeddings, so its cached keys cannot be "
                "moved to other positions"
            )

    def __len__(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    def moved_back(self, layer: int, keys: Tensor, steps: int) -> Tensor:
        """Return keys as they would be at earlier positions.

        Args:
            layer: Their layer.
            keys: (B, G, M, D), as the layer cached them.
            steps: How many positions earlier, the same for all.

        Returns:
            (B, G, M, D).
        """
        found = self._layers[layer]
        if found is None:
            return keys
        call, turn = found
        cos, sin = call.at(steps)
        return turn(keys.float(), cos, -sin).to(keys.dtype)


def _turn_of(
    model: PreTrainedModel, layer: int, before: Tensor, after: Tensor, calls: Any
) -> tuple[_Call, Turn] | None:
    """Return what rotates the keys of a layer; None if their positions do not change them."""
    nearly = torch.finfo(before.dtype).eps ** 0.5 * float(before.abs().max())
    if torch.allclose(before, after, rtol=0, atol=nearly):
        return None
    if calls is not None:
        call, turns = calls
        for turn in turns:
            try:
                cos, sin = call.at(_APART)
                moved = turn(after.float(), cos, -sin).to(before.dtype)
            except (RuntimeError, TypeError, ValueError):
                continue
            if moved.shape == before.shape and torch.allclose(moved, before, rtol=0, atol=nearly):
                return call, turn
    raise UnsupportedError(
        f"{type(model).__name__} has no rotary embeddings that alone place the keys of layer "
        f"{layer} (learned positions cannot be moved), so its cache cannot drop tokens"
    )


def _probe(model: PreTrainedModel, start: int) -> tuple[list[Tensor], dict[int, Any]]:
    """Run a model on a few tokens from a position.

    Args:
        model: The model.
        start: The position of the first token.

    Returns:
        The keys of each layer, and for each layer that has it, the call that rotates it and ways
        to apply it.
    """
    cache = DynamicCache(config=model.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        raise UnsupportedError(
            f"{type(model).__name__} has layers that drop tokens by themselves or keep no keys; "
            "a streaming cache needs layers that see every key"
        )
    device = next(model.parameters()).device
    ids = torch.arange(1, 1 + _TOKENS, device=device)[None]
    where = torch.arange(start, start + _TOKENS, device=device)[None]
    with _watched(model) as (calls, users), torch.no_grad():
        model(input_ids=ids, position_ids=where, past_key_values=cache, use_cache=True)
    found = {}
    for module, given in users:
        layer = getattr(module, "layer_idx", None)
        made = [call for call in calls if any(value is call.result for value in given)]
        if layer is not None and made:
            found[layer] = made[0], _turns(module)
    kept = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    return [layer.keys for layer in kept if layer.keys is not None], found


def _turns(module: nn.Module) -> list[Turn]:
    """Return how a module may apply cosines and sines: to whole keys, or to their first part."""
    own = getattr(sys.modules[type(module).__module__], "apply_rotary_pos_emb", None)
    if own is None:
        return []

    def whole(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return own(keys, keys, cos, sin)[1]

    def part(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        width = cos.shape[-1]
        return torch.cat([whole(keys[..., :width], cos, sin), keys[..., width:]], dim=-1)

    return [whole, part]


@contextmanager
def _watched(model: PreTrainedModel) -> Iterator[tuple[list[_Call], list[tuple[nn.Module, list]]]]:
    """Note, of what is called, rotary embeddings with what they made, and modules with layers."""
    calls: list[_Call] = []
    users: list[tuple[nn.Module, list[Any]]] = []
    modes = {module: module.training for module in model.modules()}

    def rotary(module: nn.Module, args: Any, options: Any, result: Any) -> None:
        calls.append(_Call(module, args, options, result))

    def user(module: nn.Module, args: Any, options: Any) -> None:
        users.append((module, [*args, *options.values()]))

    hooks = []
    for module in modes:
        if type(module).__name__.endswith("RotaryEmbedding"):
            hooks.append(module.register_forward_hook(rotary, with_kwargs=True))
        if hasattr(module, "layer_idx"):
            hooks.append(module.register_forward_pre_hook(user, with_kwargs=True))
    nobody = watchers.set(())
    model.eval()
    try:
        yield calls, users
    finally:
        for module, training in modes.items():
            module.training = training
        watchers.reset(nobody)
        for hook in hooks:
            hook.remove()
