"""Leave out of a call the keys that its program hides from every query.

Blocks of pairs are skipped only where all their keys are hidden; keys hidden here and there are
left out by gathering the others, once, before the call. Leaves to others: finding the condition
(`find_key_condition`), where a look at it may pay (`kind`), running what remains (`run`).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ops.check import Named
from regard.ops.kind import Kind, kind_of

# Keys in a block that backends skip as a whole.
BLOCK = 64
# Gathering has to leave at most this share of the keys that are computed with otherwise. Time falls
# as that share does, and what is moved costs a few hundredths: benchmarks/keys.py.
LARGEST_SHARE = 0.75


def gather_keys(kind: Kind, bound: Bound) -> tuple[Kind, Bound]:
    """Return a call without its hidden keys, where that pays.

    Args:
        kind: The kind of call.
        bound: The call.

    Returns:
        The kind and numbers of a call with the same outputs, and gradients that reach the same
        tensors; or those given.
    """
    if kind.key_condition is None:
        return kind, bound
    seen = seen_keys(kind.key_condition, bound)
    size = gathered_size(seen)
    if size is None or _would_repeat(kind, bound, seen):
        return kind, bound
    # Each row of the batch gets its seen keys in their order, and hidden ones to fill it up: these
    # stay hidden, and no key is taken twice.
    index = (~seen).to(torch.uint8).argsort(dim=1, stable=True)[:, :size].contiguous()
    gathered = _gather(kind, bound, index)
    if bound.key_lengths is not None:
        lengths = seen.sum(1).expand(bound.batch).contiguous()
        gathered = replace(gathered, key_lengths=lengths)
    found = _kind_of(kind, gathered)
    return (kind, bound) if found is None else (found, gathered)


def seen_keys(condition: n.Node, bound: Bound) -> Tensor:
    """Return which keys some head may see.

    Args:
        condition: A condition on keys.
        bound: The call.

    Returns:
        bool (B or 1, M).
    """
    with torch.no_grad():
        at = Evaluator(bound, Tile(0, bound.queries, 0, bound.keys), {}, Cache())
        seen = at.condition(condition)[:, :, 0, :, 0].any(1)
        seen = seen.expand(-1, bound.keys)
        if bound.key_lengths is not None:
            rows = torch.arange(bound.keys, device=seen.device)
            seen = seen & (rows < bound.key_lengths[:, None])
    return seen


def gathered_size(seen: Tensor) -> int | None:
    """Decide whether gathering pays, and how many keys then remain.

    Args:
        seen: bool (B or 1, M).

    Returns:
        How many: as many as any batch row sees, rounded up so that calls share few numbers, and
        less than M; None if gathering does not pay.
    """
    keys = seen.shape[1]
    counts = seen.sum(1)
    size = rounded(int(counts.max()))
    if size > LARGEST_SHARE * keys:
        return None
    whole = torch.nn.functional.pad(seen, (0, -keys % BLOCK)).unflatten(1, (-1, BLOCK))
    before = int(whole.any(2).sum())
    after = int(((counts + BLOCK - 1) // BLOCK).sum())
    return size if after <= LARGEST_SHARE * before else None


def rounded(count: int) -> int:
    """Return a number of keys rounded up to whole blocks, and to an eighth of itself or less."""
    step = max(BLOCK, 1 << max(0, count.bit_length() - 4))
    return max(1, -(-count // step)) * step


def _would_repeat(kind: Kind, bound: Bound, seen: Tensor) -> bool:
    """Tell whether batch rows that share a dense pair input would each get one of their own."""
    return seen.shape[0] > 1 and any(
        isinstance(leaf, n.PairInput) and bound.tensors[name].shape[0] == 1
        for name, leaf in kind.facts.inputs.items()
    )


def _gather(kind: Kind, bound: Bound, index: Tensor) -> Bound:
    """Return the call with the keys at (B or 1, M') alone."""
    leaves: dict[str, Named] = {**kind.facts.inputs, "k": _KEYS, "v": _KEYS}
    moved: dict[str, Tensor] = {}
    for name, leaf in leaves.items():
        tensor, axis = bound.tensors[name], _key_axis(leaf)
        if axis is not None and tensor.shape[axis] == bound.keys:
            moved[name] = _taken(tensor, index, axis)
    positions = _taken(bound.key_positions, index, 1)
    return replace(bound, tensors={**bound.tensors, **moved}, key_positions=positions)


_KEYS = n.Vector("key", "k")


def _key_axis(leaf: Named) -> int | None:
    """Return along which axis of an input in standard shape keys lie."""
    if isinstance(leaf, n.PairInput):
        return 3
    return 2 if isinstance(leaf, n.Vector | n.Feature) and leaf.side == "key" else None


def _taken(tensor: Tensor, index: Tensor, axis: int) -> Tensor:
    if index.shape[0] > 1:
        tensor = tensor.expand(index.shape[0], *tensor.shape[1:])
    return _Take.apply(tensor, index, axis)


class _Take(torch.autograd.Function):
    """Takes rows of an axis, each at most once; torch's own gather takes five times as long."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, index: Tensor, axis: int) -> Tensor:
        ctx.save_for_backward(index)
        ctx.axis, ctx.shape = axis, tensor.shape
        if index.shape[0] == 1:
            return tensor.index_select(axis, index[0])
        taken = tensor.new_empty(*tensor.shape[:axis], index.shape[1], *tensor.shape[axis + 1 :])
        for row, source, places in zip(taken, tensor, index, strict=True):
            torch.index_select(source, axis - 1, places, out=row)
        return taken

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (index,), (grad,) = ctx.saved_tensors, grads
        found = grad.new_zeros(ctx.shape)
        if index.shape[0] == 1:
            return found.index_copy_(ctx.axis, index[0], grad), None, None
        for number, places in enumerate(index):
            found[number].index_copy_(ctx.axis - 1, places, grad[number])
        return found, None, None


def _kind_of(kind: Kind, bound: Bound) -> Kind | None:
    """Return the kind of a gathered call; None if it would run on another backend."""
    grad = torch.is_grad_enabled()
    described = tuple(
        (name, tensor.shape, tensor.dtype, tensor.device, grad and tensor.requires_grad)
        for name, tensor in bound.tensors.items()
    )
    found = kind_of(kind.signature._replace(tensors=described, plain_positions=False))
    try:
        same = found.plan.candidates[0] == kind.plan.candidates[0]
    except UnsupportedError:
        return None
    return found if same else None
