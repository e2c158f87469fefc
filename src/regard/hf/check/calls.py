"""The calls of attention functions in a forward pass, recorded, and run again with other tensors.

transformers asks its registry for the function of an implementation at every call; while recording,
the registry hands out a function that writes the call down. Leaves to others: what to change.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function
from transformers.modeling_utils import AttentionInterface


@dataclass
class Call:
    """One call of an attention function.

    Attributes:
        path: The attention module's name in the model.
        module: The module.
        function: The function.
        query: (B, H, N, D).
        key: (B, G, M, D).
        value: (B, G, M, E).
        mask: The mask, as the function got it.
        options: Its other arguments.
    """

    path: str
    module: nn.Module
    function: Callable[..., Any]
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    options: dict[str, Any]

    def run(self, **changes: Any) -> Tensor:
        """Call the function again.

        Args:
            **changes: `query`, `key`, `value`, `mask` or options that are to be others.

        Returns:
            Its output (B, N, H, E).
        """
        held = {name: changes.pop(name, getattr(self, name)) for name in _TENSORS}
        rows = (held["query"], held["key"], held["value"], held["mask"])
        return self.function(self.module, *rows, **{**self.options, **changes})[0]

    @property
    def is_causal(self) -> bool:
        """Whether the model says that a row sees no later key."""
        told = self.options.get("is_causal")
        return bool(getattr(self.module, "is_causal", False) if told is None else told)

    @property
    def is_square(self) -> bool:
        """Whether there are as many queries as keys, as in self-attention without a cache."""
        return self.query.shape[2] == self.key.shape[2]


_TENSORS = ("query", "key", "value", "mask")


@contextlib.contextmanager
def recording(model: PreTrainedModel) -> Iterator[list[Call]]:
    """Record the calls of attention functions.

    Args:
        model: The model that makes them.

    Yields:
        The calls so far, in their order.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    calls: list[Call] = []
    own = AttentionInterface.get_interface

    def get_interface(self: AttentionInterface, name: str, default: Callable) -> Callable:
        function = own(self, name, default)

        def recorded(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any
        ) -> Any:
            mask = rest[0] if rest else options.pop("attention_mask", None)
            path = paths.get(id(module), type(module).__name__)
            rows = (query.detach(), key.detach(), value.detach())
            calls.append(Call(path, module, function, *rows, mask, _detached(options)))
            return function(module, query, key, value, mask, **options)

        return recorded

    AttentionInterface.get_interface = get_interface  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        AttentionInterface.get_interface = own  # type: ignore[method-assign]


@contextlib.contextmanager
def asked_masks(attention: str) -> Iterator[list[tuple[int, int, Callable[[int, int], bool]]]]:
    """Record which masks a model asks for, whatever an implementation then makes of them.

    Args:
        attention: The implementation the model runs.

    Yields:
        For each mask so far: how many queries, how many keys, and whether a query sees a key.
    """
    found: list[tuple[int, int, Callable[[int, int], bool]]] = []
    mapping = AttentionMaskInterface._global_mapping
    own = mapping[attention]

    def recorded(**options: Any) -> Any:
        shown = options.get("mask_function", causal_mask_function)

        def shows(i: int, j: int) -> bool:
            return bool(shown(*(torch.tensor(number) for number in (0, 0, i, j))))

        found.append((options["q_length"], options["kv_length"], shows))
        return own(**options)

    mapping[attention] = recorded
    try:
        yield found
    finally:
        mapping[attention] = own


def _detached(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach() if isinstance(value, Tensor) else value
        for name, value in options.items()
    }


def other_rows(rows: Tensor, index: tuple, seed: int = 5) -> Tensor:
    """Return rows some of which hold other numbers.

    Args:
        rows: (B, G, M, D).
        index: Which of them.
        seed: Of the numbers.

    Returns:
        The rows, copied.
    """
    drawn = torch.Generator(device=rows.device).manual_seed(seed)
    changed = rows.clone()
    noise = torch.randn(rows.shape, generator=drawn, device=rows.device, dtype=torch.float32)
    changed[index] = noise.to(rows.dtype)[index] * (1 + rows.abs().max())
    return changed


def reads(call: Call, **changes: Any) -> Tensor:
    """Return which keys reach which rows of the output.

    Args:
        call: The call.
        **changes: As for `Call.run`.

    Returns:
        Bool (B, N, M), of all heads together.
    """
    value = changes.pop("value", call.value)
    with torch.no_grad():
        before = call.run(value=value, **changes)
        columns = []
        for j in range(value.shape[2]):
            after = call.run(value=other_rows(value, (slice(None), slice(None), j)), **changes)
            columns.append(~torch.isclose(after, before, rtol=1e-4, atol=1e-6).all(-1).all(-1))
    return torch.stack(columns, -1)
