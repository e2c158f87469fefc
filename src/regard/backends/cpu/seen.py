"""When a term sees a pair: the condition, and its C++ in masked and in full tiles.

Leaves to others: which tiles are masked (`values/blocks`), what is done with the pairs (`rowsweep`,
`keysweep`).
"""

import math
from dataclasses import dataclass

from regard.backends.cpu.emit import Lines, all_of
from regard.ir import nodes as n
from regard.passes.lower import LoweredTerm
from regard.passes.split_pairs import Split

# Lowest of exponents: that of a pair which is not seen. Every `Program` declares it.
HIDDEN = "splat(HIDDEN)"
HIDDEN_DECLARATION = "static constexpr real HIDDEN = -real(__builtin_inf());"


@dataclass(frozen=True)
class Seen:
    """When a term sees a pair: its `where`, and a score above -inf; None always holds."""

    where: n.Node | None
    score: n.Node | None = None


def split_seen(term: LoweredTerm, split: Split) -> Seen:
    """Return when a term sees a pair.

    Args:
        term: The term.
        split: What its condition and score are split into.

    Returns:
        The condition, in split form.
    """
    where = None if term.where is None else split.pair(term.where)
    return Seen(where, None if term.score is None else split.pair(term.score))


def seen_text(seen: Seen, lines: Lines, masked: bool) -> str:
    """Return the C++ of the condition under which a term sees a pair.

    Args:
        seen: The condition.
        lines: Where what it reads is computed.
        masked: Whether rows, keys and `where` are tested; in full tiles all are known to hold.

    Returns:
        A truth value.
    """
    parts = []
    if masked:
        parts.append("inside(t, j)")
        if seen.where is not None:
            parts.append(lines.condition(seen.where))
    if seen.score is not None and may_be_hidden(seen.score):
        parts.append(f"({lines.real(seen.score)} != {HIDDEN})")
    return all_of(parts)


def may_be_hidden(score: n.Node) -> bool:
    """Tell whether a score may be -inf other than by overflow: it reads data or writes infinity.

    Args:
        score: The score, in split form.

    Returns:
        Whether it may.
    """
    for node in n.walk(score):
        match node:
            case n.Hole() if node.kind != "int" and node.name.startswith("in:"):
                return True
            case n.Gather():
                return True
            case n.Const() if math.isinf(node.value):
                return True
            case n.Call(op="div") if isinstance(node.args[1], n.Const):
                continue
            case n.Call(op="log" | "div" | "pow" | "exp"):
                return True
    return False
