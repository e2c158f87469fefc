"""Run a program's adjoint sweeps: what rows receive, then pairs, then what the rows were made of.

Leaves to others: the derivatives (`passes/adjoint`), what is computed at a pair (`keysweep`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.backends.cpu.call import diagonal_evaluator
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.gradient import GradientSweeps
from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.keysweep import KeySweep, delta_of
from regard.backends.cpu.module import Module
from regard.backends.cpu.watch import place_largest
from regard.backends.values import layout
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.backends.values.normalisers import spent_by_normalisers
from regard.backends.values.totals import Totals
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.build import call
from regard.passes.differentiate import Adjoint, Gradient, differentiate
from regard.passes.split_pairs import Input

# Along which axes each kind of input receives.
_AXES = {"query": "bhi", "query_row": "bhic", "key": "bhj", "key_row": "bhjc", "number": "bh",
         "channels": "bhc", "diagonal": "bhj", "query_table": "bhic",
         "key_table": "bhjc"}  # fmt: skip


@dataclass
class _Run:
    """One backward call."""

    kernel: Kernel
    sweeps: GradientSweeps
    bound: Bound
    holes: dict[str, Tensor]
    totals: Totals
    make_caller: type[Caller]

    def caller(self, holes: dict[str, Tensor]) -> Caller:
        """Return what calls kernels on these row values."""
        return self.make_caller(self.kernel, self.bound, holes)

    def nothing(self) -> Tensor:
        """Return a zero of no row."""
        like = {"dtype": self.bound.compute_dtype, "device": self.bound.q.device}
        return torch.zeros((1, 1, 1, 1, 1), **like)

    def rows(self) -> Evaluator:
        """Return what evaluates query-row expressions, of all rows at once."""
        return Evaluator(self.bound, Tile(0, self.bound.queries, 0, 0), self.holes, Cache())


def run_backward(
    kernel: Kernel,
    bound: Bound,
    saved: dict[str, Tensor],
    grads: dict[str, Tensor],
    make_caller: type[Caller] = Caller,
) -> dict[str, Tensor]:
    """Compute the gradients of a call.

    Args:
        kernel: The compiled program.
        bound: The call.
        saved: From `run_forward`.
        grads: The adjoint of each output, by name, in computing dtype.
        make_caller: What calls the kernels.

    Returns:
        The gradients of the wanted tensors, by name.
    """
    holes = dict(saved)
    if kernel.reads_summed:
        holes["summed"] = saved["summed"].unsqueeze(3)
    sweeps = kernel.gradient(frozenset(grads))
    totals = Totals(kernel.request.wanted, bound)
    run = _Run(kernel, sweeps, bound, holes, totals, make_caller)
    holes |= place_largest(kernel, saved, grads)
    run.holes["do"] = _summed_adjoint(run, grads["output"].unsqueeze(3))
    _statistic_adjoints(run, grads)
    _normaliser_adjoints(run, grads)
    _row_adjoints(run, grads)
    if sweeps.backward is not None:
        _pair_adjoints(run, sweeps.backward)
    return run.totals.finished()


def _summed_adjoint(run: _Run, received: Tensor) -> Tensor:
    """Return what the summed row receives, and give `finish`'s leaves their gradient."""
    finish = run.sweeps.adjoints.finish
    if finish is None:
        return received
    run.holes["grad"] = received
    at = run.rows()
    run.totals.add(finish, at)
    summed = finish.dense.get(n.SUMMED)
    like = run.holes["summed"]
    return torch.zeros_like(like) if summed is None else at.real(summed).expand_as(like)


def _as_stored(run: _Run) -> dict[str, Tensor]:
    """Return the row values with the summed row's adjoint as a half, where a unit multiplies it.

    It is the output's adjoint, which is no wider than the output was: nothing is rounded.
    """
    dtype = run.bound.q.dtype
    if run.sweeps.adjoints.finish is not None or not run.make_caller.multiplies(dtype):
        return run.holes
    return {**run.holes, "do": run.holes["do"].to(dtype)}


def _statistic_adjoints(run: _Run, grads: dict[str, Tensor]) -> None:
    """Put what observed sums receive among the holes; sums of no row receive nothing."""
    for one in run.sweeps.watched:
        grad = grads[one.name]
        match one.axes:
            case "bhi":
                run.holes[one.adjoint.name] = _existing(run, grad[..., None, None])
            case "bhic":
                run.holes[one.adjoint.name] = _existing(run, grad.unsqueeze(3))
            case "bhj":
                run.holes[one.adjoint.name] = grad[:, :, None, :, None]


def _normaliser_adjoints(run: _Run, grads: dict[str, Tensor]) -> None:
    """Find gd and gl, what normalisers receive; perhaps the pairs find it."""
    kernel, holes, inverses = run.kernel, run.holes, run.sweeps.inverses
    if run.sweeps.delta_by_pairs:
        return
    if run.sweeps.follows and kernel.lowered.single:
        holes[delta_of(kernel.lowered.terms[0].name).name] = _delta(run, grads)
        return
    nothing = run.nothing()
    for term in kernel.lowered.terms:
        holes |= {f"{letter}:{term.name}": nothing for letter in ("gd", "gl")}
    if run.sweeps.follows:
        holes |= _deltas(run)
    if inverses is None:
        return
    caller = run.caller(_as_stored(run))
    found = caller.row_results(inverses, inverses.row_results)
    caller.run(inverses, list(found.values()))
    holes |= spent_by_normalisers(kernel.lowered, {**holes, **found})


