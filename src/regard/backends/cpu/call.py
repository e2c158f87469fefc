"""One call of a kernel: the inputs as tensors, and the words that tell C++ where they lie.

Leaves to others: which inputs there are (`passes/split_pairs`), what is computed (`kernel`).
"""

import ctypes
from dataclasses import replace

import torch
from torch import Tensor

from regard.backends.base import Declined
from regard.backends.cpu.module import Entry, Layout
from regard.backends.cpu.slots import place_kind
from regard.backends.values import layout
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.random import keep_threshold
from regard.passes.part_rows import MOST_CHOSEN_ROWS, too_many_rows
from regard.passes.split_pairs import Input

# The order of `Storage` in template/call.h.
_STORAGE = {
    dtype: code
    for code, dtype in enumerate(
        (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32,
         torch.int16, torch.int8, torch.uint8, torch.bool)
    )
}  # fmt: skip
_LARGEST = 2**31 - 1
# Words of `Call` that are sizes, and those before its pointers; words of `Input` and of `Result`.
SIZES, FIELDS, INPUT_WORDS, RESULT_WORDS = 6, 15, 8, 6
# Stretches of a tabulated diagonal that whole vectors read behind its end.
DIAGONAL_MARGIN = 512


class Values:
    """The inputs of a call as tensors, each computed once.

    Args:
        bound: The call.
        holes: Row values known beforehand, 5-D, by hole name.
    """

    def __init__(self, bound: Bound, holes: dict[str, Tensor]) -> None:
        self.bound, self.holes = bound, holes
        self._computed: dict[n.Node, Tensor] = {}
        self._at: Evaluator | None = None

    @property
    def at(self) -> Evaluator:
        """Evaluates row expressions of all rows at once."""
        if self._at is None:
            whole = Tile(0, self.bound.queries, 0, self.bound.keys)
            self._at = Evaluator(self.bound, whole, self.holes, Cache())
        return self._at

    def tensor(self, item: Input) -> Tensor:
        """Return an input as it lies; `placed` tells its axes."""
        node = item.node
        if isinstance(node, n.Vector):
            return self.bound.tensors[node.name]
        if isinstance(node, n.Hole) and node.name in self.holes:
            return self.holes[node.name]
        found = self._computed.get(node)
        if found is None:
            found = self._computed[node] = self._compute(item)
        return found

    def _compute(self, item: Input) -> Tensor:
        node = item.node
        match item.kind:
            case "table":
                assert isinstance(node, n.Array)
                return self._table(node)
            case "diagonal":
                return self._lanes(diagonal_evaluator(self.bound)(node)[:, :, 0, :, 0]).contiguous()
            case "threshold":
                assert isinstance(node, n.Keep)
                return self._threshold(node, place_kind(item))
            case "pair":
                assert isinstance(node, n.PairInput)
                return self._checked(self.bound.tensors[node.name])
            case "channels":
                return self.at.real(node).to(self.bound.compute_dtype).contiguous()
            case "query_table" | "key_table":
                return self._row_table(node)
        if isinstance(node, n.Feature):
            return self._checked(self.bound.tensors[node.name]).unsqueeze(-1)
        value = self.at(node)
        return value if isinstance(node, n.Index) else self._checked(value)

    def _table(self, array: n.Array) -> Tensor:
        data = layout.own_heads(array, self.bound)
        if "head" in array.per:
            data = data.movedim(array.per.index("head"), 0)
        else:
            data = data.unsqueeze(0)
        return self._lanes(self._checked(data)).contiguous()

    def _row_table(self, node: n.Node) -> Tensor:
        assert isinstance(node, n.Unproject)
        check_chosen(node.matrix, self.bound)
        value = self.at.real(node).to(self.bound.compute_dtype).contiguous()
        if not bool(value.isfinite().all()):
            raise Declined("a row holds NaN or infinity, which products would let through")
        return value

    def _lanes(self, data: Tensor) -> Tensor:
        """Return numbers as a kernel's lanes hold them."""
        if data.dtype.is_floating_point:
            return data.to(self.bound.compute_dtype)
        whole = torch.int64 if self.bound.compute_dtype == torch.float64 else torch.int32
        return -data.to(whole) if data.dtype == torch.bool else data.to(whole)

    def _threshold(self, node: n.Keep, kind: str) -> Tensor:
        least = keep_threshold(self.at.real(node.p))
        if bool((least > 0xFFFFFFFF).any()):
            raise Declined("a draw drops everything")
        value = least if self.bound.compute_dtype == torch.float64 else least.to(torch.int32)
        return value[:, :, 0] if kind == "key" else value[:, :, :, 0]

    def _checked(self, value: Tensor) -> Tensor:
        """Decline whole numbers that a kernel's lanes do not hold."""
        narrow = self.bound.compute_dtype != torch.float64 and value.dtype == torch.int64
        if narrow and value.numel() and int(value.abs().max()) > _LARGEST:
            raise Declined("an input holds whole numbers beyond 32 bits")
        return value


