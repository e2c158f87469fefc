"""What a program may promise: the names of contracts, and what each says.

A contract is text, such as "causal" or "window <= 256", so that files hold it. It speaks of every
call: all sizes, lengths and data, NaN and infinity included; queries stand at positions from 0 on;
random booleans count as data. Leaves to others: deciding it (`passes/contracts`, `ops/contracts`).
"""

import re
from dataclasses import dataclass

from regard.errors import ProgramError, nearest

MEANINGS = {
    "causal": "the output at i is the same whatever keys at positions j > i hold, or if they exist",
    "window": "the output at i is the same whatever keys with |i - j| above the width hold",
    "padding-blind": "keys that are padding do not matter: rows beyond key_lengths, or, by a "
    "feature, keys where it is false",
    "bounded": "every score lies between -c and c; of ratio and weigh every number that is summed",
    "batch-independent": "batch rows that are given the same have the same output",
    "head-independent": "heads that are given the same have the same output",
    "shift-invariant": "raising all positions by one number changes no output",
    "permutation-equivariant": "reordering the keys changes nothing, and reordering the "
    "queries reorders the output",
    "never empty": "with no more queries than keys, a query at a position that a key has sees "
    "some key, or a sink",
}
_WITH_NUMBER = ("window", "bounded")
_MOST_DIGITS = 30
_FORM = re.compile(
    r"(?P<name>[a-z]+(?:[ -][a-z]+)?)(?: (?:<=|≤) (?P<limit>\S+)| by (?P<feature>\w+))?"
)


@dataclass(frozen=True)
class Contract:
    """One promise.

    Attributes:
        name: A key of `MEANINGS`.
        limit: The width of a window or the bound of scores; None asks for the least.
        feature: The key feature that is false at padding; "" for key_lengths.
    """

    name: str
    limit: float | None = None
    feature: str = ""

    def __str__(self) -> str:
        if self.feature:
            return f"{self.name} by {self.feature}"
        return self.name if self.limit is None else f"{self.name} <= {self.limit:.10g}"


def parse_contract(text: str) -> Contract:
    """Read a contract; "window" and "bounded" without a number ask for the least that holds.

    Args:
        text: E.g. "causal", "window <= 256", "padding-blind by real".

    Returns:
        The contract.

    Raises:
        ProgramError: If it is none; the message names the nearest.
    """
    if not isinstance(text, str):
        raise ProgramError(f"a contract is text, such as 'causal', not {text!r}")
    match = _FORM.fullmatch(text)
    name = match["name"] if match else text
    # "padding-blind by real" reads as a name of two words otherwise.
    if match is None or name not in MEANINGS:
        raise ProgramError(f"'{text}' is no contract; {nearest(name, MEANINGS)}")
    limit, feature = match["limit"], match["feature"] or ""
    if limit is not None and name not in _WITH_NUMBER:
        raise ProgramError(f"contract '{text}': {name} takes no number")
    if feature and name != "padding-blind":
        raise ProgramError(f"contract '{text}': {name} reads no feature")
    return Contract(name, None if limit is None else _limit(text, name, limit), feature)


def _limit(text: str, name: str, written: str) -> float:
    pattern = r"\d+" if name == "window" else r"\d+(\.\d+)?([eE][+-]?\d+)?"
    if not re.fullmatch(pattern, written):
        kind = "a whole number" if name == "window" else "a number"
        raise ProgramError(f"contract '{text}': {written!r} is not {kind} from 0 on")
    # More digits than that are infinite, and infinity is no width.
    if len(written) > _MOST_DIGITS:
        raise ProgramError(f"contract '{text[:40]}…': the number has too many digits")
    return float(written)


def parse_declared(text: str) -> Contract:
    """Read a contract that a program declares, which must say its number.

    Args:
        text: E.g. "causal", "window <= 256".

    Returns:
        The contract.

    Raises:
        ProgramError: If it is none, or says no number where one belongs.
    """
    contract = parse_contract(text)
    if contract.name in _WITH_NUMBER and contract.limit is None:
        raise ProgramError(
            f"contract '{text}' needs a number, such as '{text} <= 256'; "
            "rg.check(program) finds the least"
        )
    return contract
