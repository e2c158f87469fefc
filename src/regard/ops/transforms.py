"""Calls inside torch.func and forward-mode autograd, which look through tensors.

A backend with a derived gradient computes from numbers and cannot be looked through. Leaves to
others: torch.compile (`compile`).
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack, is_legacy_batchedtensor
from torch.autograd import forward_ad

from regard.errors import UnsupportedError

_OTHERWISE = 'use torch.autograd, or backend="reference"'


def looked_through() -> bool:
    """Tell whether a call may be inside torch.func or forward-mode autograd."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def refuse_transforms(tensors: Iterable[Tensor]) -> str:
    """Return why a backend with a derived gradient must decline a call.

    Args:
        tensors: The tensors of the call.

    Returns:
        The reason, or "".

    Raises:
        UnsupportedError: Inside torch.vmap, where no backend can run.
    """
    if torch._C._are_functorch_transforms_active():
        transforms = {level.key() for level in get_interpreter_stack() or ()}
        if TransformType.Vmap in transforms:
            raise UnsupportedError(
                "torch.vmap cannot map over rg.attend; "
                "make the mapped axis part of B, the batch rows of q, k and v"
            )
        return f"torch.func cannot see its derivatives; {_OTHERWISE}"
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return f"it has no forward-mode derivatives; {_OTHERWISE}"
    return ""


def refuse_mapped(grads: Iterable[Tensor]) -> None:
    """Refuse a backward that torch maps over many gradients at once.

    Args:
        grads: What backward receives.

    Raises:
        UnsupportedError: If it is mapped.
    """
    if torch._C._are_functorch_transforms_active() or any(map(is_legacy_batchedtensor, grads)):
        raise UnsupportedError(
            "the backward of rg.attend takes one gradient at a time; "
            'leave out vectorize=True or is_grads_batched=True, or use backend="reference"'
        )
