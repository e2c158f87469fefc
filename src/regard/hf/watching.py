"""Who watches the attention of this thread: what each call is to be observed for, and by whom.

Leaves to others: what people write and get (`observe`), running attention (`interface`).
"""

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from regard.errors import InputError
from regard.ops.observe import changed, observed_inputs

# One forward pass: values by what is observed, by layer.
Pass = dict[str, dict[int, Any]]


class Watcher:
    """Keeps what it wants of the calls of one role, pass by pass.

    A pass is a call of the transformers model that holds the modules. Modules that a model runs
    several times in a pass, as ALBERT does, are as many layers as there are calls.

    Args:
        names: What is observed.
        modules: The number of the layer of each module of the role, by `id` of the module.
        owners: The models that hold them, by `id` of the module.
        layers: The layers wanted.
        heads: The heads wanted, or None for all.
        features: Features of keys that the names read.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        modules: dict[int, int],
        owners: dict[int, nn.Module],
        layers: tuple[int, ...],
        heads: tuple[int, ...] | None,
        features: dict[str, Tensor],
    ) -> None:
        self.names, self.features = names, features
        self.passes: list[Pass] = []
        self._modules, self._owners = modules, owners
        self._layers, self.heads = set(layers), heads
        self._begun: Counter[int] = Counter()
        self._calls: dict[int, Counter[int]] = {}

    @property
    def owners(self) -> list[nn.Module]:
        """The models whose calls are passes, each once."""
        return list({id(one): one for one in self._owners.values()}.values())

    def begin(self, owner: nn.Module) -> None:
        """Note that a pass begins."""
        self._calls[id(owner)] = Counter()
        self._begun[id(owner)] += 1
        if len(self.passes) < self._begun[id(owner)]:
            self.passes.append({})

    def end(self, owner: nn.Module) -> None:
        """Note that a pass is over, well or not."""
        self._calls.pop(id(owner), None)

    def enter(self, module: nn.Module) -> int | None:
        """Count a call.

        Args:
            module: The attention module that calls.

        Returns:
            The number of its layer if it is wanted, else None.
        """
        if id(module) not in self._modules:
            return None
        layer = self._count(id(module))
        return layer if layer in self._layers else None

    def _count(self, module: int) -> int:
        owner = self._owners[module]
        if id(owner) not in self._calls:
            # The module was called by itself, outside of its model.
            self.begin(owner)
            self.end(owner)
            return self._modules[module]
        calls = self._calls[id(owner)]
        calls[module] += 1
        shared = max(calls.values()) > 1
        return calls.total() - 1 if shared else self._modules[module]

    def keep(self, module: nn.Module, layer: int, seen: dict[str, Any]) -> None:
        """Keep what was seen of a call.

        Args:
            module: The attention module that called.
            layer: What `enter` returned for the call.
            seen: What was observed, for all heads.
        """
        found = self.passes[self._begun[id(self._owners[id(module)])] - 1]
        for name in self.names:
            found.setdefault(name, {})[layer] = changed(self._of_heads, seen[name])

    def _of_heads(self, values: Tensor) -> Tensor:
        if self.heads is None:
            return values
        return values[:, list(self.heads)]


# Who watches in this thread, the innermost last.
watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("watchers", default=())


@dataclass(frozen=True)
class Watched:
    """What one call of attention is observed for.

    Attributes:
        names: The names, for `attend`.
        features: The features of keys that they read.
    """

    names: tuple[str, ...] = ()
    features: dict[str, Tensor] = field(default_factory=dict)
    _module: nn.Module | None = None
    _wanted: tuple[tuple[Watcher, int], ...] = ()

    def tell(self, seen: dict[str, Any]) -> None:
        """Give those who watch what was seen.

        Args:
            seen: What `attend` returned for the names.
        """
        for watcher, layer in self._wanted:
            assert self._module is not None, "somebody watches a module"
            watcher.keep(self._module, layer, seen)


_UNWATCHED, _WEIGHTS = Watched(), Watched(("weights",))


def watched(module: nn.Module, keys: int, weights: bool = False) -> Watched:
    """Return what a call of attention is to be observed for.

    Args:
        module: The attention module that calls.
        keys: M, how many keys the call has.
        weights: Whether the model itself asks for the weights.

    Returns:
        The names, with the features they read.

    Raises:
        InputError: If two who watch give different features under one name.
    """
    plain = _WEIGHTS if weights else _UNWATCHED
    # Code that is being compiled could not notice who watches later.
    if not (around := watchers.get()) or torch.compiler.is_compiling():
        return plain
    wanted = [(one, layer) for one in around if (layer := one.enter(module)) is not None]
    if not wanted:
        return plain
    names = dict.fromkeys(plain.names)
    features: dict[str, Tensor] = {}
    for watcher, _ in wanted:
        names.update(dict.fromkeys(watcher.names))
        for name in observed_inputs(watcher.names):
            given = watcher.features[name]
            if features.setdefault(name, given) is not given:
                raise InputError(
                    f"two features '{name}' are given by blocks of hf.observe around each other; "
                    "rename one"
                )
    cut = {name: values[..., :keys] for name, values in features.items()}
    return Watched(tuple(names), cut, module, tuple(wanted))
