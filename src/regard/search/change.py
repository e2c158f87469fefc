"""Typed changes of one program: each exchanges, adds, drops or turns a part of one kind.

Before: softmax(score, where = |i - j| <= 64).
After, for example: entmax(score, 1.5, where = |i - j| <= 64), or the same with 128 in place of 64.
A change gives a graph, or None where the program has nothing to change; whether a place admits the
graph is asked afterwards. Leaves to others: parts (`parts`), admission (`admit`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from regard.ir import nodes as n
from regard.ir.types import axes_of, type_of
from regard.passes.build import both, call, either, substitute
from regard.search.parts import SCORE, Parts, contents_of, is_bias, summands_of, terms_of, total
from regard.search.rename import rename_apart

# The least and the largest that a number may become, and which are no knobs: shifts that keep an
# argument positive, and what says nothing but yes, no or a sign.
_SMALLEST, _LARGEST = 1e-3, 2.0**13
_HEAD, _HEADS = n.Index("head"), n.Index("heads")
_I, _J = n.Index("i"), n.Index("j")


@dataclass(frozen=True)
class Tools:
    """What changes are made with.

    Attributes:
        random: Every choice is drawn from it.
        parts: What may stand in place of a part.
        length: About how many tokens an input has.
    """

    random: Random
    parts: Parts
    length: int


Change = Callable[[n.Output, Tools], n.Output | None]


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────
def turn_number(root: n.Output, tools: Tools) -> n.Output | None:
    """Change a number that stands in the program, or one that a parameter starts from."""
    knobs = [node for node in n.walk(root) if _is_knob(node)]
    if not knobs:
        return None
    knob = tools.random.choice(knobs)
    if isinstance(knob, n.Const):
        return _program(substitute(root, {knob: n.Const(_turned(knob.value, tools))}))
    assert isinstance(knob, n.Array) and knob.init is not None
    numbers = [_turned(number, tools) for number in knob.init.numbers]
    return _program(substitute(root, {knob: replace(knob, init=_init(knob.init, numbers))}))


def _is_knob(node: n.Node) -> bool:
    if isinstance(node, n.Array):
        named = node.source == "parameter" and node.init is not None
        return named and node.init is not None and node.init.name in ("constant", "normal")
    if not isinstance(node, n.Const) or isinstance(node.value, bool):
        return False
    return abs(node.value) >= _SMALLEST and abs(node.value) != 1


def _init(init: n.Init, numbers: list[float]) -> n.Init:
    return n.Init(init.name, tuple(float(number) for number in numbers))


def _turned(value: float, tools: Tools) -> float:
    draw = tools.random
    if isinstance(value, int):
        far = round(2 ** draw.uniform(0, math.log2(max(2, tools.length))))
        made = draw.choice([value * 2, value // 2, value + 1, value - 1, math.copysign(far, value)])
        return int(min(max(made, -_LARGEST), _LARGEST))
    made = value * 2 ** draw.uniform(-1, 1)
    return math.copysign(float(f"{min(max(abs(made), _SMALLEST), _LARGEST):.3g}"), value)


# ── Scores ───────────────────────────────────────────────────────────────────────────────────
def exchange_content(root: n.Output, tools: Tools) -> n.Output | None:
    """Let rows agree in another way: by another product, distance, norm or rotation."""
    contents = [part for term in terms_of(root) for part in contents_of(term)]
    if not contents or not tools.parts.contents:
        return None
    return _put(root, tools.random.choice(contents), tools.random.choice(tools.parts.contents))


def exchange_score(root: n.Output, tools: Tools) -> n.Output | None:
    """Do to the scores what another program does to its own: cap, scale or bias them."""
    term = _scored(root, tools)
    if term is None or not tools.parts.scores:
        return None
    contents = contents_of(term.score)
    inner = tools.random.choice(contents) if contents else term.score
    made = substitute(tools.random.choice(tools.parts.scores), {SCORE: inner})
    return _put(root, term, replace(term, score=made))


def add_bias(root: n.Output, tools: Tools) -> n.Output | None:
    """Add to the scores what places add in another program."""
    term = _scored(root, tools)
    if term is None or not tools.parts.biases:
        return None
    bias = tools.random.choice(tools.parts.biases)
    return _put(root, term, replace(term, score=total([term.score, bias])))


def drop_bias(root: n.Output, tools: Tools) -> n.Output | None:
    """Leave out something that places add to the scores."""
    term = _scored(root, tools)
    summands = [] if term is None else summands_of(term.score)
    biases = [one for one in summands if is_bias(one)]
    if term is None or not biases or len(summands) == 1:
        return None
    dropped = tools.random.choice(biases)
    rest = [one for one in summands if one is not dropped]
    return _put(root, term, replace(term, score=total(rest)))


def _scored(root: n.Output, tools: Tools) -> n.Softmax | n.Entmax | None:
    terms = [term for term in terms_of(root) if isinstance(term, n.Softmax | n.Entmax)]
    return tools.random.choice(terms) if terms else None


# ── Masks ────────────────────────────────────────────────────────────────────────────────────
def exchange_mask(root: n.Output, tools: Tools) -> n.Output | None:
    """See the pairs that another program sees."""
    return _masked(root, tools, lambda old, new: new)


def narrow_mask(root: n.Output, tools: Tools) -> n.Output | None:
    """See only the pairs that another program sees too."""
    return _masked(root, tools, both)


def widen_mask(root: n.Output, tools: Tools) -> n.Output | None:
    """See the pairs that another program sees as well."""
    return _masked(root, tools, either)


def drop_mask(root: n.Output, tools: Tools) -> n.Output | None:
    """See everything that may be seen at all."""
    if all(term.where is None for term in terms_of(root)):
        return None
    return _with_masks(root, lambda old: None)


def part_heads(root: n.Output, tools: Tools) -> n.Output | None:
    """Let the first heads see what they saw, and the others what another program sees."""
    first = call("lt", call("mul", _HEAD, 2), _HEADS)

    def join(old: n.Node | None, new: n.Node) -> n.Node:
        own = first if old is None else call("and", first, old)
        return call("or", own, call("and", call("not", first), new))

    return _masked(root, tools, join)


def spread_range(root: n.Output, tools: Tools) -> n.Output | None:
    """Let a distance that a mask compares with double from each head to the next."""
    limits = [
        node
        for term in terms_of(root)
        if term.where is not None
        for node in n.walk(term.where)
        if isinstance(node, n.Call) and node.op in ("le", "lt") and _is_range(node)
    ]
    if not limits:
        return None
    limit = tools.random.choice(limits)
    start = n.Const(tools.random.choice([1, 2, 4, 8]))
    growing = call("mul", start, call("pow", 2.0, _HEAD))
    return _program(substitute(root, {limit: call(limit.op, limit.args[0], growing)}))


def _is_range(node: n.Call) -> bool:
    step, limit = node.args
    whole = isinstance(limit, n.Const) and type(limit.value) is int and limit.value > 0
    return whole and {_I, _J} <= set(n.walk(step))


def _masked(
    root: n.Output, tools: Tools, join: Callable[[n.Node | None, n.Node], n.Node | None]
) -> n.Output | None:
    if not tools.parts.masks:
        return None
    new = tools.random.choice(tools.parts.masks)
    return _with_masks(root, lambda old: join(old, new))


def _with_masks(root: n.Output, make: Callable[[n.Node | None], n.Node | None]) -> n.Output:
    """Return the program with the masks of all terms changed alike."""
    new: dict[n.Node, n.Node] = {
        term: replace(term, where=make(term.where)) for term in terms_of(root)
    }
    return _program(replace(root, weights=substitute(root.weights, new)))


# ── Normalisers, and what is done with weights ───────────────────────────────────────────────
def exchange_normaliser(root: n.Output, tools: Tools) -> n.Output | None:
    """Make weights of the same scores and the same mask by another normaliser."""
    term = _scored(root, tools)
    if term is None or not tools.parts.normalisers:
        return None
    other = tools.random.choice(tools.parts.normalisers)
    made = substitute(other, {SCORE: term.score})
    assert isinstance(made, n.Term)
    return _put(root, term, replace(made, where=term.where, name=term.name))


def toggle_sink(root: n.Output, tools: Tools) -> n.Output | None:
    """Let rows give their mass to a key that is not there, or no longer."""
    terms = [term for term in terms_of(root) if isinstance(term, n.Softmax)]
    if not terms or not tools.parts.sinks:
        return None
    term = tools.random.choice(terms)
    sink = tools.random.choice(tools.parts.sinks) if term.sink is None else None
    return _put(root, term, replace(term, sink=sink))


def exchange_values(root: n.Output, tools: Tools) -> n.Output | None:
    """Sum what another program sums, or end as another program does."""
    made: list[n.Output] = [replace(root, values=one) for one in tools.parts.values]
    made += [replace(root, finish=one) for one in tools.parts.finishes]
    made += [replace(root, values=n.Vector("key", "v"), finish=None)]
    made = [one for one in made if one is not root]
    return rename_apart(tools.random.choice(made)) if made else None


def mix_weights(root: n.Output, tools: Tools) -> n.Output | None:
    """Mix the weights with those of another program, in shares that each head learns."""
    other = tools.random.choice(tools.parts.programs).root
    if other.weights is root.weights:
        return None
    return mix(root, other)


def mix(root: n.Output, other: n.Output) -> n.Output:
    """Return a program whose heads learn how much of the weights of each of two they use.

    Args:
        root: The program that values and the end are of, too.
        other: The other program.

    Returns:
        The graph.
    """
    apart = rename_apart(other, beside=root)
    share = call("sigmoid", n.Array("parameter", "mixing", ("head",), n.Init("zeros")))
    first = call("mul", share, root.weights)
    second = call("mul", call("sub", 1, share), apart.weights)
    return rename_apart(replace(root, weights=call("add", first, second)))


CHANGES: tuple[Change, ...] = (
    turn_number, exchange_content, exchange_score, add_bias, drop_bias, exchange_mask, narrow_mask,
    widen_mask, drop_mask, part_heads, spread_range, exchange_normaliser, toggle_sink,
    exchange_values, mix_weights,
)  # fmt: skip
"""All changes; each is called by its function's name in the history of a program."""


def _put(root: n.Output, old: n.Node, new: n.Node) -> n.Output:
    """Return the program with a part of its weights exchanged, and names kept apart."""
    same = type_of(old).weights == type_of(new).weights and set(axes_of(new)) <= set("bhij")
    weights = substitute(root.weights, {old: new}) if same else root.weights
    return rename_apart(replace(root, weights=weights))


def _program(node: n.Node) -> n.Output:
    assert isinstance(node, n.Output)
    return node
