"""Inputs for any program: q, k, v and every named leaf, from the program alone and a seed.

What a leaf must hold is read off its use: conditions get truth values, what indexes or is compared
for equality gets small integers, everything else real numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ops.check import named_inputs
from regard.ops.parameters import array_shapes, row_widths

TABLE_ROWS = 7
# Small integers, so that documents are shared and every index is met by some pair.
CLASSES = 3


@dataclass(frozen=True)
class Sizes:
    """The lengths of a call, by the letters of the design.

    Attributes:
        B: Batch rows.
        H: Query heads.
        G: Key heads.
        N: Queries.
        M: Keys.
        D: Key width, even.
        E: Value width.
    """

    B: int = 2
    H: int = 4
    G: int = 2
    N: int = 17
    M: int = 19
    D: int = 8
    E: int = 6


def make_inputs(
    root: n.Output,
    sizes: Sizes,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    total_heads: int = 0,
) -> dict[str, Tensor]:
    """Return every tensor a call of the program takes.

    Args:
        root: The program.
        sizes: The lengths.
        dtype: That of q, k, v and further rows; other numbers are float32 beside halves.
        seed: What the numbers are drawn from.
        total_heads: How many heads the whole layer has; H unless given.

    Returns:
        Tensors by name, "q", "k" and "v" first. They are exact in float32, or in the dtype if
        that is narrower, so that one call can be repeated in several dtypes.
    """
    maker = _Maker(root, sizes, dtype, seed, total_heads or sizes.H)
    return {name: maker.make(leaf) for name, leaf in maker.leaves.items()}


class _Maker:
    def __init__(
        self, root: n.Output, sizes: Sizes, dtype: torch.dtype, seed: int, heads: int
    ) -> None:
        self.sizes = sizes
        self.dtype = dtype
        self.other = dtype if torch.finfo(dtype).bits >= 32 else torch.float32
        self.generator = torch.Generator().manual_seed(seed)
        rows = {"q": n.Vector("query", "q"), "k": n.Vector("key", "k"), "v": n.Vector("key", "v")}
        self.leaves: dict = {**rows, **named_inputs(root)}
        self.uses = _uses(root)
        own = {"q": sizes.D, "k": sizes.D, "v": sizes.E}
        # Rows whose width nothing decides get one of their own, unlike D.
        self.known = row_widths(root, own, sizes.D + 2)
        self.shapes = array_shapes(root, heads, self.known)

    def make(self, leaf: n.Node) -> Tensor:
        s = self.sizes
        match leaf:
            case n.Vector():
                heads, rows = (s.H, s.N) if leaf.side == "query" else (s.G, s.M)
                return self._reals((s.B, heads, rows, self.known[leaf.name])).to(self.dtype)
            case n.Feature():
                heads, rows = (s.H, s.N) if leaf.side == "query" else (s.G, s.M)
                # Features may be shared; which one is decided by the name, so that both occur.
                shared = len(leaf.name) % 2 == 0
                return self._data(leaf, (s.B, 1 if shared else heads, rows))
            case n.PairInput():
                return self._data(leaf, (s.B, 1 if len(leaf.name) % 2 == 0 else s.H, s.N, s.M))
            case n.Array():
                sizes = self.shapes[leaf.name]
                return self._data(leaf, tuple(size or TABLE_ROWS for size in sizes))
            case _:
                # One range fits both temperatures and probabilities.
                drawn = 0.3 + 0.4 * torch.rand((), generator=self.generator)
                return drawn.to(self.other)

    def _data(self, leaf: n.Node, shape: tuple[int, ...]) -> Tensor:
        use = self.uses.get(leaf)
        if use == "condition":
            return torch.rand(shape, generator=self.generator) < 0.7
        if use == "class":
            return torch.randint(0, CLASSES, shape, generator=self.generator)
        return (0.5 * self._reals(shape)).to(self.other)

    def _reals(self, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator)
        halves = torch.finfo(self.dtype).bits < 32
        return drawn.to(self.dtype).float() if halves else drawn


def _uses(root: n.Output) -> dict[n.Node, str]:
    """Return for each leaf that is not a real number whether it is a "condition" or a "class"."""
    uses: dict[n.Node, str] = {}
    for node in n.walk(root):
        if isinstance(node, n.Gather):
            for part in n.walk(*node.indices):
                uses.setdefault(_leaf(part), "class")
        if isinstance(node, n.Call) and node.op in ("eq", "ne"):
            for arg in node.args:
                uses.setdefault(_leaf(arg), "class")
    for node in n.walk(root):
        for condition in _conditions(node):
            uses[_leaf(condition)] = "condition"
    return uses


def _leaf(node: n.Node) -> n.Node:
    return node.array if isinstance(node, n.Gather) else node


def _conditions(node: n.Node) -> list[n.Node]:
    if isinstance(node, n.Call) and node.op in ("and", "or", "not"):
        return list(node.args)
    if isinstance(node, n.Call) and node.op == "where":
        return [node.args[0]]
    if isinstance(node, n.Term | n.TopK | n.Running) and node.where is not None:
        return [node.where]
    return []
