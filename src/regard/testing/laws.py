"""Laws: what must hold between calls of one backend, whatever the program means.

A law prepares two calls that must give the same, and compares values and gradients in float64.
Leaves to others: what a single call must give (`contract`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from regard.backends.tiled.kernel import force_tile
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ops.attend import attend
from regard.ops.merge import merge
from regard.testing.accuracy import largest, worst_error
from regard.testing.contract import SEED, run_both
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

SIZES = Sizes(B=2, H=4, G=2, N=11, M=13, D=6, E=4)
TILE = (4, 5)
# The two sides of a law add up the same terms in another order. A broken law is off by more than
# a millionth, so a tolerance of some thousand roundings tells them apart.
ROUNDINGS = 2**12

Tensors = dict[str, Tensor]
Change = Callable[[Tensor, int], Tensor]
Law = Callable[[str, str], None]
LAWS: dict[str, Law] = {}


def _law(check: Law) -> Law:
    LAWS[check.__name__.strip("_")] = check
    return check


def check_law(backend: str, law: str, program: str) -> str | None:
    """Fail unless a law holds for a program on a backend.

    Args:
        backend: The backend's name.
        law: A name of `LAWS`.
        program: A name of `PROGRAMS`.

    Returns:
        None, or the reason why the law says nothing about the program, or the backend's reason for
        not supporting it.

    Raises:
        AssertionError: If the law is broken; the message names the result that differs.
    """
    try:
        LAWS[law](backend, program)
    except UnsupportedError as reason:
        return str(reason)
    except _SaysNothing as reason:
        return str(reason)
    return None


class _SaysNothing(Exception):
    """The law has no meaning for this program."""


def _unless(reads: bool, what: str) -> None:
    if reads:
        raise _SaysNothing(f"the program {what}")


def _has(program: str, *kinds: type[n.Node]) -> bool:
    return any(isinstance(node, kinds) for node in n.walk(PROGRAMS[program].root))


def _reads(program: str, *names: str) -> bool:
    indices = (node for node in n.walk(PROGRAMS[program].root) if isinstance(node, n.Index))
    return any(node.name in names for node in indices)


def _tiles() -> AbstractContextManager[None]:
    return force_tile(*TILE)


def _run(backend: str, program: AttentionProgram | str, inputs: Tensors, **options: Any) -> Tensors:
    chosen = PROGRAMS[program] if isinstance(program, str) else program
    options = {"query_offset": 2, **options}
    if options.get("query_positions") is not None:
        del options["query_offset"]
    with _tiles():
        return run_both(chosen, inputs, backend=backend, rows_alone=backend == "sdpa", **options)


def _inputs(program: str, sizes: Sizes = SIZES, total_heads: int = 0) -> Tensors:
    return make_inputs(PROGRAMS[program].root, sizes, torch.float64, SEED, total_heads)


def _same(found: Tensors, expected: Tensors) -> None:
    scale = max(1.0, *(largest(value) for value in expected.values()))
    allowed = ROUNDINGS * torch.finfo(torch.float64).eps * scale
    for name, value in expected.items():
        assert value.isfinite().all(), f"{name}: the expected result is not finite"
        error = worst_error(found[name], value)
        assert error <= allowed, f"{name}: differs by {error:.2e}"


def _dims(program: str, axis: str) -> dict[str, int]:
    """Return which dimension of each named tensor runs along b, h, i or j."""
    found = {}
    for leaf in {*PROGRAMS[program].inputs, *(n.Vector("key", name) for name in "kv")}:
        side = {n.PairInput: "ij", n.Vector: "i", n.Feature: "i"}.get(type(leaf), "")
        if isinstance(leaf, n.Vector | n.Feature) and leaf.side == "key":
            side = "j"
        if side and axis in "bh" + side:
            found[leaf.name] = {"b": 0, "h": 1}.get(axis, 2 + side.find(axis))
    return found | ({"q": {"b": 0, "h": 1, "i": 2}[axis]} if axis in "bhi" else {})


def _along(program: str, tensors: Tensors, axis: str, change: Change) -> Tensors:
    """Change every tensor that runs along an axis; gradients are found by their own names."""
    dims = _dims(program, axis)
    return {
        name: change(tensor, dims[name.removeprefix("grad of ")])
        if name.removeprefix("grad of ") in dims
        else tensor
        for name, tensor in tensors.items()
    }


def _rows(start: int, stop: int) -> Change:
    return lambda tensor, dim: tensor.narrow(dim, start, stop - start)


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────
@_law
def permuting_keys_changes_nothing(backend: str, program: str) -> None:
    _unless(_has(program, n.Keep, n.Dropout), "draws by the row of a key")
    _unless(_has(program, n.TopK), "breaks ties by the row of a key")
    _unless(_has(program, n.Running), "adds up keys in the order of their rows")
    inputs, order = _inputs(program), torch.randperm(SIZES.M)
    expected = _run(backend, program, inputs)
    moved = _along(program, inputs, "j", lambda tensor, dim: tensor.index_select(dim, order))
    found = _run(backend, program, moved, key_positions=order)
    back = order.argsort()
    _same(_along(program, found, "j", lambda x, d: x.index_select(d, back)), expected)


@_law
def key_beyond_its_length_is_as_if_absent(backend: str, program: str) -> None:
    inputs, kept = _inputs(program), SIZES.M - 6
    expected = _run(backend, program, _along(program, inputs, "j", _rows(0, kept)))
    dirty = _along(program, inputs, "j", _poisoner(kept, float("nan")))
    found = _run(backend, program, dirty, key_lengths=torch.tensor([kept, kept]))
    for name in [name for name in _dims(program, "j") if f"grad of {name}" in found]:
        beyond = found[f"grad of {name}"].narrow(_dims(program, "j")[name], kept, 6)
        assert not beyond.any(), f"grad of {name} beyond the length"
    _same(_along(program, found, "j", _rows(0, kept)), expected)


@_law
def hidden_key_is_as_if_absent(backend: str, program: str) -> None:
    _unless(_reads(program, "keys"), "reads how many keys there are")
    _unless(_has(program, n.KeyMax), "reads keys that are hidden")
    _unless(_has(program, n.Keep, n.Dropout), "draws by the row of a key")
    inputs, shown = _inputs(program), torch.arange(SIZES.M) % 3 != 1
    chosen = shown.nonzero()[:, 0]
    fewer = _along(program, inputs, "j", lambda x, d: x.index_select(d, chosen))
    expected = _run(backend, program, fewer, key_positions=chosen)
    inputs["shown"] = shown.view(1, 1, -1)
    found = _run(backend, _restricted(program), inputs)
    _same(_along(program, found, "j", lambda x, d: x.index_select(d, chosen)), expected)


def _restricted(program: str) -> AttentionProgram:
    """Return the program with the key feature "shown" added to every condition."""
    shown = n.Feature("key", "shown")

    def change(node: n.Node) -> n.Node | None:
        if not isinstance(node, n.Term | n.TopK | n.Running):
            return None
        where = shown if node.where is None else n.Call("and", (node.where, shown))
        return replace(node, where=where)  # type: ignore[type-var]

    root = n.rewrite(PROGRAMS[program].root, change)
    assert isinstance(root, n.Output)
    return AttentionProgram(root, program)


@_law
def splitting_the_keys_and_merging_joins(backend: str, program: str) -> None:
    root = PROGRAMS[program].root
    plain = isinstance(root.weights, n.Softmax) and root.weights.sink is None
    _unless(not plain or root.finish is not None, "is more than one softmax without a sink")
    _unless(_has(program, n.Visible, n.Keep, n.TopK, n.Running), "looks at all keys of a row")
    _unless(_reads(program, "keys"), "reads how many keys there are")
    inputs = {name: x.requires_grad_(x.is_floating_point()) for name, x in _inputs(program).items()}
    weights = torch.randn(SIZES.B, SIZES.H, SIZES.N)

    def gradients(output: Tensor, lse: Tensor) -> Tensors:
        seen = torch.where(lse == -torch.inf, 0.0, lse)
        loss = (output * weights[..., None]).sum() + (seen * weights).sum()
        learned = {name: x for name, x in inputs.items() if x.requires_grad}
        found = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
        values = {"output": output.detach(), "lse": seen.detach()}
        return values | {k: g for k, g in zip(learned, found, strict=True) if g is not None}

    with _tiles():
        options = {"backend": backend, "observe": ["lse"], "query_offset": 2}
        whole = attend(PROGRAMS[program], **inputs, **options)  # type: ignore[arg-type]
        parts = []
        for start, stop in ((0, 4), (4, 12), (12, 13)):
            some = _along(program, inputs, "j", _rows(start, stop))
            rows = torch.arange(start, stop)
            part = attend(PROGRAMS[program], **some, key_positions=rows, **options)  # type: ignore[arg-type]
            parts.append((part[0], part[1]["lse"]))
        _same(gradients(*merge(parts)), gradients(whole[0], whole[1]["lse"]))


# ── Queries, batch rows and heads ─────────────────────────────────────────────────────────────
@_law
def row_by_row_equals_the_whole(backend: str, program: str) -> None:
    _unless(_has(program, n.Keep, n.Dropout), "draws by the row of a query")
    _unless(_reads(program, "queries"), "reads how many queries there are")
    inputs = _inputs(program)
    expected = _run(backend, program, inputs)
    total: Tensors = {}
    for row in range(SIZES.N):
        one = _run_rows(backend, program, inputs, row, expected)
        for name, value in one.items():
            total[name] = total[name] + value if name in total else value
    _same(total, expected)


def _run_rows(backend: str, program: str, inputs: Tensors, row: int, like: Tensors) -> Tensors:
    """Run one query row, and put what it gives into zeros as large as the whole."""
    dims = {f"grad of {name}": dim for name, dim in _dims(program, "i").items()} | {"output": 2}

    def weighted(name: str, value: Tensor) -> Tensor:
        # run_both weighs by a tensor of the result's shape, so the row must stand in the whole.
        whole = torch.zeros(like[name].shape, dtype=value.dtype)
        return whole.slice_scatter(value, 2, row, row + 1)

    with _tiles():
        found = run_both(
            PROGRAMS[program],
            _along(program, inputs, "i", _rows(row, row + 1)),
            reduce=weighted,
            rows_alone=backend == "sdpa",
            backend=backend,
            query_offset=2 + row,
        )
    for name, dim in dims.items():
        if name in found and name != "output":
            whole = torch.zeros_like(like[name])
            found[name] = whole.slice_scatter(found[name], dim, row, row + 1)
    return found


@_law
def one_batch_row_alone_equals_the_row_in_the_batch(backend: str, program: str) -> None:
    _unless(_reads(program, "batch"), "reads the number of the batch row")
    _unless(_has(program, n.Keep, n.Dropout), "draws by the number of the batch row")
    inputs = _inputs(program)
    both = {
        "query_offset": torch.tensor([0, 3]),
        "query_lengths": torch.tensor([11, 7]),
        "key_lengths": torch.tensor([9, 13]),
    }
    for row in range(SIZES.B):

        def own(name: str, value: Tensor, row: int = row) -> Tensor:
            return value[row : row + 1]

        expected = _run(backend, program, inputs, reduce=own, **both)
        alone = _along(program, inputs, "b", lambda x, d, row=row: x.narrow(d, row % x.shape[d], 1))
        options = {name: value[row : row + 1] for name, value in both.items()}
        found = _run(backend, program, alone, **options)
        cut = _along(program, expected, "b", lambda x, d, row=row: x.narrow(d, row % x.shape[d], 1))
        _same(found, cut)


@_law
def grouped_heads_equal_repeated_heads(backend: str, program: str) -> None:
    inputs, times = _inputs(program), SIZES.H // SIZES.G
    grouped = {
        name
        for name in _dims(program, "h")
        if name in _dims(program, "j") and inputs[name].shape[1] == SIZES.G
    }
    many = {
        name: x.repeat_interleave(times, 1) if name in grouped else x for name, x in inputs.items()
    }
    found = _run(backend, program, many)
    for name in grouped & {key.removeprefix("grad of ") for key in found}:
        found[f"grad of {name}"] = found[f"grad of {name}"].unflatten(1, (SIZES.G, times)).sum(2)
    _same(found, _run(backend, program, inputs))


@_law
def head_groups_equal_the_whole_layer(backend: str, program: str) -> None:
    inputs, size = _inputs(program), SIZES.H // SIZES.G
    expected = _run(backend, program, inputs)
    parts = []
    for group in range(SIZES.G):
        heads = _along(program, inputs, "h", _heads_of(group, size))

        def own(name: str, value: Tensor, group: int = group) -> Tensor:
            whole = torch.zeros_like(expected[name])
            return whole.slice_scatter(value, 1, group * size, (group + 1) * size)

        options = {"first_head": group * size, "total_heads": SIZES.H, "reduce": own}
        parts.append(_run(backend, program, heads, **options))
    dims, joined = _dims(program, "h"), {}
    for name, value in expected.items():
        leaf = name.removeprefix("grad of ")
        apart = leaf in dims and leaf != name and value.shape[1] > 1
        made = [part[name] for part in parts]
        joined[name] = torch.cat(made, 1) if apart else sum(made[1:], start=made[0])
    _same(joined, expected)


def _heads_of(group: int, size: int) -> Change:
    def change(tensor: Tensor, dim: int) -> Tensor:
        if tensor.shape[dim] == 1:
            return tensor
        own = tensor.shape[dim] * size // SIZES.H
        return tensor.narrow(dim, group * own, own)

    return change


@_law
def padding_on_the_left_changes_nothing(backend: str, program: str) -> None:
    _unless(_reads(program, "keys", "queries"), "reads how many keys or queries there are")
    _unless(_has(program, n.KeyMax), "reads keys that are hidden")
    _unless(_has(program, n.Keep, n.Dropout), "draws by the row of a key")
    inputs, width = _inputs(program), 3
    expected = _run(backend, program, inputs, query_offset=0)

    def pad(tensor: Tensor, dim: int) -> Tensor:
        front = tensor.narrow(dim, 0, width).clone()
        front = front.fill_(torch.nan) if front.is_floating_point() else front
        return torch.cat([front, tensor], dim)

    def repeat(tensor: Tensor, dim: int) -> Tensor:
        # What padded queries give is thrown away, but has to be a number for that.
        return torch.cat([tensor.narrow(dim, 0, width), tensor], dim)

    padded = _along(program, _along(program, inputs, "j", pad), "i", repeat)
    padded["shown"] = (torch.arange(SIZES.M + width) >= width).view(1, 1, -1)
    found = _run(
        backend,
        _restricted(program),
        padded,
        key_positions=torch.arange(SIZES.M + width) - width,
        query_positions=torch.arange(SIZES.N + width) - width,
        reduce=lambda name, value: value[:, :, width:],
    )
    found = _along(program, found, "j", _rows(width, SIZES.M + width))
    _same(_along(program, found, "i", _rows(width, SIZES.N + width)), expected)


# ── What is hidden reaches nothing ────────────────────────────────────────────────────────────
def _poisoner(start: int, poison: float) -> Change:
    def change(tensor: Tensor, dim: int) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        tensor = tensor.clone()
        tensor.narrow(dim, start, tensor.shape[dim] - start).fill_(poison)
        return tensor

    return change


def _poisoned_rows(backend: str, program: str, poison: float) -> None:
    inputs = _inputs(program)
    options = {"query_lengths": torch.tensor([9, 9]), "key_lengths": torch.tensor([8, 8])}
    dirty = _along(program, inputs, "j", _poisoner(8, poison))
    dirty = _along(program, dirty, "i", _poisoner(9, poison))
    _same(_run(backend, program, dirty, **options), _run(backend, program, inputs, **options))


def _poisoned_keys(backend: str, program: str, poison: float) -> None:
    _unless(_has(program, n.KeyMax) and poison == torch.inf, "shifts by the largest of all keys")
    inputs = _inputs(program)
    inputs["shown"] = (torch.arange(SIZES.M) < 8).view(1, 1, -1)
    dirty = _along(program, inputs, "j", _poisoner(8, poison))
    restricted = _restricted(program)
    if _has(program, n.KeyMax):
        # The largest value is that of all keys, so the clean call must not have it at a hidden one.
        inputs = _along(program, inputs, "j", _poisoner(8, -9.0))
    _same(_run(backend, restricted, dirty), _run(backend, restricted, inputs))


@_law
def rows_beyond_their_length_may_be_nan(backend: str, program: str) -> None:
    _poisoned_rows(backend, program, float("nan"))


@_law
def rows_beyond_their_length_may_be_infinite(backend: str, program: str) -> None:
    _poisoned_rows(backend, program, float("inf"))
    _poisoned_rows(backend, program, -float("inf"))


@_law
def hidden_keys_may_be_nan(backend: str, program: str) -> None:
    _poisoned_keys(backend, program, float("nan"))


@_law
def hidden_keys_may_be_infinite(backend: str, program: str) -> None:
    _poisoned_keys(backend, program, float("inf"))
    _poisoned_keys(backend, program, -float("inf"))


@_law
def rows_that_see_nothing_are_zero_and_give_no_gradient(backend: str, program: str) -> None:
    inputs = _inputs(program)
    inputs["shown"] = torch.zeros(1, 1, SIZES.M, dtype=torch.bool)
    found = _run(backend, _restricted(program), inputs)
    for name, value in found.items():
        assert not value.any(), f"{name}: {largest(value):.2e} where nothing is seen"
