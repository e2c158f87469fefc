"""What a call can return beside its output, by the names in which backends are asked for it.

All but the values of a term are of a pair's final weight, signed and before dropout:

    lse:a  max:a  sink:a    of the softmax a, a number per query row
    entropy:a               of the weights of the term a, likewise
    mass                    Σ_j weight
    mass:number:f           Σ_j weight · f, f a feature of keys
    classes:8:f             Σ_j weight where f is 0, … 7: eight numbers per query row
    moment:1  moment:2      Σ_j weight · d and Σ_j weight · (d - moment:1 / mass)², d = |i - j|
    received                Σ_i weight, a number per key row
    top:8  keys:8           the eight largest weights of a query row, and their key rows
    weights                 the weight of every pair

Leaves to others: names for people, and what is made of these (`ops/observe`).
"""

from dataclasses import dataclass
from functools import lru_cache

from regard.ir import nodes as n

TERM_VALUES = ("lse", "max", "entropy", "sink")
# What no gradient passes through.
FIXED = ("max", "keys")
# Features that a call makes itself: "bins:64" is in which of 64 equal parts of the keys a key row
# lies, "number:f" is the feature f as a number, without gradient.
_MADE = ("bins", "number")


@dataclass(frozen=True)
class Observed:
    """A name, parsed.

    Attributes:
        kind: Its first word.
        of: The term or feature it names, or "".
        size: The number it holds, or 0.
    """

    kind: str
    of: str = ""
    size: int = 0

    @property
    def axes(self) -> str:
        """What the value varies along: "k" ranks the largest weights, "c" classes."""
        found = {"classes": "bhic", "received": "bhj", "top": "bhik", "keys": "bhik"}
        return "bhij" if self.kind == "weights" else found.get(self.kind, "bhi")

    @property
    def feature(self) -> n.Feature | None:
        """The feature of keys that it reads."""
        reads = self.of and self.kind in ("mass", "classes")
        return n.Feature("key", self.of) if reads else None


@lru_cache(maxsize=1024)
def parse(name: str) -> Observed:
    """Return what a backend is asked for.

    Args:
        name: A name as above.

    Returns:
        Its parts.
    """
    kind, _, rest = name.partition(":")
    if kind in ("moment", "top", "keys"):
        return Observed(kind, size=int(rest))
    if kind == "classes":
        size, _, feature = rest.partition(":")
        return Observed(kind, feature, int(size))
    return Observed(kind, rest)


def is_row_value(name: str) -> bool:
    """Tell whether a name asks for a value of a term."""
    return parse(name).kind in TERM_VALUES


def made_feature(feature: str) -> tuple[str, str] | None:
    """Return what a feature that a call makes itself is made of.

    Args:
        feature: Its name.

    Returns:
        Its kind, "bins" or "number", and what follows; None if the feature is the user's.
    """
    kind, colon, rest = feature.partition(":")
    return (kind, rest) if colon and kind in _MADE else None


def observed_features(observe: tuple[str, ...]) -> dict[str, n.Feature]:
    """Return the features that what is observed reads.

    Args:
        observe: Names as above.

    Returns:
        Features of keys by name.
    """
    found = {}
    for feature in (parse(name).feature for name in observe):
        if feature is not None:
            found[feature.name] = feature
            made = made_feature(feature.name)
            if made is not None and made[0] == "number":
                found[made[1]] = n.Feature("key", made[1])
    return found
