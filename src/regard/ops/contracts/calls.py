"""Small calls on which a contract is tried: sizes, positions and data that tend to break one.

Leaves to others: what is changed in a call and compared (`search`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.program import AttentionProgram
from regard.ops.bind import Options
from regard.ops.check import named_inputs
from regard.ops.parameters import array_shapes, row_widths
from regard.ops.prepare import prepare
from regard.passes.find_uses import find_uses

HEADS = 2
# The first that fits the program's slices, rotations and matrices is taken.
_WIDTHS = (4, 6, 8, 16, 32, 64, 128)
_TABLE_ROWS = 5
_CLASSES = 2
# Positions are no larger, so that each is exact in single precision.
_LARGEST = 2**20


@dataclass(frozen=True)
class Trial:
    """What a small call looks like.

    Attributes:
        queries: N.
        keys: M.
        offset: The position of query row 0.
        batch: B.
        positions: Positions of the query rows and of the key rows, instead of the offset.
        scale: The size of what q, k and further rows hold.
        data_scale: The size of features, parameters and tables that are no conditions.
        ties: Whether all rows of a side but v are alike, so that scores are equal.
        seed: What the data is drawn from.
        draw: The seed of random booleans; None draws none.
    """

    queries: int = 4
    keys: int = 4
    offset: int = 0
    batch: int = 1
    positions: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    scale: float = 1.0
    data_scale: float = 1.0
    ties: bool = False
    seed: int = 0
    draw: int | None = None


def make_call(program: AttentionProgram, trial: Trial) -> Bound | None:
    """Return a call in float64, on the CPU; the same one for the same trial.

    Args:
        program: The program.
        trial: What the call looks like.

    Returns:
        The bound call; None if no width of rows fits the program.
    """
    options = Options(query_offset=trial.offset, seed=trial.draw)
    if trial.positions is not None:
        queries, keys = map(torch.tensor, trial.positions)
        options = options._replace(query_offset=0, query_positions=queries, key_positions=keys)
    for width in _WIDTHS:
        try:
            inputs = _Data(program.root, trial, width).tensors()
            q, k, v = (inputs.pop(name) for name in ("q", "k", "v"))
            with torch.no_grad():
                return prepare(program, q, k, v, inputs, options)[1]
        except InputError:
            continue
    return None


class _Data:
    """Draws every tensor of a call; what a leaf must hold is read off its use."""

    def __init__(self, root: n.Output, trial: Trial, width: int) -> None:
        self.trial, self.root = trial, root
        self.random = torch.Generator().manual_seed(trial.seed)
        own = {"q": width, "k": width, "v": width}
        self.widths = row_widths(root, own, width)
        self.shapes = array_shapes(root, HEADS, self.widths)
        self.conditions, indices = find_uses(root)
        self.classes = {part for index in indices for part in n.walk(index)} | _compared(root)

    def tensors(self) -> dict[str, Tensor]:
        rows = {"q": n.Vector("query", "q"), "k": n.Vector("key", "k"), "v": n.Vector("key", "v")}
        leaves = {**rows, **named_inputs(self.root)}
        return {name: self._make(leaf) for name, leaf in leaves.items()}

    def _make(self, leaf: n.Node) -> Tensor:
        trial = self.trial
        match leaf:
            case n.Vector():
                rows = self._rows(leaf.side)
                made = self._reals((trial.batch, HEADS, rows, self.widths[leaf.name]))
                if trial.ties and leaf.name != "v":
                    made = made[:, :, :1].expand_as(made).clone()
                return made if leaf.name == "v" else made * trial.scale
            case n.Feature():
                return self._number(leaf, (trial.batch, HEADS, self._rows(leaf.side)))
            case n.PairInput():
                return self._number(leaf, (trial.batch, HEADS, trial.queries, trial.keys))
            case n.Array():
                return self._number(leaf, tuple(x or _TABLE_ROWS for x in self.shapes[leaf.name]))
        # One range fits both temperatures and probabilities.
        return 0.3 + 0.4 * torch.rand((), generator=self.random, dtype=torch.float64)

    def _rows(self, side: str) -> int:
        return self.trial.queries if side == "query" else self.trial.keys

    def _number(self, leaf: n.Node, shape: tuple[int, ...]) -> Tensor:
        if leaf in self.conditions:
            return torch.rand(shape, generator=self.random) < 0.6
        if leaf in self.classes:
            return torch.randint(0, _CLASSES, shape, generator=self.random)
        return self._reals(shape) * self.trial.data_scale

    def _reals(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.random, dtype=torch.float64)


def _compared(root: n.Output) -> set[n.Node]:
    """Return the leaves that are compared for equality, by which tokens are told apart."""
    found: set[n.Node] = set()
    for node in n.walk(root):
        if isinstance(node, n.Call) and node.op in ("eq", "ne"):
            found.update(arg.array if isinstance(arg, n.Gather) else arg for arg in node.args)
    return found


def landmarks(root: n.Output) -> list[int]:
    """Return the positions near the whole numbers a program mentions, where it may turn.

    Args:
        root: The program.

    Returns:
        In ascending order, from 0 on.
    """
    found = set(range(4))
    for node in n.walk(root):
        if isinstance(node, n.Const) and abs(node.value) <= _LARGEST:
            near = int(abs(node.value))
            found |= {near - 1, near, near + 1}
    return sorted(place for place in found if place >= 0)


def _spread(root: n.Output, far: int = 0) -> tuple[int, ...]:
    """Return up to eight positions at which a program may turn, and some beyond a window."""
    places = landmarks(root)
    spread = places[:: max(1, len(places) // 6)][:7]
    beyond = [place + far for place in spread[:3]]
    return tuple(sorted({*spread, *beyond})[:8])


def region_trials(root: n.Output, reach: int = 0) -> Iterator[Trial]:
    """Yield calls on which an output may read a key that it must not.

    Args:
        root: The program.
        reach: The width of the window, if there is one.

    Yields:
        Trials, the most telling first.
    """
    far = reach + 2
    plain = [Trial(), Trial(3, 5, seed=1), Trial(5, 3, seed=2), Trial(2, 6, 3, seed=3)]
    plain += [Trial(3, 4, far, seed=4), Trial(4, 4, 1, seed=5, scale=1e3)]
    yield from plain
    keys = _spread(root, far)
    yield Trial(len(keys), len(keys), positions=(keys, keys), seed=6)
    yield Trial(len(keys), len(keys), positions=(keys, keys[::-1]), seed=7)
    before = tuple(-place - 1 for place in keys)
    yield Trial(len(keys), len(keys), positions=(keys, before), seed=8)
    for seed in range(9, 12):
        yield Trial(4, 5, seed=seed, scale=10.0 ** (3 * (seed - 9)))
    # A score that is a large constant gives way to larger ones alone.
    yield Trial(4, 4, seed=12, scale=1e6)
    yield replace(plain[0], seed=13, draw=1)


def alike_trials(root: n.Output) -> Iterator[Trial]:
    """Yield calls on which the order, the place or the number of a row may show.

    Args:
        root: The program.

    Yields:
        Trials, the most telling first.
    """
    yield Trial(4, 4)
    yield Trial(3, 5, seed=1)
    yield Trial(3, 4, seed=2, ties=True)
    places = _spread(root)
    yield Trial(len(places), len(places), positions=(places, places), seed=3)
    yield Trial(4, 5, min(landmarks(root)[-1], 300), seed=3)
    yield Trial(5, 6, seed=4, scale=0.1)
    yield Trial(9, 9, seed=5)
    yield Trial(3, 3, seed=6, scale=30.0)


def empty_trials(root: n.Output) -> Iterator[Trial]:
    """Yield calls whose queries stand where keys stand.

    Args:
        root: The program.

    Yields:
        Trials, the most telling first.
    """
    for seed, size in enumerate((1, 2, 3, 5, 8, 17)):
        yield Trial(size, size, seed=seed)
    draws = any(isinstance(node, n.Keep) for node in n.walk(root))
    for seed in range(40 if draws else 6):
        yield Trial(1 + seed % 3, 1 + seed % 3, seed=seed, draw=seed if draws else None)
    last = landmarks(root)[-1]
    if last <= 300:
        yield Trial(last + 2, last + 2, seed=9)
    for offset in (1, 3, 6):
        yield Trial(1, offset + 1, offset, seed=offset)


def loud_trials(root: n.Output) -> Iterator[Trial]:
    """Yield calls on which scores become large.

    Args:
        root: The program.

    Yields:
        Trials, the most telling first.
    """
    far = landmarks(root)[-1]
    for seed, scale in enumerate((1.0, 30.0, 1e3, 1e5)):
        yield Trial(4, 4, seed=seed, scale=scale, data_scale=scale)
        yield Trial(4, 4, far + 4, seed=seed, scale=scale, data_scale=-scale)
    yield Trial(2, 2, 2 * _LARGEST, scale=0.0, data_scale=0.0)
    yield Trial(2, 2, 0, scale=1e3, data_scale=1e8)
