"""Programs taken apart into typed parts, and a store of the parts of all that are known.

Before: softmax(dot(q, k) / sqrt(width) - slope · |i - j|, where = j <= i).
After: content dot(q, k) / sqrt(width); bias -slope · |i - j|; mask j <= i; normaliser softmax.
Parts of one kind can stand in each other's place: they vary over the same axes and give the same
kind of value. Leaves to others: exchanging them (`change`, `splice`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from regard.catalogue import VARIANTS
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ir.types import axes_of, type_of
from regard.modes.collection import READY
from regard.passes.build import call
from regard.search.admit import find_faults, mend
from regard.search.space import Space

_Q, _K = n.Vector("query", "q"), n.Vector("key", "k")
DOT = n.Reduce(n.Call("mul", (_Q, _K)), "c")
# The score that other parts are written around: what stands in its place is their content.
SCORE = call("div", DOT, n.Call("sqrt", (n.Index("width"),)))
# Each key by itself, as it counts: a row sums to how many keys agree, which no average tells.
_COUNTING = n.Weigh(call("sigmoid", SCORE), None, "a")


def terms_of(root: n.Output) -> list[n.Term]:
    """Return the terms that a program's weights are made of."""
    return [node for node in n.walk(root.weights) if isinstance(node, n.Term)]


def contents_of(node: n.Node) -> list[n.Node]:
    """Return the parts of an expression that say how well the rows of a pair agree.

    Args:
        node: An expression of pairs.

    Returns:
        `SCORE` if it is there; otherwise the largest sums over channels of both rows, with
        their scales.
    """
    order = n.walk(node)
    if SCORE in order:
        return [SCORE]
    of_both = {part for part in order if _reads_both(part)}
    found, stack = [], [node]
    while stack:
        part = stack.pop()
        if part in of_both and _is_content(part, of_both) and part not in found:
            found.append(part)
        else:
            stack.extend(n.children(part))
    return found


def _reads_both(node: n.Node) -> bool:
    sides = {part.side for part in n.walk(node) if isinstance(part, n.Vector)}
    return len(sides) == 2


def _is_content(node: n.Node, of_both: set[n.Node]) -> bool:
    if axes_of(node) not in ("bhij", "hij", "bij", "ij"):
        return False
    if isinstance(node, n.Reduce):
        return True
    if not isinstance(node, n.Call) or node.op not in ("mul", "div", "neg"):
        return False
    inner = [arg for arg in node.args if arg in of_both]
    if len(inner) != 1 or (node.op == "div" and inner[0] is node.args[1]):
        return False
    return _is_content(inner[0], of_both)


def summands_of(score: n.Node) -> list[n.Node]:
    """Return what a score adds up; what it takes away comes negated."""
    if isinstance(score, n.Call) and score.op == "add":
        return [*summands_of(score.args[0]), *summands_of(score.args[1])]
    if isinstance(score, n.Call) and score.op == "sub":
        taken = summands_of(score.args[1])
        return [*summands_of(score.args[0]), *(call("neg", one) for one in taken)]
    return [score]


def is_bias(node: n.Node) -> bool:
    """Tell whether a summand of a score speaks of places and not of what rows hold."""
    reads_rows = any(isinstance(part, n.Vector | n.Visible) for part in n.walk(node))
    return not reads_rows and not isinstance(node, n.Const)


def total(summands: Iterable[n.Node]) -> n.Node:
    """Return a sum of expressions; what is negated is taken away."""
    first, *rest = summands
    for one in rest:
        if isinstance(one, n.Call) and one.op == "neg":
            first = call("sub", first, one.args[0])
        else:
            first = call("add", first, one)
    return first


@dataclass(frozen=True)
class Parts:
    """Parts of programs, by kind; equal ones once, in the order in which they were met.

    Attributes:
        contents: How well the rows of a pair agree, a number of a pair.
        scores: Whole scores around `SCORE`.
        biases: What places add to a score.
        masks: Conditions of pairs.
        normalisers: Terms around `SCORE`, without a mask.
        sinks: Logits of a key that is not there.
        values: What is summed, rows of pairs or keys.
        finishes: What becomes of the summed row.
        programs: The programs that they are taken from.
    """

    contents: list[n.Node] = field(default_factory=list)
    scores: list[n.Node] = field(default_factory=list)
    biases: list[n.Node] = field(default_factory=list)
    masks: list[n.Node] = field(default_factory=list)
    normalisers: list[n.Term] = field(default_factory=list)
    sinks: list[n.Node] = field(default_factory=list)
    values: list[n.Node] = field(default_factory=list)
    finishes: list[n.Node] = field(default_factory=list)
    programs: list[AttentionProgram] = field(default_factory=list)

    def add(self, program: AttentionProgram) -> None:
        """Take a program apart and keep its parts.

        Args:
            program: The program.
        """
        if any(program == other for other in self.programs):
            return
        self.programs.append(program)
        for kind, node in _parts(program.root):
            kept = getattr(self, kind)
            if node not in kept:
                kept.append(node)


def _parts(root: n.Output) -> Iterator[tuple[str, n.Node]]:
    for term in terms_of(root):
        yield from _parts_of_term(term)
    if root.values is not n.Vector("key", "v"):
        yield "values", root.values
    if root.finish is not None:
        yield "finishes", root.finish


def _parts_of_term(term: n.Term) -> Iterator[tuple[str, n.Node]]:
    if term.where is not None:
        yield "masks", term.where
    if isinstance(term, n.Softmax) and term.sink is not None:
        yield "sinks", term.sink
    score = term.score if isinstance(term, n.Softmax | n.Entmax) else None
    summands = [] if score is None else summands_of(score)
    biases = [one for one in summands if is_bias(one)]
    yield from (("biases", one) for one in biases)
    around = term if score is None else total(one for one in summands if one not in biases)
    contents = contents_of(around)
    yield from (("contents", one) for one in contents)
    if score is not None and SCORE in contents and score is not SCORE:
        yield "scores", score
    if SCORE in contents and type_of(term).weights:
        # Of a softmax or an entmax the score is a part of its own.
        plain = replace(term, where=None)
        yield "normalisers", plain if score is None else replace(plain, score=SCORE)


def known_parts(role: str, space: Space) -> Parts:
    """Return the parts of all ready modes and of the catalogue that a place admits.

    Args:
        role: A role of the space.
        space: What is searched.

    Returns:
        The parts, from programs that are admitted as they are or with a narrower mask.
    """
    found = Parts(normalisers=[_COUNTING])
    ready = (program for mode in READY.values() for program in mode.programs.values())
    for program in (*ready, *(variant.program for variant in VARIANTS.values())):
        mended = mend(program.root, role, space)
        if not find_faults(mended, role, space):
            found.add(AttentionProgram(mended, program.name, program.doc))
    return found
