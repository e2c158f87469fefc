"""A pair that breaks a contract, on one small call that anyone can repeat.

Leaves to others: finding it (`search`), drawing it (`view`).
"""

from dataclasses import asdict, dataclass
from typing import Any

# What a counterexample says of a pair, in the picture.
SEEN, HIDDEN, BROKEN = "#", "·", "X"


@dataclass(frozen=True)
class Counterexample:
    """One call and one pair.

    Attributes:
        query: The position i of the query.
        key: The position j of the key; None where no key is to blame.
        head: The head.
        change: What was done to the call, or "" if nothing had to be.
        before: What was found without the change.
        after: What was found with it.
        query_positions: The position of each query row.
        key_positions: The position of each key row.
        seen: Which pairs the weights see in that head: rows of truth values.
        note: What else is worth knowing.
    """

    query: int
    key: int | None
    head: int
    change: str
    before: str
    after: str
    query_positions: tuple[int, ...]
    key_positions: tuple[int, ...]
    seen: tuple[tuple[bool, ...], ...]
    note: str = ""

    @property
    def pair(self) -> str:
        """The pair in words."""
        key = "" if self.key is None else f", key j={self.key}"
        return f"query i={self.query}{key}, head {self.head}"

    @property
    def sizes(self) -> str:
        """The sizes of the call in words."""
        return f"{len(self.query_positions)} queries, {len(self.key_positions)} keys"

    def picture(self) -> str:
        """Return a map of the pairs as text, the broken one marked X."""
        margin = max(len(f"i={place}") for place in (*self.query_positions, 0))
        lines = []
        for place, row in zip(self.query_positions, self.seen, strict=True):
            cells = [
                BROKEN if (place, key) == (self.query, self.key) else SEEN if seen else HIDDEN
                for key, seen in zip(self.key_positions, row, strict=True)
            ]
            mark = "  <" if place == self.query else ""
            lines.append(f"{f'i={place}':>{margin}} {' '.join(cells)}{mark}")
        keys = self.key_positions
        run = list(keys) == list(range(keys[0], keys[0] + len(keys)))
        listed = f"j = {keys[0]} … {keys[-1]}" if run else "j = " + ", ".join(map(str, keys))
        lines.append(" " * (margin + 1) + f"{listed}   {SEEN} seen, {HIDDEN} hidden, {BROKEN} this")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.pair} ({self.sizes})"]
        if self.change:
            lines.append(f"{self.change}: {self.before} becomes {self.after}")
        else:
            lines.append(f"{self.before}: {self.after}")
        lines += [self.note] if self.note else []
        return "\n".join([*lines, self.picture()])
