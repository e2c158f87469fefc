"""Inputs for a picture: sensible values for everything a program reads and nobody gave.

Parameters start as their initialisers say; what has no start is imagined, and a note says so.
Leaves to others: what is computed from them (`parts`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.program import AttentionProgram, Leaf
from regard.ops.parameters import array_shapes, initial_tensor, row_widths

SEED = 20
CONTENTS = ("none", "alike", "random")
_GIVEN_KINDS = n.Feature | n.PairInput | n.Array
# Enough heads to see how a parameter differs between them.
SEVERAL_HEADS = 8


@dataclass(frozen=True)
class Scene:
    """The sizes of an imagined call, and what the user gave by name.

    Attributes:
        heads: H, of queries and keys alike.
        queries: N.
        keys: M.
        width: D.
        given: The user's inputs by name.
    """

    heads: int
    queries: int
    keys: int
    width: int
    given: dict[str, Any]


def choose_heads(program: AttentionProgram, given: dict[str, Any]) -> int:
    """Return how many heads a picture needs to show what differs between them.

    Args:
        program: The program.
        given: The user's inputs by name; a parameter per head says how many there are.

    Returns:
        1 for a program that treats all heads alike.
    """
    per_head = [leaf for leaf in program.inputs if isinstance(leaf, n.Array) and "head" in leaf.per]
    for array in per_head:
        shape = getattr(given.get(array.name), "shape", ())
        if len(shape) == len(array.per):
            return int(shape[array.per.index("head")])
    numbered = any(isinstance(x, n.Index) and x.name == "head" for x in n.walk(program.root))
    return SEVERAL_HEADS if per_head or numbered else 1


def curve(rows: int, width: int) -> Tensor:
    """Return rows along a closed curve, the later the longer: near ones are alike.

    The product of two is highest for equal places, and falls away on both sides.

    Args:
        rows: N.
        width: D, an even number.

    Returns:
        (1, 1, N, D).
    """
    angle = 1.7 * math.pi * torch.arange(rows) / rows
    number = torch.arange(1, width // 2 + 1)
    waves = angle[:, None] * number
    # Slow waves count most, so likeness falls away gently; cosine and sine of a wave stand side by
    # side, so that each half of the channels says the same.
    share = torch.exp(-number / 4)
    along = torch.stack([waves.cos(), waves.sin()], -1) * share[:, None]
    length = torch.linspace(1.2, 2.6, rows) / share.norm()
    return (length[:, None] * math.sqrt(2) * along.flatten(-2))[None, None]


def imagine_contents(mode: str, root: n.Output, scene: Scene) -> dict[str, Tensor]:
    """Return q, k, v and all further vectors.

    Args:
        mode: "none" (zeros), "alike" (every token the same: ones), or "random" or "given"
            (standard normal, what is not given).
        root: The program.
        scene: The sizes.

    Returns:
        Tensors by name, (1, H, N or M, width).
    """
    random = torch.Generator().manual_seed(SEED)
    sides = {"q": "query", "k": "key", "v": "key"}
    sides |= {x.name: x.side for x in n.walk(root) if isinstance(x, n.Vector)}
    # Only weights are looked at: v itself need not be wide.
    reads_v = any(x is n.Vector("key", "v") for x in n.walk(root.weights))
    widths = _widths(root, scene)
    made = {}
    for name, side in sides.items():
        rows = scene.queries if side == "query" else scene.keys
        width = 1 if name == "v" and not reads_v else widths[name]
        shape = (1, scene.heads, rows, width)
        match mode:
            case "none":
                made[name] = torch.zeros(shape)
            case "alike":
                made[name] = torch.ones(shape)
            case _:
                made[name] = torch.randn(shape, generator=random)
    return made


def imagine_inputs(root: n.Output, scene: Scene) -> tuple[dict[str, Tensor], list[str]]:
    """Return every named input that is neither a vector nor given.

    Args:
        root: The program.
        scene: The sizes, and what is given.

    Returns:
        Tensors by name, and a note on each that is not where training would start it.
    """
    random = torch.Generator().manual_seed(SEED + 1)
    truths, indices = dict(_conditions(root)), set(_indices(root))
    gathered = {x.array for x in n.walk(root) if isinstance(x, n.Gather)}
    shapes = array_shapes(root, scene.heads, _widths(root, scene))
    made: dict[str, Tensor] = {}
    notes: list[str] = []
    for leaf in n.walk(root):
        if not isinstance(leaf, Leaf) or isinstance(leaf, n.Vector) or leaf.name in scene.given:
            continue
        if isinstance(leaf, n.Array) and leaf.source == "parameter":
            value = initial_tensor(leaf, _sizes(leaf, shapes, scene), random)
            if leaf in gathered and not value.any():
                value = torch.randn(value.shape, generator=random)
                notes.append(f"{leaf.name} starts at 0 and is shown with random values")
        elif isinstance(leaf, n.Scalar):
            value = torch.tensor(1.0 if leaf.default is None else leaf.default)
            notes += [f"{leaf.name} = 1"] if leaf.default is None else []
        else:
            assert isinstance(leaf, _GIVEN_KINDS)
            shape = _sizes(leaf, shapes, scene)
            value, note = _imagine_data(leaf, shape, truths.get(leaf), leaf in indices, random)
            notes.append(note)
        made[leaf.name] = value
    return made, notes


def _sizes(
    leaf: _GIVEN_KINDS, shapes: dict[str, tuple[int | None, ...]], scene: Scene
) -> tuple[int, ...]:
    """Return the shape of an array, a feature or a pair input."""
    match leaf:
        case n.Array():
            rows = scene.queries + scene.keys
            return tuple(rows if size is None else size for size in shapes[leaf.name])
        case n.PairInput():
            return (1, 1, scene.queries, scene.keys)
        case _:
            return (1, 1, 1)


def _imagine_data(
    leaf: _GIVEN_KINDS,
    shape: tuple[int, ...],
    truth: bool | None,
    is_index: bool,
    random: torch.Generator,
) -> tuple[Tensor, str]:
    """Return a feature, pair input or table, and the note on it."""
    if truth is not None:
        return torch.full(shape, truth), f"{leaf.name} is {str(truth).lower()} everywhere"
    if is_index:
        return torch.zeros(shape, dtype=torch.int64), f"{leaf.name} = 0"
    if isinstance(leaf, n.Array):
        values = torch.randn(shape, generator=random)
        return values, f"{leaf.name} is shown with random values"
    return torch.zeros(shape), f"{leaf.name} = 0"


def _conditions(root: n.Output) -> Iterator[tuple[n.Node, bool]]:
    """Yield what stands as a condition, with the truth value that lets a query see more."""
    stack: list[tuple[n.Node, bool]] = []
    for node in n.walk(root):
        if isinstance(node, n.Term | n.TopK | n.Running) and node.where is not None:
            stack.append((node.where, True))
        elif isinstance(node, n.Call) and node.op == "where":
            stack.append((node.args[0], False))
    while stack:
        node, truth = stack.pop()
        if isinstance(node, n.Call) and node.op in ("and", "or", "not"):
            stack.extend((arg, truth != (node.op == "not")) for arg in node.args)
        elif isinstance(node, n.Gather):
            yield node.array, truth
        elif isinstance(node, n.Feature | n.PairInput | n.Array):
            yield node, truth


def _indices(root: n.Output) -> Iterator[n.Node]:
    for node in n.walk(root):
        if isinstance(node, n.Gather):
            yield from n.walk(*node.indices)


def _widths(root: n.Output, scene: Scene) -> dict[str, int]:
    """Return the widths of rows and of arrays with channels, by name."""
    widths = dict.fromkeys("qkv", scene.width)
    for name, value in scene.given.items():
        if getattr(value, "ndim", 0):
            widths[name] = int(value.shape[-1])
    return row_widths(root, widths, scene.width)
