"""T5's position bias as a table by distance, in the place of a dense tensor of all pairs.

The bias of a pair follows from the distance alone, and is one number from some distance on. Its
numbers by distance come from the module's own function, so that gradients reach its own parameters.
Leaves to others: programs that read the table (`own`).
"""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from regard.hf.unmade import Unmade

_ARGUMENTS = ["self", "query_length", "key_length", "device", "past_seen_tokens"]


class DistanceBias(Unmade):
    """A position bias (1, H, N, M), held as its numbers by distance.

    Args:
        table: (H, 2R + 1): at place R + d what is added where the key is d tokens after the query;
            the first and the last number hold for all larger distances.
        rows: N.
        keys: M.
        offset: The position of query row 0.
    """

    @staticmethod
    def __new__(cls, table: Tensor, rows: int, keys: int, offset: int) -> "DistanceBias":
        """Make a tensor that has the bias's shape and no storage."""
        return Unmade.__new__(cls, (1, table.shape[0], rows, keys), table.dtype, table.device)

    def __init__(self, table: Tensor, rows: int, keys: int, offset: int) -> None:
        self.table, self.rows, self.keys, self.offset = table, rows, keys, offset

    @property
    def reach(self) -> int:
        """R, the distance from which on the bias stays the same."""
        return self.table.shape[1] // 2

    def dense(self) -> Tensor:
        """Return the bias of every pair."""
        device, reach = self.table.device, self.reach
        queries = torch.arange(self.rows, device=device) + self.offset
        distances = torch.arange(self.keys, device=device) - queries[:, None]
        return self.table[:, distances.clamp(-reach, reach) + reach][None]


class BiasByDistance:
    """Stands in for a module's `compute_bias` while the model runs our attention.

    Args:
        module: The attention module.
        name: The implementation under which it stands in.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        # What the module would find if nothing stood in.
        self.reach = int(module.relative_attention_max_distance)  # type: ignore[arg-type]

    def __call__(
        self,
        query_length: int,
        key_length: int,
        device: Any = None,
        past_seen_tokens: Any = 0,
    ) -> Tensor:
        """Return the bias of a call.

        Args:
            query_length: N.
            key_length: M.
            device: Where it is wanted.
            past_seen_tokens: The position of the first query.

        Returns:
            A `DistanceBias`; the module's own dense bias for another implementation, under
            torch.compile, and while layers are checkpointed, which detaches what it cannot see.
        """
        module: Any = self.module
        own = type(module).compute_bias
        others = module.config._attn_implementation != self.name
        checkpointed = module.training and getattr(module, "gradient_checkpointing", False)
        if others or checkpointed or torch.compiler.is_compiling():
            return own(module, query_length, key_length, device, past_seen_tokens)
        table = _by_distance(module, self.reach, device)
        return DistanceBias(table, query_length, key_length, int(past_seen_tokens))


def _by_distance(module: Any, reach: int, device: Any) -> Tensor:
    """Return the bias of distances -R … R, by the module's own function, (H, 2R + 1)."""
    found = type(module).compute_bias(module, 1, 2 * reach + 1, device, reach)
    return found[0, :, 0]


@torch.no_grad()
def stand_in(module: nn.Module, name: str) -> bool:
    """Let a table stand in for a module's dense position bias, where the module has one.

    Args:
        module: An attention module.
        name: The implementation under which it stands in.

    Returns:
        Whether it has one that follows from the distance, and the table stands in.
    """
    own = getattr(type(module), "compute_bias", None)
    reach = getattr(module, "relative_attention_max_distance", None)
    if own is None or not isinstance(reach, int):
        return False
    if not isinstance(getattr(module, "relative_attention_bias", None), nn.Module):
        return False
    if list(inspect.signature(own).parameters) != _ARGUMENTS:
        return False
    probe = _numbered(module)
    near, far = _by_distance(probe, reach, "cpu"), _by_distance(probe, 4 * reach, "cpu")
    steady = (near[:, :1] == far[:, : 3 * reach + 1]).all()
    if not (steady and (near[:, -1:] == far[:, 5 * reach :]).all()):
        return False
    vars(module)["compute_bias"] = BiasByDistance(module, name)
    return True


def _numbered(module: nn.Module) -> nn.Module:
    """Return a module's twin whose biases all differ and are there, also before weights are."""
    twin, table = copy.copy(module), copy.deepcopy(module.relative_attention_bias)
    table = table.to_empty(device="cpu")  # type: ignore[operator]
    for parameter in table.parameters():
        parameter.copy_(torch.arange(parameter.numel(), device="cpu").view_as(parameter))
    twin._modules = {**module._modules, "relative_attention_bias": table}
    return twin


def stand_down(module: nn.Module) -> None:
    """Take the table away again; the module's own function is left."""
    if isinstance(vars(module).get("compute_bias"), BiasByDistance):
        del vars(module)["compute_bias"]
