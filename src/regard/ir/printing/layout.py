"""Which parts of a program get a name in its formula, and in which order they are defined.

Every part of a term has a role (score, seen, …); small parts stay where they are used, shared and
long ones are named, so a formula is never longer than its graph by more than a constant factor
and no expression is deep. Leaves to others: writing the lines (`writer`).
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from regard.ir import nodes as n
from regard.ir.types import axes_of

# Measured in nodes, a named part counting one: q·k / √D is 7.
SMALL = 7
LONG = 40
# The letters and words that formulas use for themselves.
LETTERS = frozenset("ijhbcDHMN")
RESERVED = LETTERS | {"row", "out", "visible"}
# What the language calls terms that the user did not name.
_UNNAMED = re.compile(r"[a-z]|term\d+")
_ROLES: dict[type[n.Node], dict[str, str]] = {
    n.Softmax: {"score": "score", "where": "seen", "sink": "sink"},
    n.Weigh: {"weight": "weight", "where": "seen"},
    n.Ratio: {"num": "num", "den": "den", "where": "seen", "add": "add", "at_least": "at_least"},
    n.Entmax: {"score": "score", "where": "seen", "alpha": "alpha"},
}
_INPUTS = (n.Vector, n.Feature, n.Array, n.Scalar, n.PairInput)


@dataclass(frozen=True)
class Label:
    """The name of a part.

    Attributes:
        base: Its word.
        axes: The axes shown with it, of i and j; "h" alone if it varies over heads and neither.
    """

    base: str
    axes: str = ""


@dataclass
class Layout:
    """What a formula defines.

    Attributes:
        names: The parts with a name.
        lines: What is defined, in order; an Output stands for its weighted sum. The last line is
            the result.
        several_draws: Whether random draws look alike, so that their numbers must be shown.
        open_maps: Whether "the mapped weights" mean more than one thing.
    """

    names: dict[n.Node, Label] = field(default_factory=dict)
    lines: list[tuple[Label, n.Node]] = field(default_factory=list)
    several_draws: bool = False
    open_maps: bool = False


def label_axes(node: n.Node) -> str:
    """Return the axes shown with the name of a node."""
    axes = axes_of(node)
    shown = "".join(axis for axis in axes if axis in "ij")
    return shown or ("h" if "h" in axes else "")


def lay_out(root: n.Output) -> Layout:
    """Choose the named parts of a program.

    Args:
        root: The program.

    Returns:
        The layout; its last line is the output.
    """
    planner = _Planner(root)
    planner.name_terms(root)
    planner.name_by_size()
    layout = planner.finished()
    out = Label("out", "i")
    if root.finish is None:
        layout.lines.append((out, root))
        return layout
    summed = set(n.walk(root.weights, root.values))
    before = [line for line in layout.lines if line[1] in summed]
    after = [line for line in layout.lines if line[1] not in summed]
    layout.lines = [*before, (Label("row"), root), *after, (out, root.finish)]
    return layout


def lay_out_expression(node: n.Node) -> Layout:
    """Choose the named parts of any expression: those that are shared, and pieces of long ones.

    Args:
        node: The expression.

    Returns:
        The layout; its last line is the expression.
    """
    if isinstance(node, n.Output):
        return lay_out(node)
    planner = _Planner(node)
    planner.name_by_size()
    layout = planner.finished()
    layout.lines.append((Label(""), node))
    return layout


class _Planner:
    """Collects names for the parts of one graph."""

    def __init__(self, root: n.Node) -> None:
        self.order = n.walk(root)
        self.uses = Counter(child for node in self.order for child in _written_children(node))
        self.roles: dict[n.Node, str] = {}
        # A part without a word of its own has None and is numbered at the end.
        self.words: dict[n.Node, str | None] = {}
        self.mapped = {node.weights for node in self.order if isinstance(node, n.Map)}
        if len(self.mapped) == 1:
            self.words.update(dict.fromkeys(self.mapped, "p"))

    def name_terms(self, root: n.Output) -> None:
        """Note what each part of each term is called, and name the terms that need it."""
        terms = [node for node in self.order if isinstance(node, n.Term)]
        parts: dict[str, dict[n.Node, int]] = {}
        for number, term in enumerate(terms, 1):
            for attribute, role in _ROLES[type(term)].items():
                part = getattr(term, attribute)
                # A weight that is seen everywhere is the whole term: one name is enough.
                if part is not None and (role != "weight" or term.where is not None):
                    parts.setdefault(role, {}).setdefault(part, number)
        for role, numbered in parts.items():
            for part, number in numbered.items():
                self.roles.setdefault(part, role if len(numbered) == 1 else f"{role}{number}")
        self.roles.setdefault(root.values, "value")
        for number, term in enumerate(terms, 1):
            if not _UNNAMED.fullmatch(term.name):
                self.words[term] = term.name
            elif len(terms) > 1:
                self.words.setdefault(term, f"w{number}")
        self.words.setdefault(root.weights, "w")

    def name_by_size(self) -> None:
        """Name what is shared, and what fills a line of its own."""
        size: dict[n.Node, int] = {}
        for node in self.order:
            inline = [child for child in n.children(node) if child not in self.words]
            inline.sort(key=lambda child: -size[child])
            while sum(size[child] for child in inline) >= LONG and size[inline[0]] > SMALL:
                if isinstance(node, n.Output):
                    break
                self.words[inline[0]] = self.roles.get(inline[0])
                inline = [child for child in inline if child not in self.words]
            size[node] = 1 + sum(size[child] for child in inline)
            if _is_worth_a_name(size[node], self.uses[node], node in self.roles):
                self.words.setdefault(node, self.roles.get(node))

    def finished(self) -> Layout:
        """Return the layout with every name chosen, each different from all inputs."""
        taken = set(RESERVED) | {node.name for node in self.order if isinstance(node, _INPUTS)}
        free = (f"t{number}" for number in itertools.count(1) if f"t{number}" not in taken)
        layout = Layout()
        for node in self.order:
            if node in self.words:
                word = self.words[node] or next(free)
                label = Label(_unlike(taken, word), label_axes(node))
                layout.names[node] = label
                layout.lines.append((label, node))
        draws = [node for node in self.order if isinstance(node, n.Keep | n.Dropout)]
        alike = {(type(node), node.p, getattr(node, "axes", "")) for node in draws}
        layout.several_draws = len(alike) < len(draws)
        layout.open_maps = len(self.mapped) > 1
        if layout.open_maps:
            layout.names[n.MAPPED] = Label(_unlike(taken, "x"))
        elif self.mapped:
            layout.names[n.MAPPED] = layout.names[self.mapped.pop()]
        return layout


def _is_worth_a_name(size: int, uses: int, has_role: bool) -> bool:
    if has_role and size > SMALL:
        return True
    # Also bounds what is repeated: all but one of the copies together are at most SMALL.
    return size > SMALL // 2 + 1 and (size - 1) * (uses - 1) >= SMALL


def _unlike(taken: set[str], word: str) -> str:
    while word in taken:
        word += "′"
    taken.add(word)
    return word


def _written_children(node: n.Node) -> Iterator[n.Node]:
    """Yield each child as often as the formula repeats it; u · u is written u²."""
    found = list(n.children(node))
    same = isinstance(node, n.Call) and node.op == "mul" and found[0] is found[-1]
    yield from found[:1] if same else found
