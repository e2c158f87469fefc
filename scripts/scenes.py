"""What the variants of the catalogue are drawn and measured with: knobs, documents, grids, trees.

Inputs are made by their names, which mean the same in all variants; what has no name here is
imagined as `rg.draw` imagines it.
Leaves to others: the pages (`gallery`), the clock (`benchmarks/catalogue`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from regard.catalogue.variant import Variant
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.view.imagine import curve

# Families that act on what tokens say: their pictures need tokens that say something.
_OF_CONTENTS = ("score", "normaliser", "modifier", "aggregation")
_SEED = 4


@dataclass(frozen=True)
class Scene:
    """A call that shows, or measures, one variant.

    Attributes:
        knobs: Other than the published ones, where those are too large for the call.
        rows: N and M.
        side: Of the grid that rows are tokens of; enough for all rows unless given.
        heads: H; as many as are worth seeing unless given.
        width: D.
        likeness: Whether tokens lie along a curve, so that near ones are alike; else position
            alone speaks.
        words: What a reader has to know of the inputs.
        given: Inputs that are other than their name says.
    """

    knobs: dict[str, Any] = field(default_factory=dict)
    rows: int = 32
    side: int = 0
    heads: int | None = None
    width: int = 16
    likeness: bool | None = None
    words: str = ""
    given: dict[str, Callable[["Scene"], Tensor]] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """How many tokens stand in a row of the grid."""
        return self.side or math.ceil(math.sqrt(self.rows))

    @property
    def many(self) -> int:
        """How many heads have inputs of their own."""
        return self.heads or 1


def inputs_of(program: AttentionProgram, scene: Scene) -> dict[str, Tensor]:
    """Return the inputs of a program whose names are known here.

    Args:
        program: The program.
        scene: The sizes.

    Returns:
        Tensors by name: features (1, 1, N), pair inputs (1, 1, N, N), tables as they are read.
    """
    found = {}
    for leaf in program.inputs:
        if leaf.name in scene.given:
            found[leaf.name] = scene.given[leaf.name](scene)
        elif isinstance(leaf, n.Feature):
            make = FEATURES.get(leaf.name) or FEATURES.get(leaf.name.rpartition("_")[0])
            if make is not None:
                found[leaf.name] = make(scene)[None, None]
        elif isinstance(leaf, n.PairInput) and leaf.name in PAIRS:
            found[leaf.name] = PAIRS[leaf.name](scene)[None, None]
        elif isinstance(leaf, n.Array) and leaf.name in TABLES:
            found[leaf.name] = TABLES[leaf.name](scene, leaf)
    return found


def scene_of(variant: Variant) -> Scene:
    """Return what a variant is drawn with."""
    return SCENES.get(variant.name, Scene())


def speaks_of_contents(variant: Variant, scene: Scene) -> bool:
    """Tell whether a variant is drawn with tokens along a curve."""
    if scene.likeness is None:
        return variant.family in _OF_CONTENTS
    return scene.likeness


def _random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(_SEED + seed)


# ── Features ──────────────────────────────────────────────────────────────────────────────────
def _places(scene: Scene) -> Tensor:
    return torch.arange(scene.rows)


def _parts(scene: Scene, *shares: float) -> Tensor:
    """Return numbers that grow by one at each share of the rows."""
    starts = torch.tensor([round(share * scene.rows) for share in shares])
    return (_places(scene)[:, None] >= starts).sum(-1)


def _parents(scene: Scene) -> list[int]:
    """Return the parent of each node: a trunk, and three branches from each node after it."""
    trunk = scene.rows // 4
    return [at - 1 if at < trunk else trunk - 1 + (at - trunk) // 3 for at in range(scene.rows)]


def _walk(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return when a walk through the tree enters each node, and the last it enters below it."""
    parents = _parents(scene)
    below = [1] * scene.rows
    for node in range(scene.rows - 1, 0, -1):
        below[parents[node]] += below[node]
    enter, free = [0] * scene.rows, [1] * scene.rows
    for node in range(1, scene.rows):
        parent = parents[node]
        enter[node] = enter[parent] + free[parent]
        free[parent] += below[node]
    entered = torch.tensor(enter)
    return entered, entered + torch.tensor(below) - 1


