"""What is observed of a call's weights: sums found beside the output or by sweeps of their own.

Leaves to others: what the sweeps compute (`watch_sweeps`), names (`ir/observed`).
"""

import torch
from torch import Tensor

from regard.backends.cpu.caller import Caller
from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.watch_sweeps import (
    APPENDED,
    COLUMNS,
    ONES,
    appends_columns,
    classes,
    ranked_score,
)
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.observed import parse
from regard.passes.part_rows import part_values
from regard.passes.statistics import columns_hole

# The largest scores of each row, as the output's sweep lists them, and their keys.
LISTS = ("listed:keys", "listed:scores")
# What each key received, (B, H, M).
RECEIVED = "received:keys"


def put_columns(kernel: Kernel, caller: Caller, holes: dict[str, Tensor]) -> None:
    """Put the columns of classes among a call's holes, alone and behind its values.

    Args:
        kernel: The compiled program.
        caller: Calls kernels on the call's tensors.
        holes: Values known beforehand, to which (B, H, 1, M, C) are added.
    """
    bound = caller.bound
    found = []
    for one in classes(kernel.lowered):
        asked = parse(one.name)
        kind = bound.tensors[asked.of]
        columns = torch.arange(asked.size, device=kind.device) == kind[:, :, None, :, None]
        holes[columns_hole(one.name).name] = columns.to(bound.compute_dtype)
        found.append(holes[columns_hole(one.name).name])
    if found and appends_columns(kernel.lowered):
        rows = part_values(kernel.lowered.values).rows
        own = bound.tensors[rows.name] if isinstance(rows, n.Vector) else None
        values = caller.values.at.real(rows) if own is None else own.unsqueeze(2)
        holes[APPENDED.name] = _beside([values, *found], bound)
    elif found:
        holes[COLUMNS.name] = _beside(found, bound)


