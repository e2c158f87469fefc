"""What a picture of a program shows, as numbers: who sees whom, the bias, the weights.

Each is the dense weights of a small program made from the given one, so any backend finds them.
Leaves to others: imagined inputs (`imagine`), drawing (`picture`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from regard.errors import InputError, nearest
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ir.verify import verify
from regard.ops.attend import attend
from regard.view.imagine import Scene, imagine_contents, imagine_inputs

_V = n.Vector("key", "v")
# Differences below this share of the largest value are rounding, not structure.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Part:
    """One picture of pairs, or one per head.

    Attributes:
        kind: "mask", "bias" or "weights".
        term: The name of the weights it belongs to; "" if it belongs to the whole program.
        values: (1 or H, N, M); of a mask 1 where a pair is seen.
        hidden: bool, the same shape: pairs the program never looks at.
    """

    kind: str
    term: str
    values: np.ndarray
    hidden: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """The values of the pairs that are not hidden, in one row."""
        return self.values[~self.hidden]


@dataclass(frozen=True, eq=False)
class Parts:
    """All pictures of a program.

    Attributes:
        contents: What q and k hold: "none" (zeros, so position alone speaks), "beside" (zeros, and
            the user gives other rows or numbers of pairs), "alike" (every token the same),
            "random", or "given" by the user.
        parts: In the order of drawing.
        notes: What had to be imagined, in words.
    """

    contents: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...]

    def of(self, kind: str) -> list[Part]:
        """Return the parts of one kind."""
        return [part for part in self.parts if part.kind == kind]


def find_parts(
    program: AttentionProgram,
    queries: int,
    keys: int,
    heads: int,
    width: int,
    given: dict[str, Any],
) -> Parts:
    """Compute what a picture shows, with the contents that show most.

    Args:
        program: The program.
        queries: N.
        keys: M.
        heads: H.
        width: D.
        given: The user's inputs by name.

    Returns:
        The parts. What says nothing is left out: a mask that hides nothing, a constant bias.

    Raises:
        InputError: If a given input is unknown or does not fit.
    """
    known = [leaf.name for leaf in program.inputs]
    for name in given:
        if name not in known:
            raise InputError(f"{program.name} reads no '{name}'; {nearest(name, known)}")
    scene = Scene(heads, queries, keys, width, given)
    if "q" in given or "k" in given:
        return _drawable(_Measure(program.root, scene, "given").parts())
    if _chooses_by_content(program.root):
        return _drawable(_Measure(program.root, scene, "random").parts())
    found = {}
    for contents in ("none", "alike"):
        found[contents] = parts = _Measure(program.root, scene, contents).parts()
        if _is_finite(parts) and _varies_within_rows(*parts.of("weights")):
            return _told_apart(parts, program, given)
    if found["none"].of("mask") and _is_finite(found["none"]):
        return _told_apart(found["none"], program, given)
    return _drawable(_Measure(program.root, scene, "random").parts())


def _told_apart(parts: Parts, program: AttentionProgram, given: dict[str, Any]) -> Parts:
    """Say that more than position speaks, if rows or numbers of pairs are given."""
    rows = [leaf for leaf in program.inputs if not isinstance(leaf, n.Array | n.Scalar)]
    if parts.contents == "none" and any(leaf.name in given for leaf in rows):
        return replace(parts, contents="beside")
    return parts


def _drawable(parts: Parts) -> Parts:
    """Hide weights that are no finite number, and say so."""
    if _is_finite(parts):
        return parts
    (weights,) = parts.of("weights")
    lost = ~np.isfinite(weights.values)
    share = f"{lost.mean():.0%} of the weights are no finite numbers"
    shown = Part("weights", "", np.where(lost, 0.0, weights.values), weights.hidden | lost)
    return Parts(parts.contents, (*parts.parts[:-1], shown), (*parts.notes, share))


def _chooses_by_content(root: n.Output) -> bool:
    """Tell whether what is seen depends on q and k, which equal contents would not show."""
    wheres = [x.where for x in n.walk(root.weights) if isinstance(x, n.Term | n.TopK | n.Running)]
    return any(isinstance(x, n.Vector | n.TopK) for where in wheres for x in n.walk(where))


class _Measure:
    """Computes the parts of a program for one choice of contents."""

    def __init__(self, root: n.Output, scene: Scene, contents: str) -> None:
        self.scene, self.contents = scene, contents
        self.weights = root.weights
        self.found: dict[n.Node, np.ndarray] = {}
        self.terms = [x for x in n.walk(root.weights) if isinstance(x, n.Term)]
        whole = _ending(root.weights)
        self.tensors = imagine_contents(contents, whole, scene)
        imagined, self.notes = imagine_inputs(whole, scene)
        self.tensors |= imagined

    def parts(self) -> Parts:
        """Return all parts that say something."""
        seen = {term: self._seen(term) for term in self.terms}
        hidden = ~np.logical_or.reduce(list(seen.values()))
        parts = self._masks(seen) + self._biases(seen)
        parts.append(_part("weights", "", self._pairs(self.weights), hidden))
        return Parts(self.contents, tuple(parts), tuple(self.notes))

    def _masks(self, seen: dict[n.Term, np.ndarray]) -> list[Part]:
        found: dict[bytes, Part] = {}
        for term, visible in seen.items():
            if not visible.all():
                part = _part("mask", term.name, visible.astype(float), ~visible)
                found.setdefault(visible.tobytes(), part)
        if len(found) == 1 and all(not visible.all() for visible in seen.values()):
            return [_renamed(part, "") for part in found.values()]
        return list(found.values())

    def _biases(self, seen: dict[n.Term, np.ndarray]) -> list[Part]:
        if self.contents in ("random", "given"):
            return []
        found = []
        for term in self.terms:
            if isinstance(term, n.Softmax | n.Entmax):
                score = self._pairs(verify(n.Weigh(term.score, term.where, term.name)))
                part = _part("bias", term.name, score, ~seen[term])
                found += [part] if _varies(part.seen) else []
        return [_renamed(part, "") for part in found] if len(self.terms) == 1 else found

    def _seen(self, term: n.Term) -> np.ndarray:
        """Return bool (H, N, M): admitted by `where`, and not by a score of minus infinity."""
        seen = self._pairs(verify(n.Weigh(n.Const(1.0), term.where, term.name))) > 0
        if isinstance(term, n.Softmax | n.Entmax):
            score = self._pairs(verify(n.Weigh(term.score, term.where, term.name)))
            seen &= score != -np.inf
        return seen

    def _pairs(self, weights: n.Node) -> np.ndarray:
        """Return the dense weights of an expression of weights, (H, N, M), computed once."""
        if weights in self.found:
            return self.found[weights]
        program = AttentionProgram(_ending(weights), "picture")
        reads = {leaf.name for leaf in program.inputs} - {"q", "k", "v"}
        named = {name: self.scene.given.get(name, self.tensors.get(name)) for name in reads}
        q, k, v = (self.scene.given.get(name, self.tensors[name]) for name in "qkv")
        with torch.no_grad():
            _, seen = attend(program, q, k, v, observe=["weights"], **named)
        self.found[weights] = seen["weights"][0].numpy()
        return self.found[weights]


def _ending(weights: n.Node) -> n.Output:
    root = verify(n.Output(weights, _V, None))
    assert isinstance(root, n.Output)
    return root


def _part(kind: str, term: str, values: np.ndarray, hidden: np.ndarray) -> Part:
    """Return a part, with one head for all where they are alike."""
    values = np.where(hidden, 0.0, values)
    alike = (values == values[:1]).all() and (hidden == hidden[:1]).all()
    return Part(kind, term, values[:1], hidden[:1]) if alike else Part(kind, term, values, hidden)


def _renamed(part: Part, term: str) -> Part:
    return Part(part.kind, term, part.values, part.hidden)


def _varies(values: np.ndarray) -> bool:
    if values.size == 0 or not np.isfinite(values).all():
        return False
    return float(np.ptp(values)) > ROUNDING * float(np.abs(values).max())


def _is_finite(parts: Parts) -> bool:
    (weights,) = parts.of("weights")
    return bool(np.isfinite(weights.seen).all())


def _varies_within_rows(part: Part) -> bool:
    high = np.where(part.hidden, -np.inf, part.values).max(-1)
    low = np.where(part.hidden, np.inf, part.values).min(-1)
    some = np.isfinite(high)
    return bool(some.any()) and float((high - low)[some].max()) > ROUNDING * float(high[some].max())
