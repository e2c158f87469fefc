"""A candidate: a mode, or the model's own attention, with where it comes from.

Leaves to others: making candidates (`first`, `offspring`), training them (`trial`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regard.modes import Mode

PLAIN = "plain"
"""The key of the model's own attention, which everything is measured against."""


@dataclass(frozen=True)
class Candidate:
    """What is tried.

    Attributes:
        key: The mode's hash; `PLAIN` for the model's own attention.
        name: What it goes by.
        origin: Where it comes from, in words.
        mode: The mode; None: the model's own attention.
        parents: Keys of what it was made of.
        root: The key of the candidate whose weights of the first rung it goes on from; None: it
            starts anew.
    """

    key: str
    name: str
    origin: str
    mode: Mode | None = None
    parents: tuple[str, ...] = ()
    root: str | None = None

    @classmethod
    def of(
        cls, mode: Mode, origin: str, parents: tuple[str, ...] = (), root: str | None = None
    ) -> "Candidate":
        """Return the candidate of a mode.

        Args:
            mode: The mode.
            origin: As the attribute.
            parents: As the attribute.
            root: As the attribute.

        Returns:
            The candidate.
        """
        return cls(mode.hash, mode.name, origin, mode, parents, root)

    def as_dict(self) -> dict[str, Any]:
        """Return it as data that JSON can say."""
        return {
            "name": self.name,
            "origin": self.origin,
            "mode": None if self.mode is None else self.mode.to_dict(),
            "parents": list(self.parents),
            "root": self.root,
        }

    @classmethod
    def from_dict(cls, key: str, value: Mapping[str, Any]) -> "Candidate":
        """Read what `as_dict` returned.

        Args:
            key: The candidate's key.
            value: The data.

        Returns:
            The candidate.
        """
        mode = None if value["mode"] is None else Mode.from_dict(value["mode"])
        parents = tuple(value["parents"])
        return cls(key, value["name"], value["origin"], mode, parents, value["root"])


def plain() -> Candidate:
    """Return the model's own attention as a candidate."""
    return Candidate(PLAIN, PLAIN, "the model's own attention")
