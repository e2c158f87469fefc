"""What the linear backend compiles, and one part of a call: rows to states, sums and outputs.

Leaves to others: recognition (`passes/recognise_linear`), the sums (`sums`), the order of parts
(`forward`, `backward`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.backends.linear.rows import Part, RowLeaf
from regard.backends.linear.sums import (
    Keys,
    Known,
    State,
    Sums,
    add_keys,
    empty_state,
    read_state,
    sum_causal,
)
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.build import is_zero
from regard.passes.recognise_linear import LinearProgram, Product

Groups = tuple[list[Product], ...]


@dataclass(frozen=True)
class Kernel:
    """A recognised program.

    Attributes:
        program: The program.
        num: Its numerator's products, those of one decay together.
        den: Its denominator's, likewise; none if it has none or the numerator's serve it too.
        shared: Whether the numerator's products are the denominator's.
        leaves: The vectors and features that are read.
        wanted: The names of the tensors whose gradient is asked for.
    """

    program: LinearProgram
    num: Groups
    den: Groups
    shared: bool
    leaves: tuple[RowLeaf, ...]
    wanted: frozenset[str]

    def part(self, bound: Bound, tile: Tile) -> Part:
        """Return a part of a call.

        Args:
            bound: The call.
            tile: The part's rows.

        Returns:
            The part.
        """
        return Part(self.program, bound, tile, self.leaves)


@dataclass(frozen=True)
class Memory:
    """All that the keys so far come to.

    Attributes:
        states: One for each group of products.
        seen: Whether any key was seen, bool (B, H).
    """

    states: tuple[State, ...]
    seen: Tensor


def move_memory(memory: Memory, change: Callable[[Tensor], Tensor]) -> Memory:
    """Return a memory with every tensor replaced.

    Args:
        memory: The memory.
        change: Returns what replaces a tensor.

    Returns:
        The new memory.
    """

    def changed(one: Tensor | None) -> Tensor | None:
        return None if one is None else change(one)

    states = [
        State(change(one.sums), changed(one.totals), changed(one.largest)) for one in memory.states
    ]
    return Memory(tuple(states), change(memory.seen))


def compile_kernel(root: n.Output, program: LinearProgram, wanted: frozenset[str]) -> Kernel:
    """Group a recognised program's products.

    Args:
        root: The program.
        program: What it was recognised as.
        wanted: The names of the tensors whose gradient is asked for.

    Returns:
        The kernel.
    """
    shared = program.den == program.num
    den = () if program.den is None or shared else program.den
    leaves = tuple(node for node in n.walk(root) if isinstance(node, RowLeaf))
    return Kernel(program, _grouped(program.num), _grouped(den), shared, leaves, wanted)


def _grouped(products: Iterable[Product]) -> Groups:
    groups: dict[tuple[n.Node, n.Node], list[Product]] = {}
    for one in products:
        groups.setdefault((one.query_exponent, one.key_exponent), []).append(one)
    return tuple(groups.values())


def _keys(kernel: Kernel, part: Part) -> list[Keys]:
    """Return the keys of every group of products."""
    above = [part.keys(products, part.values, kernel.shared) for products in kernel.num]
    return above + [part.keys(products, part.ones, False) for products in kernel.den]


def empty_memory(kernel: Kernel, part: Part) -> Memory:
    """Return the memory of no key.

    Args:
        kernel: The program.
        part: Any part of the call.

    Returns:
        The memory.
    """
    states = [empty_state(keys) for keys in _keys(kernel, part)]
    shape = (part.bound.batch, part.bound.heads)
    return Memory(tuple(states), torch.zeros(shape, dtype=torch.bool, device=part.bound.q.device))


def remember_keys(kernel: Kernel, part: Part, before: Memory) -> Memory:
    """Add a part's keys to a memory.

    Args:
        kernel: The program.
        part: The part.
        before: The memory.

    Returns:
        The memory that holds them too.
    """
    groups = zip(before.states, _keys(kernel, part), strict=True)
    states = [add_keys(state, keys) for state, keys in groups]
    return Memory(tuple(states), _seen(part, before))


def _seen(part: Part, before: Memory) -> Tensor:
    if part.keys_seen is None:
        return before.seen | bool(part.at.sizes["j"])
    return before.seen | part.keys_seen.any(-1)


def read_memory(kernel: Kernel, part: Part, memory: Memory) -> Tensor:
    """Attend with a part's queries to all keys of a memory.

    Args:
        kernel: The program.
        part: The part.
        memory: The memory.

    Returns:
        The output, (B, H, N, E).
    """
    groups = zip((*kernel.num, *kernel.den), memory.states, strict=True)
    sums = [read_state(part.queries(one), part.query_exponent(one), state) for one, state in groups]
    return _output(kernel, part, sums, memory.seen[..., None])


def attend_causally(
    kernel: Kernel, part: Part, before: Memory, known: Sequence[Known] = ()
) -> tuple[Tensor, Memory, list[Sums]]:
    """Attend with a part's queries to its keys up to them and to a memory.

    Args:
        kernel: The program.
        part: The part; its first query and its first key see each other.
        before: The memory of earlier keys.
        known: What each group's sums come to, if that is known.

    Returns:
        The output (B, H, N, E), the memory that holds the part's keys too, and each group's sums.
    """
    rows, sums, states = part.at.sizes["i"], [], []
    groups = zip((*kernel.num, *kernel.den), _keys(kernel, part), before.states, strict=True)
    for number, (one, keys, state) in enumerate(groups):
        f, a = part.queries(one), part.query_exponent(one)
        given = known[number] if known else None
        found, after = sum_causal(f, a, _fitted(keys, rows), state, known=given)
        sums.append(found)
        states.append(after)
    alive = before.seen[..., None]
    if part.keys_seen is not None:
        seen = part.keys_seen.cumsum(-1) > 0
        missing = rows - seen.shape[-1]
        last = seen[..., -1:] if seen.shape[-1] else seen.new_zeros((*seen.shape[:2], 1))
        alive = alive | torch.cat([seen, last.expand(*seen.shape[:2], missing)], -1)
    elif part.at.sizes["j"]:
        alive = torch.ones_like(alive)
    output = _output(kernel, part, sums, alive)
    return output, Memory(tuple(states), _seen(part, before)), sums


def _fitted(keys: Keys, count: int) -> Keys:
    """Return keys as many as queries; those that are missing are hidden."""
    missing = count - keys.g.shape[2]
    if not missing:
        return keys
    pad = torch.nn.functional.pad
    b = None if keys.b is None else pad(keys.b, (0, missing), value=-torch.inf)
    g, v = (pad(rows, (0, 0, 0, missing)) for rows in (keys.g, keys.v))
    return Keys(g, v, b, keys.totals)


def _output(kernel: Kernel, part: Part, sums: list[Sums], alive: Tensor) -> Tensor:
    """Return the output of a part's rows: 0 where they do not exist or see nothing."""
    if part.queries_seen is not None:
        alive = alive & part.queries_seen
    row = _weighed(kernel, part, sums)
    everywhere = bool(alive.all())
    if not everywhere:
        # 1 until `finish` is done, so that nothing it is put into lacks a derivative.
        row = torch.where(alive[..., None], row, 1.0)
    if kernel.program.finish is not None:
        at = part.evaluator({n.SUMMED.name: row.unsqueeze(3)})
        row = at.real(kernel.program.finish).squeeze(3)
    found = row if everywhere else torch.where(alive[..., None], row, 0.0)
    sizes = part.at.sizes
    return found.expand(sizes["b"], sizes["h"], sizes["i"], found.shape[-1])