def _beside(parts: list[Tensor], bound: Bound) -> Tensor:
    """Return rows with the channels of all parts, each of 1, G or H heads."""
    heads = {part.shape[1] for part in parts} - {1}
    if len(heads) > 1:
        parts = [
            part.repeat_interleave(bound.heads // part.shape[1], 1) if part.shape[1] > 1 else part
            for part in parts
        ]
    most = max(part.shape[1] for part in parts)
    batch = max(part.shape[0] for part in parts)
    dtype = parts[0].dtype
    wide = [part.expand(batch, most, 1, bound.keys, part.shape[-1]).to(dtype) for part in parts]
    return torch.cat(wide, -1)


def make_lists(size: int, caller: Caller) -> list[Tensor]:
    """Return where a sweep lists keys and their scores or weights: one beyond all, and -inf.

    Args:
        size: How many; 0 for no list.
        caller: Calls the sweep.

    Returns:
        Tensors (B, H, N, size) in computing dtype, or nothing.
    """
    if not size:
        return []
    return [caller.rows(size).fill_(caller.bound.keys), caller.rows(size).fill_(-torch.inf)]


def make_received(kernel: Kernel, caller: Caller, chunks: int) -> list[Tensor | None]:
    """Return where the output's sweep adds up what keys receive.

    Args:
        kernel: The compiled program.
        caller: Calls the sweep.
        chunks: Into how many parts the queries are cut.

    Returns:
        A tensor (chunks, B, H, M) in computing dtype; None where a sweep of its own finds it.
    """
    b, h, _, queries, keys = caller.sizes
    if not kernel.keeps_tiles(queries, keys):
        return [None]
    return [torch.zeros((chunks, b, h, keys), dtype=kernel.dtype)]


def class_count(kernel: Kernel) -> int:
    """Return how many columns the classes of keys have together."""
    return sum(parse(one.name).size for one in classes(kernel.lowered))


def take_classes(kernel: Kernel, rows: Tensor, holes: dict[str, Tensor]) -> None:
    """Take what classes of keys come to from summed rows.

    Args:
        kernel: The compiled program.
        rows: (B, H, N, C), the columns of all classes.
        holes: Row values, to which (B, H, N, 1, C) are added.
    """
    start = 0
    for one in classes(kernel.lowered):
        size = parse(one.name).size
        holes[one.hole.name] = rows[..., start : start + size].unsqueeze(3)
        start += size


def watch(kernel: Kernel, caller: Caller, holes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run the sweeps of what is observed, and return all that is.

    Args:
        kernel: The compiled program.
        caller: Calls kernels on the call's tensors.
        holes: Row values and observed sums found so far, to which others are added.

    Returns:
        Observed values by name, but those of softmax rows.
    """
    if not kernel.lowered.statistics:
        return {}
    outputs: dict[str, Tensor] = {}
    if kernel.later is not None:
        module = kernel.later
        found = caller.row_results(module, module.row_results)
        results = list(found.values())
        if module.sweep.components:
            results.append(caller.rows(class_count(kernel)))
        caller.run(module, results)
        holes |= found
        if module.sweep.components:
            take_classes(kernel, results[-1], holes)
    if kernel.received is not None:
        found = holes[RECEIVED] if RECEIVED in holes else _received(kernel, caller, holes)
        outputs["received"] = found
    if kernel.top is not None or kernel.lists:
        outputs |= _largest(kernel, caller, holes)
    for one in kernel.lowered.statistics:
        if one.hole.name in holes:
            value = holes[one.hole.name]
            outputs[one.name] = value[:, :, :, 0] if "c" in one.axes else value[..., 0, 0]
    return outputs


def _received(kernel: Kernel, caller: Caller, holes: dict[str, Tensor]) -> Tensor:
    """Return what each key received, (B, H, M)."""
    like = {"dtype": kernel.dtype, "device": caller.bound.q.device}
    holes[ONES.name] = torch.ones((1, 1, 1, 1, 1), **like)
    b, h, _, _, keys = caller.sizes
    found = torch.zeros((b, h, keys), **like)
    assert kernel.received is not None
    caller.run(kernel.received, [found])
    return found


def _largest(kernel: Kernel, caller: Caller, holes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the largest weights of each query row and their keys, (B, H, N, k)."""
    names = [one.name for one in kernel.lowered.statistics if "k" in one.axes]
    sizes = [parse(name).size for name in names]
    if kernel.top is None:
        listed, weights = (holes[name] for name in LISTS)
        weights = weights - holes[kernel.lowered.terms[0].hole("m").name].squeeze(-1)
    else:
        listed, weights = make_lists(max(sizes), caller)
        caller.run(kernel.top, [listed, weights])
    # Keys are listed as they rise, so that a stable sort leaves the lower first.
    order = weights.sort(dim=-1, descending=True, stable=True)
    keys, none = listed.gather(-1, order.indices).to(torch.int64), order.values == -torch.inf
    weights = order.values
    if ranked_score(kernel.lowered) is not None:
        (term,) = kernel.lowered.terms
        weights = weights.exp() * holes[term.hole("r").name].squeeze(-1)
    weights, keys = weights.masked_fill(none, 0), keys.masked_fill(none, -1)
    outputs = {}
    for name, size in zip(names, sizes, strict=True):
        outputs[name] = weights[..., :size].contiguous()
        outputs[f"keys:{size}"] = keys[..., :size].contiguous()
    return outputs


def place_largest(
    kernel: Kernel, saved: dict[str, Tensor], grads: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return what the largest weights receive, listed by keys as they rise.

    Args:
        kernel: The compiled program.
        saved: From forward; the keys of the largest weights are among it.
        grads: What each output receives, by name.

    Returns:
        Holes of keys and of what is received, (B, H, N, k).
    """
    holes = {}
    whole = torch.int64 if kernel.real == "double" else torch.int32
    for name, grad in grads.items():
        if parse(name).kind == "top":
            keys = saved[f"keys:{parse(name).size}"]
            # Behind the last key stands one beyond all.
            rising = keys.masked_fill(keys < 0, torch.iinfo(torch.int32).max).sort(dim=-1)
            holes[f"keys:{parse(name).size}"] = rising.values.to(whole)
            holes[f"g:{name}"] = grad.gather(-1, rising.indices).to(kernel.dtype)
    return holes
