"""Calls of a kernel's sweeps on one call's tensors: arguments, grid, launch.

Leaves to others: which sweeps run (`cpu/forward`, `cpu/backward`), the kernels (`module`).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from regard.backends.cpu.call import kind_of, placed
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.module import Module
from regard.backends.cpu.ranksweep import RankSweep
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.slots import place_kind
from regard.backends.measured.figures import size_class
from regard.backends.triton.keykernel import major_of
from regard.backends.triton.machine import is_interpreted
from regard.backends.triton.module import Program, TritonModule
from regard.backends.triton.places import ARGUMENTS, WITH_WIDTH, Form
from regard.backends.triton.rowkernel import RowResults
from regard.backends.triton.tiles import Job, Tiles, count_chunks
from regard.backends.triton.tune import find_tiles
from regard.backends.triton.values import HALVES, DeviceValues
from regard.backends.triton.visits import find_visits
from regard.ir.bound import Bound
from regard.ir.random import mix32
from regard.passes.split_pairs import Input

_GOLDEN, _MASK = 0x9E3779B9, 0xFFFFFFFF
# What these receive is added to where it lies, or written only where a pair is visited.
_ADDED_IN_MEMORY = ("pair", "diagonal", "table", "query_table", "key_table")


class TritonCaller(Caller):
    """Calls kernels on one call's tensors.

    Args:
        kernel: The compiled program.
        bound: The call.
        holes: Row values known beforehand.
        conditions: When each term sees a pair; as the kernel says unless given.
    """

    make_values = DeviceValues

    @staticmethod
    def multiplies(dtype: torch.dtype) -> bool:
        """Tell whether rows stored in a dtype are multiplied as they are."""
        return dtype in HALVES

    def decoding_chunks(self) -> int:
        """Return into how many parts the keys are cut when query rows are few."""
        return 1

    def run(self, module: Module, results: Sequence[Tensor | None], chunks: int = 1) -> None:
        """Run one sweep.

        Args:
            module: The sweep.
            results: Where its results go; None for what nobody wants.
            chunks: One.
        """
        assert isinstance(module, TritonModule)
        tensors = self._tensors(module)
        if isinstance(module.sweep, RowSweep):
            tiles = self._settled(module, tensors, "rows", results)
            return self._run_rows(module, tensors, results, tiles)
        for side in "ij":
            tiles = self._settled(module, tensors, side)
            given = [result for item, result in zip(module.receivers, results, strict=True)
                     if major_of(item) == side]  # fmt: skip
            self._run_side(module, tensors, given, side, tiles)

    def _run_side(
        self,
        module: TritonModule,
        tensors: list[Tensor],
        given: Sequence[Tensor | None],
        side: str,
        tiles: Tiles,
    ) -> None:
        """Run the kernel of one side of an adjoint sweep."""
        program = module.program(self._form(module, tensors), side)
        self._launch(module, program, tensors, given, side, tiles)

    def _run_rows(
        self,
        module: TritonModule,
        tensors: list[Tensor],
        results: Sequence[Tensor | None],
        tiles: Tiles,
    ) -> None:
        """Run a sweep over keys, cut into parts where query rows are few."""
        form, sweep = self._form(module, tensors), module.sweep
        count = len(module.row_results)
        wanted = tuple(k for k in range(count) if results[k] is not None)
        rows = [results[k] for k in wanted]
        summed = list(results[count : count + sweep.summed_count])
        given: list[Any] = [*rows, *summed]
        for part in results[count + len(summed) :][: len(sweep.histograms)]:
            assert part is not None
            given += [part, part.shape[-1]]
        if isinstance(sweep, RankSweep):
            return self._run_ranks(module, tensors, list(results), tiles)
        chunks = self._chunks(sweep, tiles)
        if chunks == 1:
            program = module.program(form, RowResults(wanted))
            self._launch(module, program, tensors, given, "i", tiles)
            return
        parts = self._parts(module, tensors, chunks)
        for part, those in (("split", parts), ("join", [*given, *parts])):
            program = module.program(form, RowResults(wanted, part))
            self._launch(module, program, tensors, those, "i", tiles, chunks)

    def _run_ranks(
        self, module: TritonModule, tensors: list[Tensor], results: list[Any], tiles: Tiles
    ) -> None:
        """Run a sweep that ranks scores, and sort the keys it lists."""
        sweep = module.sweep
        assert isinstance(sweep, RankSweep)
        size = [results[0].shape[-1]] if sweep.chooses else []
        program = module.program(self._form(module, tensors), RowResults(()))
        self._launch(module, program, tensors, [*results, *size], "i", tiles)
        for k in range(len(sweep.terms) if sweep.chooses else 0):
            order = results[k].sort(dim=-1)
            results[k].copy_(order.values)
            if sweep.valued:
                values = results[len(sweep.terms) + k]
                values.copy_(values.gather(-1, order.indices))

    def _settled(
        self,
        module: TritonModule,
        tensors: list[Tensor],
        what: str,
        results: Sequence[Tensor | None] = (),
    ) -> Tiles:
        """Return the tiles of a kernel, which is measured first if that is asked for."""
        job = self._job(module, tensors, what)
        if job in module.tiles:
            return module.tiles[job]

        def launch(tiles: Tiles) -> None:
            if what == "rows":
                scratch = [None if x is None else torch.zeros_like(x) for x in results]
                return self._run_rows(module, tensors, scratch, tiles)
            mine = [(item, x) for item, x in zip(module.inputs, tensors, strict=True)
                    if item in module.receivers and major_of(item) == what]  # fmt: skip
            scratch = [self._room(item, x, tiles) for item, x in mine]
            return self._run_side(module, tensors, scratch, what, tiles)

        return find_tiles(module, job, self.bound.q.device, launch)

    def _chunks(self, sweep: RowSweep, tiles: Tiles) -> int:
        """Return into how many parts the keys are cut, so that few query rows use the device."""
        if sweep.histograms:
            return 1
        b, h, _, rows, keys = self.sizes
        return count_chunks(tiles, b * h, rows, keys)

    def _parts(self, module: Module[RowSweep], tensors: list[Tensor], chunks: int) -> list[Tensor]:
        """Return room for what is summed over each part of the keys."""
        b, h, _, rows, _ = self.sizes
        sweep, width = module.sweep, 0
        if sweep.values is not None:
            width = padded_width(tensors[module.inputs.index(sweep.values)].shape[-1])
        like = {"dtype": self.kernel.dtype, "device": self.bound.q.device}
        counts = (len(sweep.terms), 1), (len(sweep.sums), 1), (len(sweep.components), width)
        return [torch.empty((count, chunks, b * h * rows, each), **like) for count, each in counts]

    def receive(self, module: Module) -> list[Tensor]:
        """Run an adjoint sweep.

        Args:
            module: The sweep.

        Returns:
            What each of its receivers receives, (B, H, …).
        """
        assert isinstance(module, TritonModule)
        tensors = dict(zip(module.inputs, self._tensors(module), strict=True))
        tiles = self._settled(module, list(tensors.values()), "i")
        found = [self._room(item, tensors[item], tiles) for item in module.receivers]
        self.run(module, found)
        return [
            value.sum(2) if place_kind(item) in ("number", "channels") else value
            for item, value in zip(module.receivers, found, strict=True)
        ]

    def _room(self, item: Input, value: Tensor, tiles: Tiles) -> Tensor:
        """Return a tensor for what an input receives, of zeros where a kernel leaves some out."""
        b, h, _, rows, keys = self.sizes
        blocks, width, kind = -(-rows // tiles.rows), value.shape[-1], place_kind(item)
        shapes = {
            "query_row": (rows, width), "key_row": (keys, width), "query": (rows,), "key": (keys,),
            "number": (blocks, 1), "channels": (blocks, width), "pair": (rows, keys),
            "diagonal": (width,), "query_table": (rows, width), "key_table": (keys, width),
        }  # fmt: skip
        shape = (value[0].numel(),) if kind == "table" else shapes[kind]
        partial = self.unwritten or self.bound.key_lengths is not None or not rows
        make = torch.zeros if partial or kind in _ADDED_IN_MEMORY else torch.empty
        return make((b, h, *shape), dtype=self.kernel.dtype, device=value.device)

    # ── Arguments ────────────────────────────────────────────────────────────────────────────
    def _tensors(self, module: Module) -> list[Tensor]:
        given, computed = self.bound.tensors, self.values.tensor
        return [given[name] if name else computed(item) for name, item in module.sources]

    def _form(self, module: Module, tensors: list[Tensor]) -> Form:
        inputs = zip(module.inputs, tensors, strict=True)
        kinds = tuple(kind_of(tensor, item) for item, tensor in inputs)
        return Form(kinds, tuple(x.shape[-1] == padded_width(x.shape[-1]) for x in tensors))

    def _job(self, module: TritonModule, tensors: list[Tensor], what: str) -> Job:
        inputs = zip(module.inputs, tensors, strict=True)
        widths = [padded_width(x.shape[-1]) for item, x in inputs if item.kind in WITH_WIDTH]
        return job_of(self.bound, what, max(widths, default=16), bool(module.sweep.split.sums))

    def _launch(
        self,
        module: TritonModule,
        program: Program | None,
        tensors: list[Tensor],
        results: Sequence[Any],
        major: str,
        tiles: Tiles,
        chunks: int = 1,
    ) -> None:
        b, h, _, rows, keys = self.sizes
        if program is None or not (rows if major == "i" else keys):
            return
        size, block = (rows, tiles.rows) if major == "i" else (keys, tiles.keys)
        delta = getattr(module.sweep, "delta", None)
        more = [self._delta(*delta)] if "delta_ptr" in program.text.results and delta else []
        # A receiver of a side whose blocks differ in size has as many parts as that side says.
        arguments = [
            *self._inputs(program, tensors), *results, *more, *self._draws(module),
            *self._sizes(tiles, major),
        ]  # fmt: skip
        fixed = self._fixed(program, module, tensors) | {"BI": tiles.rows, "BJ": tiles.keys}
        fixed["CHUNKS"] = chunks
        split = program.text.results[:1] == ["tops_ptr"]
        grid = (-(-size // block) * b * h, chunks if split else 1)
        self._start(program, arguments, fixed, tiles, grid)

    def _start(
        self,
        program: Program,
        arguments: list[Any],
        fixed: dict[str, Any],
        tiles: Tiles,
        grid: tuple[int, int],
    ) -> None:
        """Start a kernel; nobody waits for it."""
        options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
        device = self.bound.q.device
        with nullcontext() if device.type == "cpu" else torch.cuda.device(device):
            program.run[grid](*arguments, **fixed, **options)

    def _delta(self, left: Input, summed: Input) -> Tensor:
        """Return r times what the one normaliser receives, (B, H, N)."""
        do, row = self.values.tensor(left), self.values.tensor(summed)
        b, h, _, rows, _ = self.sizes
        return (do.to(row.dtype) * row).sum(-1).expand(b, h, rows, 1).contiguous()

    def _inputs(self, program: Program, tensors: list[Tensor]) -> list[Any]:
        found: list[Any] = []
        for item in program.text.places.used:
            tensor = tensors[program.text.places.index[item]]
            value = placed(item, tensor)
            found.append(value)
            told = _describe(item, value, self.bound.heads)
            found += [told[name] for name in ARGUMENTS[place_kind(item)].split()]
        return found

    def _draws(self, module: Module) -> list[int]:
        """Return the random state of each draw that all of a call has in common."""
        return [_state(self.bound.seed or 0, keep.place) for keep in module.sweep.split.draws]

    def _sizes(self, tiles: Tiles, major: str) -> list[Any]:
        bound = self.bound
        visits = find_visits(self.conditions, bound, tiles, major)
        strides = [0 if visits.shape[dim] == 1 else visits.stride(dim) for dim in (0, 1)]
        sizes = [bound.heads, bound.queries, bound.keys, bound.first_head]
        lengths = [bound.query_lengths, bound.key_lengths]
        return [visits, *strides, visits.stride(2), *sizes, *lengths]

    def _fixed(self, program: Program, module: Module, tensors: list[Tensor]) -> dict[str, Any]:
        import triton.language as tl

        found: dict[str, Any] = {}
        for k, (item, tensor) in enumerate(zip(module.inputs, tensors, strict=True)):
            if item.kind in WITH_WIDTH and item in program.text.places.used:
                found |= {f"W{k}": tensor.shape[-1], f"C{k}": padded_width(tensor.shape[-1])}
        widths = dict(zip(module.inputs, (x.shape[-1] for x in tensors), strict=True))
        for k, one in enumerate(module.sweep.split.sums.values()):
            found[f"CHANNELS{k}"] = max(widths[item] for item in one.inputs)
        found["REAL"] = tl.float64 if self.kernel.dtype == torch.float64 else tl.float32
        found["UNIT"] = _unit(self.bound.q.dtype)
        return found


def job_of(bound: Bound, what: str, widest: int, at_pairs: bool) -> Job:
    """Return what decides how a call's work is best cut.

    Args:
        bound: The call.
        what: "rows", "i" or "j", as for `Job`.
        widest: The most channels of an input, a power of two.
        at_pairs: Whether channels are added up at every pair.

    Returns:
        The job; the same for calls of about the same size.
    """
    sizes = bound.batch * bound.heads, bound.queries, bound.keys
    return Job(what, widest, bound.q.dtype, at_pairs, *map(size_class, sizes))


def padded_width(width: int) -> int:
    """Return how many channels a tile of rows has: a power of two, at least 16."""
    return max(16, 1 << (width - 1).bit_length()) if width else 16


def _unit(dtype: torch.dtype) -> str:
    """Return how `functions.product` multiplies."""
    if is_interpreted():
        return "wide" if dtype in HALVES else "ieee"
    if dtype != torch.float32:
        return "ieee"
    # Three products of tf32 are as exact as one of float32, and several times as fast.
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"


def _describe(item: Input, value: Tensor, heads: int) -> dict[str, int]:
    """Return the arguments that tell where an input lies, by their ends."""
    if item.kind == "table":
        sizes = [*value.shape[1:], 1, 1, 1]
        by_head = value.stride(0) if value.shape[0] > 1 else 0
        return {"h": by_head, "share": heads // value.shape[0],
                **{f"s{k}": sizes[k] for k in range(3)}}  # fmt: skip
    strides = [0 if size == 1 else value.stride(dim) for dim, size in enumerate(value.shape)]
    strides += [0] * (4 - len(strides))
    found = dict(zip("bhrc", strides, strict=True))
    return found | {"share": heads // value.shape[1], "s0": value.shape[-1]}


def _state(seed: int, place: int) -> int:
    """Return the random state after seed and place, the first part of `draw_bits`."""
    state = 0
    for word in (seed & _MASK, (seed >> 32) & _MASK, place & _MASK):
        state = int(mix32(torch.tensor((state + word + _GOLDEN) & _MASK)))
    return state
