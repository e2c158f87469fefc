"""What was observed of a model: by name and layer, over all passes or pass by pass.

Leaves to others: observing (`observe`, `watching`).
"""

from typing import Any

import torch
from torch import Tensor

from regard.errors import InputError, nearest
from regard.hf.watching import Pass, Watcher
from regard.ops.observe import changed


class Seen:
    """What a block observed; `seen["entropy"]` is a tuple of one tensor a layer.

    What several passes gave, as steps of decoding do, is joined: what belongs to queries is
    appended, what keys received is added up, and of keys that came later nothing was seen before.

    Args:
        watcher: Who kept it.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    @property
    def names(self) -> tuple[str, ...]:
        """What was observed."""
        return self._watcher.names

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were called, in order."""
        found = [one.get(name, {}) for one in self._watcher.passes for name in self.names[:1]]
        return tuple(sorted({layer for layers in found for layer in layers}))

    @property
    def heads(self) -> tuple[int, ...] | None:
        """The heads, in the order of every tensor's second axis; None for all."""
        return self._watcher.heads

    @property
    def passes(self) -> tuple[dict[str, tuple[Any, ...]], ...]:
        """Of each pass what was observed: by name, a tuple of one value a layer."""
        return tuple(
            {name: tuple(one[name][layer] for layer in sorted(one[name])) for name in self.names}
            for one in self._seen()
        )

    @property
    def attentions(self) -> tuple[Any, ...]:
        """The weights as transformers gives `attentions`: (B, H, N, M) by layer.

        After `generate`, and wherever there were several passes, a tuple of those.
        """
        if "weights" not in self.names:
            raise InputError("attentions are the weights; observe ['weights', …]")
        found = tuple(one["weights"] for one in self.passes)
        return found[0] if len(found) == 1 else found

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        """Return what was observed, over all passes.

        Args:
            name: A name, as it was given.

        Returns:
            Of each layer that was called, in order, what `attend` gives for the name.

        Raises:
            InputError: If the name was not observed, nothing was called, or passes cannot be
                joined.
        """
        if name not in self.names:
            raise InputError(f"'{name}' was not observed; {nearest(str(name), self.names)}")
        passes = self._seen()
        return tuple(
            _joined(name, [one[name][layer] for one in passes if layer in one[name]])
            for layer in self.layers
        )

    def _seen(self) -> list[Pass]:
        found = [one for one in self._watcher.passes if one]
        if not found:
            raise InputError(
                "nothing was observed: the model was not called inside the block, or in another "
                "thread, or compiled"
            )
        return found

    def __repr__(self) -> str:
        heads = "" if self.heads is None else f", heads {list(self.heads)}"
        passes = sum(1 for one in self._watcher.passes if one)
        return f"<seen {', '.join(self.names)}: layers {list(self.layers)}{heads}, passes {passes}>"


def _joined(name: str, values: list[Any]) -> Any:
    """Return what several passes gave of one layer, as one."""
    if len(values) == 1:
        return values[0]
    what = name.partition(":")[0]
    shapes = {tuple(_tensor(value).shape[:2]) for value in values}
    if what == "map" or len(shapes) > 1:
        reason = "is a picture of each" if what == "map" else "is of batches of different sizes"
        raise InputError(
            f"'{name}' of {len(values)} passes cannot be joined, because it {reason}; "
            f"take seen.passes[0]['{name}'] and so on"
        )
    if what == "received":
        return torch.stack(_wide(values)).sum(0)
    if what == "weights":
        return torch.cat(_wide(values), dim=2)
    return changed(lambda *parts: torch.cat(parts, dim=2), *values)


def _tensor(value: Any) -> Tensor:
    return value[0] if isinstance(value, tuple) else value


def _wide(values: list[Tensor]) -> list[Tensor]:
    """Return tensors with zeros for keys that came after them."""
    keys = max(value.shape[-1] for value in values)
    return [torch.nn.functional.pad(value, (0, keys - value.shape[-1])) for value in values]
