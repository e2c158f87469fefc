"""Run a program's sweeps: row values that must be known first, then the output.

Leaves to others: calling a sweep (`caller`), the gradient (`backward`), the expressions (`kernel`).
"""

import torch
from torch import Tensor

from regard.backends.cpu.again import remember
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.histogram import make_histogram, weigh_table
from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.module import Module
from regard.backends.cpu.prepare_rows import prepare_rows
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.watch import (
    LISTS,
    RECEIVED,
    class_count,
    make_lists,
    make_received,
    put_columns,
    take_classes,
    watch,
)
from regard.backends.cpu.watch_sweeps import APPENDED, COLUMNS, ONES, appends_columns
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.observed import parse


def run_forward(
    kernel: Kernel, bound: Bound, make_caller: type[Caller] = Caller
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run a program.

    Args:
        kernel: The compiled program.
        bound: The call.
        make_caller: What calls the kernels.

    Returns:
        The outputs by name, and the row values that backward needs.
    """
    holes: dict[str, Tensor] = {}
    for name, node in kernel.maxima.items():
        holes[name] = _key_max(node, bound, holes)
    caller = make_caller(kernel, bound, holes)
    if kernel.needs_output_alone:
        return {"output": _output_alone(kernel, caller)}, {}
    if kernel.prepared:
        prepare_rows(kernel, caller, holes)
    put_columns(kernel, caller, holes)
    summed = _summed(kernel, caller, holes)
    outputs = {"output": summed, **watch(kernel, caller, holes)}
    if kernel.lowered.finish is not None or kernel.lowered.rows:
        holes["summed"] = summed.unsqueeze(3)
        at = Evaluator(bound, Tile(0, bound.queries, 0, 0), holes, Cache())
        if kernel.lowered.finish is not None:
            holes["alive"] = holes["alive"] > 0
            outputs["output"] = _finished(kernel, at, holes)
        outputs |= _observed(kernel, at, holes)
    for name in ("summed", *LISTS, RECEIVED, APPENDED.name, COLUMNS.name, ONES.name):
        holes.pop(name, None)
    holes |= {name: value for name, value in outputs.items() if parse(name).kind in ("top", "keys")}
    return outputs, {**holes, "summed": summed} if kernel.reads_summed else holes


def _summed(kernel: Kernel, caller: Caller, holes: dict[str, Tensor]) -> Tensor:
    """Run the sweeps that give the summed row, (B, H, N, E), and put row values into the holes."""
    summed = caller.rows(_width(kernel, caller))
    for module in _sweeps(kernel, caller):
        found = caller.row_results(module, kernel.read_again)
        results = [found.get(name) for name in module.row_results]
        if module.sweep.components:
            results.append(summed)
        if module.sweep.apart:
            parts = [caller.rows(summed.shape[-1]) for _ in module.sweep.components]
            holes |= {f"apart:{k}": part.unsqueeze(3) for k, part in enumerate(parts)}
            results += parts
        histograms = [make_histogram(part, caller) for part in module.sweep.histograms]
        listed = make_lists(module.sweep.listed, caller)
        chunks = _chunks(kernel, caller, module)
        received = make_received(kernel, caller, chunks) if module.sweep.receives else []
        # Of one chunk alone the axis is left out.
        given = [part if part is None or chunks > 1 else part[0] for part in received]
        caller.run(module, [*results, *histograms, *listed, *given], chunks)
        holes |= dict(zip(LISTS, listed, strict=False))
        for part in received:
            if part is not None:
                holes[RECEIVED] = part.sum(0)
        for part, weights in zip(module.sweep.histograms, histograms, strict=True):
            table = weigh_table(part, weights, caller.bound)
            summed[..., : table.shape[-1]] += table
        holes |= found
    if not appends_columns(kernel.lowered):
        return summed
    width = summed.shape[-1] - class_count(kernel)
    take_classes(kernel, summed[..., width:], holes)
    for name in [name for name in holes if name.startswith("apart:")]:
        holes[name] = holes[name][..., :width]
    return summed[..., :width].contiguous()


def _output_alone(kernel: Kernel, caller: Caller) -> Tensor:
    """Run the one sweep of a call that keeps no row values."""
    module = _sweeps(kernel, caller)[0]
    output = caller.rows(_width(kernel, caller))
    nobody = [None] * len(module.row_results)
    caller.run(module, [*nobody, output], _chunks(kernel, caller, module))
    remember(kernel, caller, module, output)
    return output


def _chunks(kernel: Kernel, caller: Caller, module: Module[RowSweep]) -> int:
    """Return into how many parts a sweep cuts the keys, or the queries where keys receive."""
    if module.sweep.receives:
        return caller.receiving_chunks()
    return caller.decoding_chunks() if module is kernel.decode else 1


def _sweeps(kernel: Kernel, caller: Caller) -> list[Module[RowSweep]]:
    """Return the sweeps of a forward call: that for few query rows, where it fits."""
    *_, queries, keys = caller.sizes
    if kernel.reads_in_place(queries, keys):
        decode = kernel.decode
        assert decode is not None
        rows = [item for item in decode.inputs if item.kind == "key_row"]
        if all(caller.values.tensor(item).stride(-1) == 1 for item in rows):
            return [decode]
    return kernel.forward


def _width(kernel: Kernel, caller: Caller) -> int:
    values = kernel.forward[-1].sweep.values
    assert values is not None
    return caller.values.tensor(values).shape[-1]


def _finished(kernel: Kernel, at: Evaluator, holes: dict[str, Tensor]) -> Tensor:
    assert kernel.lowered.finish is not None
    found = torch.where(holes["alive"], at.real(kernel.lowered.finish), 0.0)
    return found.expand(*holes["summed"].shape[:4], -1).squeeze(3)


def _observed(kernel: Kernel, at: Evaluator, holes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the observed row values, (B, H, N)."""
    found = {}
    bound, lengths = at.bound, at.bound.query_lengths
    for name, expression in kernel.lowered.rows.items():
        what, _, term = name.partition(":")
        value = holes[f"top:{term}"] if what == "max" else at.real(expression)
        if lengths is not None:
            exists = at.index("row_i") < lengths.view(-1, 1, 1, 1, 1)
            value = torch.where(exists, value, -torch.inf if what in ("lse", "max") else 0.0)
        found[name] = value.expand(bound.batch, bound.heads, bound.queries, 1, 1)[..., 0, 0]
    return found


def _key_max(node: n.KeyMax, bound: Bound, holes: dict[str, Tensor]) -> Tensor:
    """Return the largest finite value of each channel over a head's keys; it may read others."""
    at = Evaluator(bound, Tile(0, 0, 0, bound.keys), holes, Cache())
    value = at.real(node.rows)
    counted = value.isfinite()
    if bound.key_lengths is not None:
        counted = counted & (at.index("row_j") < bound.key_lengths.view(-1, 1, 1, 1, 1))
    if not bound.keys:
        return torch.zeros_like(value.sum(3, keepdim=True))
    top = torch.where(counted, value, -torch.inf).amax(3, keepdim=True)
    return torch.where(top == -torch.inf, 0.0, top)
