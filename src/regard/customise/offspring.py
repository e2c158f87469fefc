"""The next candidate of a search: a change of one of the better modes, or a crossing of two.

The draw depends on the seed, on how many candidates there are and on their scores, and on nothing
else: a search that was killed draws the same one again. Leaves to others: changes that keep
contracts (`search/children`).
"""

from collections.abc import Mapping
from random import Random

from regard.customise.candidate import PLAIN, Candidate
from regard.customise.standing import Standing
from regard.modes import Mode
from regard.search import Children, Space

# Shares of what is drawn: two parents, or far from all parents; the rest is one change of one.
_CROSSED, _FAR = 0.3, 0.15
# Changes, one after the other, of what is drawn far from all parents.
_FAR_CHANGES = (2, 5)
_FEWEST_PARENTS, _PARENTS = 4, 1 / 4
_MOST_DRAWS = 50
# More candidates than any search has, so that no two (seed, number) draw alike.
_MANY = 1_000_003


class Offspring:
    """Draws candidates.

    Args:
        space: What is searched.
        seed: Of every choice.
        wild: Whether all are drawn far from all parents, as random search does.
    """

    def __init__(self, space: Space, seed: int, wild: bool = False) -> None:
        self.children, self.seed, self.wild = Children(space, seed), seed, wild
        self.starts = self.children.starts()

    def draw(self, standing: Standing, roots: Mapping[str, str]) -> Candidate | None:
        """Return a candidate that was not there yet.

        Args:
            standing: Who was there, and how good they were.
            roots: By key of a parent, the key of the candidate whose weights its children go on
                from; of others they start anew.

        Returns:
            The candidate, or None if nothing new is found.
        """
        known = set(standing.candidates)
        self.children.random = random = Random(self.seed * _MANY + len(known))
        parents = self._parents(standing)
        for _ in range(_MOST_DRAWS):
            if self.wild or not parents or random.random() < _FAR:
                made = self._far(random)
            else:
                made = self._near(random, parents, roots)
            if made.key not in known and made.key != self.starts[0].hash:
                return made
        return None

    def _parents(self, standing: Standing) -> dict[str, Mode]:
        """Return the better candidates; the model's own attention stands in as a mode."""
        order = [key for key in standing.order() if self._mode(standing, key) is not None]
        count = max(_FEWEST_PARENTS, round(_PARENTS * len(order)))
        return {key: mode for key in order[:count] if (mode := self._mode(standing, key))}

    def _mode(self, standing: Standing, key: str) -> Mode | None:
        if key == PLAIN:
            return self.starts[0]
        candidate = standing.candidates[key]
        # A task's own mode need not fill the space.
        return None if candidate.origin.startswith("the task's") else candidate.mode

    def _near(
        self, random: Random, parents: Mapping[str, Mode], roots: Mapping[str, str]
    ) -> Candidate:
        first = random.choice(list(parents))
        if len(parents) > 1 and random.random() < _CROSSED:
            second = random.choice([key for key in parents if key != first])
            mode, both = self.children.cross(parents[first], parents[second]), (first, second)
        else:
            mode, both = self.children.mutate(parents[first]), (first,)
        return Candidate.of(mode, _said(mode), both, roots.get(first))

    def _far(self, random: Random) -> Candidate:
        start = mode = random.choice(self.starts)
        for _ in range(random.randint(*_FAR_CHANGES)):
            mode = self.children.mutate(mode)
        return Candidate.of(mode, f"drawn far from {start.name}")


def _said(mode: Mode) -> str:
    """Return what was done to get a child, as its intent says it."""
    return mode.intent.rpartition(": ")[2]