def _weighed(kernel: Kernel, part: Part, sums: list[Sums]) -> Tensor:
    """Return the sum over keys of weights · values, from each group's."""
    program, above = kernel.program, len(kernel.num)
    values = [one.values for one in sums]
    if program.den is None:
        return _joined(values, sums, None)
    top = _largest(sums, program)
    num = _joined(values[:above], sums, top)
    if kernel.shared:
        totals = [one.totals for one in sums if one.totals is not None]
        den = _joined([one[..., None] for one in totals], sums, top)[..., 0]
    else:
        den = _joined(values[above:], sums[above:], top)[..., 0]
    offset, bound = (part.query_number(one) for one in (program.add, program.at_least))
    if top is not None:
        scale = (-top).exp().to(num.dtype)
        offset, bound = offset * scale, bound * scale
    total = torch.maximum(den + offset, bound.to(den.dtype))[..., None]
    empty = total == 0
    if not bool(empty.any()):
        # Its gradient takes half the passes over rows that a quotient's takes.
        return num * total.reciprocal()
    return (num / total.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)


def _largest(sums: list[Sums], program: LinearProgram) -> Tensor | None:
    """Return what every exponent of a row is taken relative to, or None if there is none.

    A ratio's parts shrink alike, so that neither overflows; bounds of the true scale stand for 1.
    """
    found = [one.exponent.detach() for one in sums if one.exponent is not None]
    if not found:
        return None
    bounded = not (is_zero(program.add) and is_zero(program.at_least))
    if bounded or len(found) < len(sums):
        found.append(torch.zeros_like(found[0]))
    return torch.stack(torch.broadcast_tensors(*found)).amax(0)


def _joined(values: list[Tensor], sums: list[Sums], top: Tensor | None) -> Tensor:
    """Return the sum of values, each times the exponential of its exponent less the top."""
    total: Tensor | None = None
    for value, one in zip(values, sums, strict=False):
        exponent = one.exponent
        if top is not None:
            exponent = -top if exponent is None else exponent - top
        if exponent is not None:
            value = value * exponent.exp().to(value.dtype)[..., None]
        total = value if total is None else total + value
    assert total is not None
    return total
