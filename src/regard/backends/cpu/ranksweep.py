"""The sweep that must know a whole row's scores: entmax thresholds, or the keys of the largest.

Scores that can matter are kept for each row, the others forgotten (`template/rank.h`). Leaves to
others: what later sweeps make of the found row values (`rowsweep`).
"""

from dataclasses import dataclass, field

from regard.backends.cpu.emit import Lines, function, indent
from regard.backends.cpu.rowsweep import RowSweep, RowWriter, ShiftedTerm
from regard.backends.cpu.seen import Seen, split_seen
from regard.backends.cpu.slots import Slots
from regard.ir import nodes as n
from regard.passes.choose_keys import Choice
from regard.passes.lower import Lowered
from regard.passes.split_pairs import Input, Split


@dataclass
class RankSweep(RowSweep):
    """A sweep that ranks the scores of each query row; its terms' exponents are those scores.

    Attributes:
        numbers: For each term a row expression: α - 1, or how many keys are chosen.
        chooses: Whether keys are chosen; otherwise thresholds are found.
        valued: Whether the chosen keys' scores are returned too.
    """

    numbers: list[n.Node] = field(default_factory=list)
    chooses: bool = False
    valued: bool = False

    @property
    def row_results(self) -> list[str]:
        """The names of the row values a call returns, in order."""
        if self.chooses:
            names = [term.name for term in self.terms]
            return [*names, *(f"values of {name}" for name in names)] if self.valued else names
        return [f"{letter}:{term.name}" for letter in "zt" for term in self.terms]

    def source(self, kinds: dict[Input, str]) -> str:
        """Return the C++ of the sweep.

        Args:
            kinds: What each input is read as: "real", "int" or "bool".

        Returns:
            A struct `Program` for the template.
        """
        return _Writer(self, Slots(self.split, kinds)).text()


def make_threshold_sweep(lowered: Lowered, split: Split) -> RankSweep | None:
    """Return the sweep that finds the threshold of each entmax.

    Args:
        lowered: The program.
        split: An empty split, in which numbers of visible keys are known.

    Returns:
        The sweep, or None if no term has a threshold.

    Raises:
        UnsupportedError: If a kernel cannot do it.
    """
    sweep = RankSweep(split, {})
    for term in lowered.terms:
        if term.gain is not None:
            assert term.score is not None
            seen = split_seen(term, split)
            _rank(sweep, term.name, term.score, Seen(seen.where), term.gain)
    return sweep if sweep.terms else None


def make_choice_sweep(choice: Choice, split: Split) -> RankSweep:
    """Return the sweep that finds the keys of a choice.

    Args:
        choice: The choice.
        split: An empty split.

    Returns:
        The sweep.

    Raises:
        UnsupportedError: If a kernel cannot do it.
    """
    sweep = RankSweep(split, {}, chooses=True)
    where = None if choice.where is None else split.pair(choice.where)
    _rank(sweep, choice.hole.name, choice.score, Seen(where), choice.k)
    return sweep


def make_weight_sweep(weight: n.Node, seen: dict[str, Seen], k: int, split: Split) -> RankSweep:
    """Return the sweep that finds the largest weights of each row.

    Args:
        weight: The weight of a pair, -inf where it is not seen, in split form.
        seen: When each term sees a pair.
        k: How many.
        split: What it was split into.

    Returns:
        The sweep.
    """
    sweep = RankSweep(split, dict(seen), chooses=True, valued=True)
    # No term has this name.
    sweep.seen[_TOP] = Seen(None)
    sweep.terms.append(ShiftedTerm(_TOP, (weight,), sink=None, floor_zero=False, kept=True))
    sweep.numbers.append(n.Const(float(k)))
    return sweep


_TOP = "largest weights"


def _rank(sweep: RankSweep, name: str, score: n.Node, seen: Seen, number: n.Node) -> None:
    sweep.seen[name] = seen
    exponents = (sweep.split.pair(score),)
    sweep.terms.append(ShiftedTerm(name, exponents, sink=None, floor_zero=False, kept=True))
    sweep.numbers.append(sweep.split.pair(number))


class _Writer(RowWriter):
    """Writes one ranking sweep."""

    def text(self) -> str:
        sweep = self.sweep
        assert isinstance(sweep, RankSweep)
        head = [
            f"static constexpr int TERMS = {len(sweep.terms)}, SUMS = 0, COMPONENTS = 0, "
            "FINALS = 0;",
            f"static constexpr bool CHOOSES = {str(sweep.chooses).lower()}, "
            f"VALUED = {str(sweep.valued).lower()};",
            "static constexpr int VALUE = -1;",
        ]
        return "\n".join(
            [
                "struct Program {",
                *indent(self.slots.declarations() + head),
                *self.slots.channel_functions(),
                *self.scores(),
                *self._numbers(sweep),
                "};",
            ]
        )

    def _numbers(self, sweep: RankSweep) -> list[str]:
        body = []
        for place, number in enumerate(sweep.numbers):
            lines = Lines(lambda node, _: self.slots.row_at(node))
            value = lines.real(number)
            found = [*lines.lines, f"return ({value})[0];"]
            body += [f"if (term == {place}) {{", *indent(found), "}"]
        about = "How many keys are chosen." if sweep.chooses else "α - 1 of each entmax."
        return function(
            "static real number(const Tile& t, int term, int i)", [*body, "return 0;"], about
        )