def check_chosen(array: n.Array, bound: Bound) -> None:
    """Decline a table of which pairs choose rows, if products with its rows are no gain.

    Args:
        array: The table.
        bound: The call.
    """
    rows = bound.tensors[array.name].shape[-2]
    if rows > MOST_CHOSEN_ROWS:
        raise Declined(too_many_rows(f"'{array.name}' holds {rows} rows"))


def diagonal_evaluator(bound: Bound, holes: dict[str, Tensor] | None = None) -> Evaluator:
    """Return what evaluates functions of i - j at every difference a call has.

    Args:
        bound: The call; row r has position r on both sides.
        holes: Values of holes.

    Returns:
        The evaluator of one query row at 0, with keys at 1 - N … M - 1 and some beyond.
    """
    last = bound.keys + DIAGONAL_MARGIN
    keys = torch.arange(1 - bound.queries, last, device=bound.q.device).view(1, -1)
    zero = torch.zeros((1, 1), dtype=torch.int64, device=bound.q.device)
    moved = replace(bound, query_positions=zero, key_positions=keys)
    return Evaluator(moved, Tile(0, 1, 0, keys.shape[1]), holes or {}, Cache())


def kind_of(tensor: Tensor, item: Input) -> str:
    """Return what an input is read as: "real", "int" or "bool"."""
    if tensor.dtype.is_floating_point:
        return "real"
    if item.kind in ("query_row", "key_row", "channels"):
        return "real"
    made_whole = item.kind in ("table", "diagonal")
    if tensor.dtype == torch.bool or (made_whole and item.hole.kind == "bool"):
        return "bool"
    return "int"


def placed(item: Input, value: Tensor) -> Tensor:
    """Return a row value without the axes it does not have: (b, h, rows, channels) for rows."""
    if value.dim() < len("bhijc"):
        return value
    match place_kind(item):
        case "key" | "key_row" | "key_table":
            return value[:, :, 0]
        case "channels":
            return value[:, :, 0, 0]
        case _:
            return value[:, :, :, 0]


def describe(item: Input, tensor: Tensor, heads: int) -> list[int]:
    """Return the words of `Input` in template/call.h for a tensor, without its address."""
    tensor = placed(item, tensor)
    storage = _STORAGE[tensor.dtype]
    if item.kind == "table":
        sizes = [*tensor.shape[1:], 1, 1][:3]
        return [0, storage, 0, _stride(tensor, 1 - 1) if tensor.shape[0] > 1 else 0,
                sizes[0], sizes[1], heads // tensor.shape[0], sizes[2]]  # fmt: skip
    strides = [_stride(tensor, dim) for dim in range(tensor.dim())] + [0, 0]
    share = heads // tensor.shape[1]
    if item.kind in ("channels", "diagonal"):
        return [0, storage, strides[0], strides[1], 0, 1, share, tensor.shape[-1]]
    return [0, storage, *strides[:4], share, tensor.shape[-1]]


def _stride(tensor: Tensor, dim: int) -> int:
    return 0 if tensor.shape[dim] == 1 else tensor.stride(dim)


def describe_result(tensor: Tensor | None, chunked: bool, heads: int) -> list[int]:
    """Return the words of `Result` for (B, H or G, …), or for what nobody wants.

    Args:
        tensor: Where it goes.
        chunked: Whether its first axis is that of chunks of keys.
        heads: H.

    Returns:
        The words, without the address.
    """
    if tensor is None:
        return [0, 0, 0, 0, 0, 1]
    if chunked:
        return [0, *tensor.stride()[:4], 1]
    return [0, 0, *tensor.stride()[:3], heads // tensor.shape[1]]


def lay_out(
    entry: Entry, sizes: list[int], inputs: list[list[int]], results: list[list[int]]
) -> Layout:
    """Return the words of a call without what differs from call to call.

    Args:
        entry: The function to call.
        sizes: The first words of `Call`.
        inputs: From `describe`.
        results: From `describe_result`.

    Returns:
        The layout, with room for addresses and the other fields.
    """
    start = FIELDS + 2
    middle = start + len(inputs) * INPUT_WORDS
    end = middle + len(results) * RESULT_WORDS
    fields = [*sizes, *[0] * (FIELDS - SIZES), start, middle]
    flat = [word for item in (*inputs, *results) for word in item]
    made = (ctypes.c_int64 * end)(*fields, *flat)
    places = (*range(start, middle, INPUT_WORDS), *range(middle, end, RESULT_WORDS))
    return Layout(entry, made, places)
