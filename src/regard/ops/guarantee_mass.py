"""guarantee_mass(): a program whose chosen keys have a share of the mass, and why they have.

Leaves to others: the bias and its proof (`passes/steer_mass`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from regard.errors import InputError, ProgramError, no_program
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ir.types import type_of
from regard.ir.verify import verify
from regard.lang import tracer
from regard.lang.pair import Pair
from regard.lang.trace import Expr
from regard.passes.steer_mass import Steering, steer_mass


@dataclass(frozen=True)
class Guarantee:
    """A steered program and the proof of its guarantee; it prints well.

    Attributes:
        program: The program in which the chosen keys have their share.
        eps: How much mass all other keys, and a sink, have at most.
        keys: The chosen keys in words.
        steering: The numbers of the proof.
    """

    program: AttentionProgram
    eps: float
    keys: str
    steering: Steering

    @property
    def assumes(self) -> tuple[str, ...]:
        """What the guarantee takes for granted, in words."""
        found = ["no score is NaN", "the mass is that before any dropout added later"]
        if self.steering.promised:
            found.append(f"every row sees at least {self.steering.seen} of the keys, as promised")
        else:
            found.append("every query stands at the position of a key: 0 <= i < pair.keys")
        return tuple(found)

    def __str__(self) -> str:
        s = self.steering
        outside = "n - s and a sink" if s.sink else "n - s"
        return "\n".join(
            [
                f"{self.program.name}: mass of {self.keys} >= {1 - self.eps:g} in every row",
                f"  scores{' and sink' * s.sink} lie in {s.lowest:.6g} … {s.highest:.6g}",
                f"  a row sees n keys, s >= {s.seen} of them chosen; the others are {outside}",
                "  their mass is at most others · exp(highest),",
                "  that of the chosen keys at least s · exp(lowest + b), and",
                "  b >= highest - lowest + ln((1 - eps)/eps · others/s)",
                *(f"  if {assumed}" for assumed in self.assumes),
            ]
        )


def guarantee_mass(
    program: AttentionProgram,
    keys: str | Callable[[Pair], Any],
    eps: float,
    *,
    seen: int | None = None,
) -> Guarantee:
    """Build a program that gives chosen keys at least 1 - eps of the mass of every row.

    Their scores are raised by b = hi - lo + ln((1 - eps)/eps · others/s), where all scores lie in
    lo … hi, and the row sees s chosen keys and so many others; a sink is one of the others.

    Args:
        program: A program whose weights are one softmax with a bounded score.
        keys: The keys: a condition of the pair, as `lambda pair: pair.j < 4`, or the name of a
            boolean key feature, given to each call.
        eps: How much mass the others may have, above 0 and below 1.
        seen: How many of the keys every row is promised to see, in each call. None has it proved
            that each sees one, which data such as a feature never allows.

    Returns:
        The program, without contracts of bounds that steering breaks, and its proof.

    Raises:
        InputError: If nothing bounds the score or the sink, if a row may see none of the keys, or
            if an argument does not fit.
    """
    if not isinstance(program, AttentionProgram):
        raise InputError(
            f"guarantee_mass takes a program, which @rg.program makes; found {no_program(program)}"
        )
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1:
        raise InputError(f"eps={eps!r} must be a number above 0 and below 1")
    if seen is not None and (type(seen) is not int or seen < 1):
        raise InputError(f"seen={seen!r} must be a whole number from 1 on, or None")
    condition, words = _choose(keys)
    steering = steer_mass(program.root, condition, float(eps), seen)
    kept = tuple(text for text in program.contracts if not text.startswith("bounded"))
    try:
        made = AttentionProgram(steering.root, f"{program.name}_steered", program.doc, kept)
    except ProgramError as problem:
        raise InputError(f"with these keys, {problem}") from None
    return Guarantee(made, float(eps), words, steering)


def _choose(keys: Any) -> tuple[n.Node, str]:
    """Return the condition that chooses keys, and what to call them."""
    if isinstance(keys, str):
        return verify(n.Feature("key", keys)), f"keys with '{keys}'"
    if not callable(keys):
        raise InputError(
            f"keys takes the name of a key feature or a function of the pair; found {keys!r}"
        )
    with tracer.tracing():
        chosen = keys(Pair())
    node = chosen.node if isinstance(chosen, Expr) else None
    fits = node is not None and type_of(node).kind in ("bool", "any")
    if node is None or not fits or type_of(node).weights or "c" in type_of(node).axes:
        raise InputError(f"keys chooses by a condition such as pair.j < 4, not by {chosen!r}")
    return node, "the chosen keys"