def _row_adjoints(run: _Run, grads: dict[str, Tensor]) -> None:
    """Find what observed rows receive, and give the leaves of sinks and normalisers theirs."""
    lowered, holes = run.kernel.lowered, run.holes
    nothing = run.nothing()
    for name in lowered.rows:
        grad = grads.get(name)
        holes[f"g:{name}"] = nothing if grad is None else _existing(run, grad[..., None, None])
    if not run.sweeps.rows_give:
        return
    if run.sweeps.delta_by_pairs:
        holes[delta_of(lowered.terms[0].name).name] = _delta(run, grads)
    run.totals.add(run.sweeps.adjoints.rows, run.rows())


def _deltas(run: _Run) -> dict[str, Tensor]:
    """Return r times what each normaliser receives: parts of the weights are powers of r."""
    found: dict[str, Tensor] = {}
    for k, part in enumerate(run.kernel.forward[0].sweep.components):
        given = (run.holes["do"] * run.holes[f"apart:{k}"]).sum(-1, True)
        for term, power in part.powers:
            name = delta_of(term).name
            found[name] = found.get(name, 0.0) + power * given
    return found


def _delta(run: _Run, grads: dict[str, Tensor]) -> Tensor:
    """Return r times what the one normaliser receives: the weights are linear in r."""
    holes = run.holes
    delta = (holes["do"] * holes["summed"]).sum(-1, True)
    for one in run.sweeps.watched:
        if "k" in one.axes:
            delta = delta + (grads[one.name] * holes[one.name]).sum(-1)[..., None, None]
        else:
            delta = delta + (holes[one.adjoint.name] * holes[one.hole.name]).sum(-1, True)
    return delta


def _existing(run: _Run, received: Tensor) -> Tensor:
    """Return what rows receive, 0 where a row does not exist."""
    lengths = run.bound.query_lengths
    if lengths is None:
        return received
    exists = run.rows().index("row_i") < lengths.view(-1, 1, 1, 1, 1)
    return torch.where(exists, received, 0.0)


def _pair_adjoints(run: _Run, module: Module[KeySweep]) -> None:
    """Run the adjoint sweep, and carry what inputs receive on to the leaves they are made of."""
    caller = run.caller(_as_stored(run))
    for item, found in zip(module.receivers, caller.receive(module), strict=True):
        _carry(run, caller, item, found)


def _carry(run: _Run, caller: Caller, item: Input, total: Tensor) -> None:
    """Give what an input received, (B, H or G, …), to the leaves it is made of."""
    bound, value, leaf = run.bound, caller.values.tensor(item), item.node
    if item.kind == "table":
        assert isinstance(leaf, n.Array)
        _add_table(run, leaf, total, value)
        return
    if item.kind in ("query_row", "key_row") and total.shape[-1] > value.shape[-1]:
        total = total[..., : value.shape[-1]]
    if isinstance(leaf, n.Vector) and total.shape == bound.tensors[leaf.name].shape:
        run.totals.give(leaf.name, total)
        return
    five = _as_five(total, item.kind)
    whole = Tile(0, bound.queries, 0, bound.keys)
    if isinstance(leaf, n.Vector | n.Feature | n.PairInput):
        layout.add_leaf(run.totals.of(leaf.name), leaf, five, bound, whole)
        return
    holes = {**run.holes, "received": five}
    if item.kind == "diagonal":
        at = diagonal_evaluator(bound, holes)
    else:
        at = Evaluator(bound, whole, holes, Cache())
    run.totals.add(_gradient_of(run.kernel, item), at)


def _gradient_of(kernel: Kernel, item: Input) -> Gradient:
    """Return what the leaves of an input receive, from the Hole "received"."""
    found = kernel.carried.get(item.node)
    if found is None:
        # Of all axes of its side: a value may vary along fewer, and then receives the sum.
        hole = n.Hole("received", _AXES[item.kind])
        guard = call("ne", hole, 0)
        found = differentiate({item.node: Adjoint(hole, guard)}, kernel.wanted)
        kernel.carried[item.node] = found
    return found


def _as_five(total: Tensor, kind: str) -> Tensor:
    """Place (B, H, …) as a 5-D value."""
    match kind:
        case "query_row" | "query_table":
            return total.unsqueeze(3)
        case "key_row" | "key_table":
            return total.unsqueeze(2)
        case "query":
            return total[..., None, None]
        case "key" | "diagonal":
            return total[:, :, None, :, None]
        case "channels":
            return total[:, :, None, None, :]
        case "pair":
            return total.unsqueeze(-1)
        case _:
            return total[..., None, None]


def _add_table(run: _Run, array: n.Array, found: Tensor, value: Tensor) -> None:
    """Add what a table's elements received, (B, H, numbers)."""
    total = run.totals.of(array.name)
    heads = found.sum(0).view(-1, *value.shape[1:])
    if "head" not in array.per:
        total += heads.sum(0)
        return
    dim = array.per.index("head")
    rows = layout.head_range(run.bound, total.shape[dim])
    target = total.narrow(dim, rows.start, rows.stop - rows.start)
    heads = heads if target.shape[dim] > 1 else heads.sum(0, keepdim=True)
    target += heads.movedim(0, dim)