def _forgotten(scene: Scene) -> Tensor:
    """Return the sum of the logarithms of gates: most keep nearly all, a few forget."""
    kept = -0.03 * torch.ones(scene.rows)
    kept[scene.rows // 3 :: max(scene.rows // 3, 1)] = -2.0
    return kept.cumsum(0)


FEATURES: dict[str, Callable[[Scene], Tensor]] = {
    "row": lambda s: _places(s) // s.columns % s.columns,
    "column": lambda s: _places(s) % s.columns,
    "time": lambda s: _places(s) // s.columns**2,
    "document": lambda s: _parts(s, 0.3, 0.7),
    "sample": lambda s: _parts(s, 0.25, 0.5, 0.75),
    "image_q": lambda s: _parts(s, 0.1, 0.4, 0.75),
    "image_k": lambda s: 1 + _parts(s, 0.33, 0.67),
    "real": lambda s: _places(s) < 0.75 * s.rows,
    "in_prefix": lambda s: _places(s) < 0.3 * s.rows,
    "prefix": lambda s: _places(s) < 0.3 * s.rows,
    "kept": lambda s: (_places(s) >= 0.3 * s.rows) & (_places(s) < 0.5 * s.rows),
    "global": lambda s: _places(s) % max(s.rows // 2, 1) == 0,
    "place": lambda s: _walk(s)[0],
    "first": lambda s: _walk(s)[0],
    "last": lambda s: _walk(s)[1],
    "total": _forgotten,
    "gate": lambda s: torch.where(_places(s) % max(s.rows // 3, 1) == 1, -2.0, 3.0),
    "strength": lambda s: torch.linspace(1.0, 12.0, s.rows),
    "beta": lambda s: torch.full((s.rows,), 0.3),
    "gamma": lambda s: torch.full((s.rows,), 1.0),
}


# ── Pair inputs and tables ────────────────────────────────────────────────────────────────────
def _paths(scene: Scene) -> Tensor:
    """Return the shortest paths of the tree, as whole numbers (N, N)."""
    parents = _parents(scene)
    far = torch.zeros(scene.rows, scene.rows, dtype=torch.int64)
    for node in range(1, scene.rows):
        # All that came before is reached by way of the parent.
        far[node, :node] = far[:node, node] = far[parents[node], :node] + 1
    return far


def _chosen(scene: Scene, table: n.Array) -> Tensor:
    """Return which blocks are read, as truth values; four queries in a row choose alike."""
    sizes = [scene.many if axis == "head" else scene.rows for axis in table.per]
    drawn = torch.rand(*sizes[:-2], -(-sizes[-2] // 4), sizes[-1], generator=_random())
    return (drawn < 0.25).repeat_interleave(4, -2)[..., : sizes[-2], :]


def _sines(scene: Scene, table: n.Array) -> Tensor:
    """Return waves of each distance, (H, N, D): what Transformer-XL's projection may give."""
    waves = torch.arange(scene.rows)[:, None] / 4 ** torch.linspace(0, 3, scene.width // 2)
    both = torch.cat([waves.cos(), waves.sin()], -1)
    return both.expand([scene.many] * ("head" in table.per) + [-1, -1]).contiguous()


def _directions(scene: Scene, table: n.Array) -> Tensor:
    """Return orthogonal directions of the length of normal ones, (D, 4 D), as FAVOR+ draws them."""
    blocks = [torch.randn(scene.width, scene.width, generator=_random(at)) for at in range(4)]
    turned = torch.cat([torch.linalg.qr(block)[0] for block in blocks])
    return (turned * torch.cat(blocks).norm(dim=-1, keepdim=True)).mT.contiguous()


PAIRS: dict[str, Callable[[Scene], Tensor]] = {
    "edge": lambda s: _paths(s) <= 1,
    "distance": _paths,
}
TABLES: dict[str, Callable[[Scene, n.Array], Tensor]] = {
    "chosen": _chosen,
    "distances": _sines,
    "features": _directions,
}


# ── Inputs of one variant ─────────────────────────────────────────────────────────────────────
def _rows(scene: Scene, rows: Tensor) -> Tensor:
    return rows.expand(1, scene.many, -1, -1).contiguous()


def _ones(scene: Scene) -> Tensor:
    return torch.ones(1, scene.many, scene.rows, scene.width)


def _scores(scene: Scene) -> Tensor:
    rows = curve(scene.rows, scene.width)[0, 0]
    return rows @ rows.mT / math.sqrt(scene.width)


def _potential(scene: Scene) -> Tensor:
    """Return what Sinkhorn's iteration has found for keys after five steps, (1, 1, N)."""
    scores, keys = _scores(scene), torch.zeros(scene.rows)
    for _ in range(5):
        queries = (scores - keys).logsumexp(1, keepdim=True)
        keys = (scores - queries).logsumexp(0)
    return keys[None, None]


def _steps(scene: Scene) -> Tensor:
    steps = 0.05 * torch.ones(1, 1, scene.rows)
    steps[..., scene.rows // 3 :: max(scene.rows // 3, 1)] = 1.0
    return steps


def _by_channel(scene: Scene) -> Tensor:
    return _rows(scene, (_forgotten(scene)[:, None] * torch.linspace(0.1, 2, scene.width))[None])


def _mixing(scene: Scene) -> Tensor:
    return torch.eye(scene.many) + 0.5 * torch.randn(scene.many, scene.many, generator=_random())


def _all_heads(scene: Scene) -> Tensor:
    """Return rows of all heads end to end: those of a curve, passed at another speed by each."""
    rows = curve(scene.rows, scene.width)[0, 0]
    each = [rows[_places(scene) * (head + 1) % scene.rows] for head in range(scene.many)]
    return _rows(scene, torch.cat(each, -1)[None])


def _falling(distances: Callable[[Scene], Tensor]) -> dict[str, Callable[[Scene], Tensor]]:
    """Return learned biases that fall with a distance, in each head at another rate."""

    def bias(scene: Scene) -> Tensor:
        rates = 0.8 / 2.0 ** torch.arange(scene.many)
        return -rates[:, None] * distances(scene)

    return {"bias": bias}


def _around(scene: Scene) -> Tensor:
    """Return how long each step between two places of a grid is, (2 · side − 1)²."""
    steps = torch.arange(1 - scene.columns, scene.columns)
    return torch.hypot(*torch.meshgrid(steps.float(), steps.float(), indexing="ij")).flatten()


def _shifted(*steps: int) -> Callable[[Scene], Tensor]:
    """Return rows of a curve with those some steps before them; zeros where there is none."""

    def rows(scene: Scene) -> Tensor:
        padded = torch.nn.functional.pad(curve(scene.rows, scene.width)[0, 0], (0, 0, 2, 2))
        each = [padded[2 - step : 2 - step + scene.rows] for step in steps]
        return _rows(scene, torch.cat(each, -1)[None])

    return rows


_TANH: dict[str, Callable[[Scene], Tensor]] = {
    "query": lambda s: torch.randn(1, s.width, s.width, generator=_random(1)),
    "key": lambda s: torch.randn(1, s.width, s.width, generator=_random(2)),
    "units": lambda s: torch.randn(1, s.width, generator=_random(3)),
}
_HALVES: dict[str, Callable[[Scene], Tensor]] = {
    name: lambda s: torch.full((s.width // 2,), 0.1) for name in ("query1", "key1")
} | {name: lambda s: torch.zeros(s.width // 2) for name in ("query2", "key2")}
_TALK: dict[str, Callable[[Scene], Tensor]] = {
    **dict.fromkeys(("all_q", "all_k"), _all_heads),
    **dict.fromkeys(("before", "after"), _mixing),
}
_TOKENS: dict[str, Callable[[Scene], Tensor]] = {
    "recent_q": _shifted(0, 1),
    "near_k": _shifted(-1, 0, 1),
    "kernel": lambda s: torch.tensor([[[0.2, 1.0, 0.2], [0.2, 0.6, 0.2]]]),
}
_PLACES = dict.fromkeys(("q_position", "k_position"), lambda s: _rows(s, curve(s.rows, s.width)))
_TIMES: dict[str, Callable[[Scene], Tensor]] = {
    "step_k": _steps,
    **dict.fromkeys(("total_q", "total_k"), lambda s: _steps(s).cumsum(-1)),
}


# ── Scenes ────────────────────────────────────────────────────────────────────────────────────
_GRID: dict[str, Any] = {"rows": 36, "words": "6 × 6 patches, row by row"}
_DOCUMENTS = "three documents in one row"
_GATES = "gates of 0.97, and two that forget"
_LEARNED = "biases that fall with the distance, as learned ones often do"
_CHOSEN = "a quarter of the blocks, at random"

SCENES: dict[str, Scene] = {
    "differential": Scene(given=_HALVES),
    "latent": Scene(
        knobs={"width": 16}, words="all channels that are turned hold 1",
        given=dict.fromkeys(("q_rope", "k_rope"), _ones),
    ),
    "gat": Scene(words="the neighbours in a tree"),
    "gatv2": Scene(words="the neighbours in a tree"),
    "concat": Scene(knobs={"width": 16}, given=_TANH),
    "mlp": Scene(knobs={"width": 16}),
    "shaw": Scene(
        knobs={"clip": 6}, likeness=True, words="random rows for distances",
        given={"keys": lambda s: torch.randn(13, s.width, generator=_random())},
    ),
    "t5": Scene(given=_falling(lambda s: torch.arange(32) % 16), words=_LEARNED),
    "t5_causal": Scene(given=_falling(lambda s: torch.arange(32)), words=_LEARNED),
    "transformer_xl": Scene(likeness=True, words="distances as sines and cosines"),
    "deberta": Scene(knobs={"span": 6}, likeness=True),
    "sandwich": Scene(knobs={"width": 16}),
    "cable": Scene(
        given={name: lambda s: -_forgotten(s)[None, None] for name in ("total_q", "total_k")},
        words="increments of 0.03, and two of 2",
    ),
    "tupe": Scene(given=_PLACES, words="places along a curve"),
    "fire": Scene(knobs={"width": 16}),
    "swin_continuous_bias": Scene(**_GRID, knobs={"side": 6, "width": 32}),
 "swin_relative_bias": Scene(
        rows=36, knobs={"side": 6}, given=_falling(_around),
        words="6 × 6 patches, row by row; biases that fall with the distance",
    ),
    "rotary_interpolated": Scene(knobs={"factor": 4}),
    "rotary_ntk": Scene(knobs={"factor": 4}),
    "rotary_axial": Scene(**_GRID),
    "rotary_sections": Scene(
        side=4, knobs={"sections": (2, 3, 3)}, words="two frames of 4 × 4 patches"
    ),
    "learned_relative_bias": Scene(
        knobs={"clip": 8}, given=_falling(lambda s: abs(torch.arange(-8, 9))), words=_LEARNED
    ),
    "graphormer": Scene(
        given=_falling(lambda s: torch.arange(20)),
        words="paths in a tree with a trunk of 8 nodes; biases that fall with the path",
    ),
    "forgetting": Scene(likeness=False, words=_GATES),
    "gated_decay": Scene(likeness=True, words=_GATES),
    "retention": Scene(likeness=True),
    "temperature": Scene(
        given={"temperature": lambda s: torch.tensor(0.4)}, words="a temperature of 0.4"
    ),
    "rotary_partial": Scene(knobs={"turned": 0.5}),
    "steered": Scene(words="seven tokens are to be read", likeness=False),
    "sliding_window": Scene(knobs={"window": 8}),
    "symmetric_window": Scene(knobs={"window": 8}),
    "dilated_window": Scene(knobs={"window": 5, "dilation": 3}),
    "strided": Scene(knobs={"stride": 6}),
    "fixed": Scene(knobs={"stride": 8, "summary": 2}),
    "big_bird": Scene(knobs={"block": 4}),
    "global_window": Scene(knobs={"window": 6}, words="two tokens are global"),
    "axial_row": Scene(**_GRID),
    "axial_column": Scene(**_GRID),
    "prefix_lm": Scene(words="a prefix of 10 tokens"),
    "packed_documents": Scene(words=_DOCUMENTS),
    "packed_causal": Scene(words=_DOCUMENTS),
    "chunked": Scene(knobs={"chunk": 8}),
    "tree": Scene(words="a trunk of 8 tokens, then three drafts for each"),
    "neighbourhood_1d": Scene(knobs={"length": 32, "window": 7}),
    "neighbourhood_2d": Scene(**_GRID, knobs={"side": 6, "window": 3}),
    "neighbourhood_3d": Scene(
        rows=48, side=4, knobs={"times": 3, "side": 4, "window": 3},
        words="three frames of 4 × 4 patches",
    ),
    "sinks_and_window": Scene(knobs={"window": 8, "sinks": 3}),
    "block_diffusion": Scene(knobs={"length": 16, "block": 4}, words="16 noised, then 16 clean"),
    "vision_language": Scene(words="text across, three images before it"),
    "shared_prefix": Scene(words="a prefix, and three samples that go on from it"),
    "padding": Scene(words="24 keys exist"),
    "cross_padding": Scene(words="24 queries and 24 keys exist"),
    "top_k": Scene(knobs={"kept": 6}, likeness=True),
    "block_choice": Scene(knobs={"block": 4}, words=_CHOSEN),
    "selected_blocks": Scene(knobs={"block": 4}, words=_CHOSEN),
    "block_causal": Scene(knobs={"block": 8}),
    "uniform": Scene(likeness=False),
    **dict.fromkeys(
        ("weight_dropout", "drop_key", "drop_head"),
        Scene(words="without a seed, so that nothing is dropped"),
    ),
    "memory": Scene(
        likeness=False, words="no memory rows: they would stand before key 0, seen by every query"
    ),
    "performer": Scene(knobs={"width": 64}, words="orthogonal directions"),
    "contextual_positions": Scene(knobs={"positions": 16}, likeness=True),
    "stick_breaking": Scene(likeness=True),
    "gated_linear": Scene(
        likeness=True, given=dict.fromkeys(("total_q", "total_k"), _by_channel), words=_GATES
    ),
    "mamba": Scene(likeness=True, given=_TIMES, words="steps of 0.05, and two of 1"),
    "talking_heads": Scene(
        heads=2, knobs={"heads": 2, "width": 16}, given=_TALK, words="heads mixed at random"
    ),
    "multi_token": Scene(
        heads=1, knobs={"width": 16, "queries": 2, "keys": 3}, given=_TOKENS,
        words="a kernel of 2 × 3, largest for the pair itself",
    ),
    "slot": Scene(
        likeness=True, given={"over_q": lambda s: _scores(s).logsumexp(0)[None, None]}
    ),
    "sinkhorn": Scene(likeness=True, given={"potential_k": _potential}, words="after five steps"),
    "forget_gate_online": Scene(likeness=False, words="gates that keep, and three that forget"),
}  # fmt: skip

# At 1024 rows: knobs whose published values are meant for longer texts or other grids.
_LARGE_KNOBS: dict[str, dict[str, Any]] = {
    "swin_continuous_bias": {"side": 32, "width": 64},
    "swin_relative_bias": {"side": 32},
    "rotary_sections": {"sections": (8, 12, 12)},
    "sliding_window": {"window": 256},
    "chunked": {"chunk": 256},
    "sinks_and_window": {"window": 252},
    "neighbourhood_2d": {"side": 32},
    "neighbourhood_3d": {"times": 4, "side": 16},
    "block_diffusion": {"length": 512},
    "block_choice": {"block": 128},
    "multi_token": {"queries": 2, "keys": 3},
}
_SIDES = {"rotary_sections": 16, "neighbourhood_3d": 16}


def large_scene(variant: Variant, rows: int = 1024, heads: int = 8, width: int = 64) -> Scene:
    """Return what a variant is measured with.

    Args:
        variant: The variant.
        rows: N and M.
        heads: H.
        width: D.

    Returns:
        The scene; its knobs are the published ones wherever they mean something at this size.
    """
    name = variant.name
    knobs, side = _LARGE_KNOBS.get(name, {}), _SIDES.get(name, 0)
    scene = Scene(knobs=knobs, rows=rows, side=side, heads=heads, width=width)
    return replace(scene, given=_given_data(variant(**knobs), scene_of(variant).given))


def _given_data(
    program: AttentionProgram, given: dict[str, Callable[[Scene], Tensor]]
) -> dict[str, Callable[[Scene], Tensor]]:
    """Return what is given of features, rows and tables; parameters start as in training."""
    learned = {leaf.name for leaf in program.parameters}
    return {name: make for name, make in given.items() if name not in learned}
