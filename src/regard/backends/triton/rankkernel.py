"""Triton of a sweep that ranks the scores of each query row: a threshold, or the largest few.

Scores are computed anew in every pass over the keys and never kept. The threshold of an entmax
rises by Newton's steps, or its interval is halved (Peters, Niculae & Martins 2019; Gonçalves,
Treviso & Martins 2025). The largest scores are those above a bound, which is halved over all real
numbers, and of those equal to it the ones of the lowest keys. Leaves to others: what is ranked
(`cpu/ranksweep`), where inputs lie (`places`), sorting the keys that were found (`caller`).
"""

from collections.abc import Callable

from regard.backends.cpu.emit import indent
from regard.backends.cpu.ranksweep import RankSweep
from regard.backends.cpu.rowsweep import ShiftedTerm
from regard.backends.triton.emit import HIDDEN, Lines
from regard.backends.triton.places import Body, Form, scores_hide
from regard.backends.triton.rowkernel import RowKernel, RowResults
from regard.backends.triton.text import Text, loops, opening, stored_row
from regard.ir import nodes as n

# Passes after which a threshold is taken as it is, of which Newton's steps need about ten, and in
# which an interval of 64-bit numbers is halved to one; and those for an interval of keys.
_MOST_PASSES, _KEY_BITS = 64, 32


class RankKernel(RowKernel):
    """Writes one ranking sweep.

    Args:
        sweep: The sweep.
        form: How inputs are read.
    """

    def __init__(self, sweep: RankSweep, form: Form) -> None:
        super().__init__(sweep, form, RowResults(()))
        self.ranks = sweep

    def text(self) -> Text:
        """Return the kernel."""
        one = self._chosen if self.ranks.chooses else self._threshold
        passes = [line for k, term in enumerate(self.ranks.terms) for line in one(k, term)]
        body = [*opening("i"), "out_row = bh * N + i", *self.places.outer, *passes]
        count = len(self.ranks.row_results)
        results = [f"out{k}_ptr" for k in range(count)]
        return Text(self.places, body, results + ["size"] * self.ranks.chooses, self.used)

    # ── Passes over the keys ─────────────────────────────────────────────────────────────────
    def _pass(self, k: int, write: Callable[[str], list[str]], going: str = "") -> list[str]:
        """Return the loops over the keys that a block of query rows sees.

        Args:
            k: Which term's scores are ranked.
            write: Returns the lines of a tile, given the name of its scores, -inf where hidden.
            going: As for `loops`.

        Returns:
            Lines.
        """
        return loops(self._tile(k, write, False), self._tile(k, write, True), "j", going=going)

    def _tile(self, k: int, write: Callable[[str], list[str]], masked: bool) -> list[str]:
        body = Body(self.places, Lines(lambda *_: None, self._names, self.used), masked)
        body.scores_hide = scores_hide(self.sweep.seen)
        body.lines = Lines(self._leaf(body, kept=False), self._names, self.used)
        seen = [x for one in self.sweep.seen.values() for x in (one.where, one.score)]
        read = n.walk(*self.ranks.terms[k].exponents, *[x for x in seen if x is not None])
        body.dots(set(read) & self.places.scores.keys())
        self._write_score(k, body)
        first = ["inside = (i < rows_end)[:, None] & (j < keys_end)[None, :]"]
        return [*(first if body.needs_inside else []), *body.lines.lines, *write(f"score{k}")]

    def _number(self, k: int) -> list[str]:
        """Return the lines that find α - 1 of an entmax, or how many keys are chosen."""
        lines = Lines(self._at_row(None), self._names, self.used)
        value = lines.real(self.ranks.numbers[k])
        return [*lines.lines, f"number{k} = tl.zeros([BI], REAL) + {value}"]

    def _calls(self, *functions: str) -> None:
        self.used.update(functions)

    # ── Thresholds ───────────────────────────────────────────────────────────────────────────
    def _threshold(self, k: int, term: ShiftedTerm) -> list[str]:
        self._calls("next_threshold")

        def raise_top(score: str) -> list[str]:
            return [f"m{k} = tl.maximum(m{k}, tl.max({score}, 1))"]

        def add_excess(score: str) -> list[str]:
            return [
                f"u = ({score} - z{k}[:, None]) * number{k}[:, None] - t{k}[:, None]",
                "u = tl.maximum(u, 0.0)",
                f"inner = {self._inner(k)}",
                "mass += tl.sum(inner * u, 1)",
                "slope += tl.sum(inner, 1)",
            ]

        step = [
            "mass = tl.zeros([BI], REAL)",
            "slope = tl.zeros([BI], REAL)",
            *self._pass(k, add_excess, "going"),
            f"low = tl.where((going > 0) & (mass >= 1), t{k}, low)",
            f"high = tl.where((going > 0) & (mass < 1), t{k}, high)",
            f"risen = next_threshold(t{k}, low, high, mass, slope, p{k})",
            f"risen = tl.where(going > 0, risen, t{k})",
            f"going = tl.max((risen != t{k}).to(tl.int32), 0)",
            f"t{k} = risen",
        ]
        count = len(self.ranks.terms)
        return [
            f"m{k} = tl.full([BI], {HIDDEN}, REAL)",
            *self._pass(k, raise_top),
            f"z{k} = tl.where(m{k} == {HIDDEN}, 0.0, m{k})",
            *self._number(k),
            f"p{k} = 1.0 / number{k}",
            "# The threshold, relative to the largest score and times α - 1, is between -1 and 0.",
            "low = tl.full([BI], -1.0, REAL)",
            "high = tl.zeros([BI], REAL)",
            f"t{k} = low",
            *_repeated(step, _MOST_PASSES),
            f"t{k} = tl.where(p{k} >= 1, t{k}, low)",
            f"t{k} = tl.where(m{k} == {HIDDEN}, 0.0, t{k})",
            stored_row(f"out{k}_ptr", f"z{k}"),
            stored_row(f"out{count + k}_ptr", f"t{k}"),
        ]

    def _inner(self, k: int) -> str:
        """Return u to the power of 1 / (α - 1) - 1."""
        match self.ranks.numbers[k]:
            case n.Const(value=1.0):
                return "tl.where(u > 0, 1.0, 0.0).to(REAL)"
            case n.Const(value=0.5):
                return "u"
        self._calls("power_of")
        return f"power_of(u, p{k}[:, None] - 1.0)"

    # ── The largest ──────────────────────────────────────────────────────────────────────────
    def _chosen(self, k: int, term: ShiftedTerm) -> list[str]:
        self._calls("ordered", "middle")
        wanted = [
            *self._number(k),
            "# A NaN chooses none, infinity all.",
            f"number{k} = tl.where(number{k} == number{k}, tl.minimum(number{k}, M), 0.0)",
            f"wanted = tl.ceil(tl.maximum(number{k}, 0.0)).to(tl.int32)",
        ]
        return [*wanted, *self._bound(k), *self._last_equal(k), *self._listing(k)]

    def _bound(self, k: int) -> list[str]:
        """Return the lines that find the least bound that no more than `wanted` scores exceed."""

        def count(score: str) -> list[str]:
            return [f"count += tl.sum((ordered({score}) > at[:, None]).to(tl.int32), 1)"]

        step = [
            "at = middle(low, bound)",
            "count = tl.zeros([BI], tl.int32)",
            *self._pass(k, count, "going"),
            "fits = (count <= wanted) & (low + 1 < bound)",
            "low = tl.where(count > wanted, tl.maximum(low, at), low)",
            "bound = tl.where(fits, at, bound)",
            "above = tl.where(fits, count, above)",
            "low = tl.where(fits & (count == wanted), at - 1, low)",
            "going = tl.max((low + 1 < bound).to(tl.int32), 0)",
        ]
        return [
            f"hidden = ordered(tl.full([BI], {HIDDEN}, REAL))",
            'bound = ordered(tl.full([BI], float("inf"), REAL))',
            "low = hidden - 1",
            "above = tl.zeros([BI], tl.int32)",
            *_repeated(step, _MOST_PASSES + 1),
        ]

    def _last_equal(self, k: int) -> list[str]:
        """Return the lines that find the last key whose score may be equal to the bound."""

        def count(score: str) -> list[str]:
            equal = f"(ordered({score}) == bound[:, None]) & (j[None, :] <= key[:, None])"
            return [f"count += tl.sum(({equal}).to(tl.int32), 1)"]

        step = [
            "key = middle(last, end)",
            "count = tl.zeros([BI], tl.int32)",
            *self._pass(k, count, "going"),
            "open = last + 1 < end",
            "last = tl.where(open & (count <= missing), key, last)",
            "end = tl.where(open & (count > missing), key, end)",
            "end = tl.where(open & (count == missing), key + 1, end)",
            "going = tl.max((last + 1 < end).to(tl.int32), 0)",
        ]
        return [
            "# Of equal scores those of the lowest keys are chosen, up to the last.",
            "missing = wanted - above",
            "last = tl.full([BI], -1, tl.int32)",
            "end = tl.where((missing > 0) & (bound > hidden), M, 0).to(tl.int32)",
            *_repeated(step, _KEY_BITS, "tl.max((last + 1 < end).to(tl.int32), 0)"),
        ]

    def _listing(self, k: int) -> list[str]:
        """Return the lines that list the chosen keys, in the order of the blocks."""
        count = len(self.ranks.terms)

        def listed(score: str) -> list[str]:
            mask = "taken & (place < size)"
            at = "out_row[:, None] * size + place"
            values = [f"tl.store(out{count + k}_ptr + {at}, {score}, mask={mask})"]
            return [
                f"rank = ordered({score})",
                "equal = (rank == bound[:, None]) & (j[None, :] <= last[:, None])",
                "taken = (rank > bound[:, None]) | (equal & (bound > hidden)[:, None])",
                "place = used[:, None] + tl.cumsum(taken.to(tl.int32), 1) - 1",
                "key = tl.zeros([BI, BJ], REAL) + j[None, :].to(REAL)",
                f"tl.store(out{k}_ptr + {at}, key, mask={mask})",
                *(values if self.ranks.valued else []),
                "used += tl.sum(taken.to(tl.int32), 1)",
            ]

        return ["used = tl.zeros([BI], tl.int32)", *self._pass(k, listed)]


def _repeated(
    step: list[str], times: int, going: str = "tl.max(tl.full([BI], 1, tl.int32), 0)"
) -> list[str]:
    """Return a loop of passes, of which those behind the last that is needed visit nothing.

    Triton 3.7 does not compile some loops that end early (`while`).

    Args:
        step: The lines of a pass, which end by telling whether it was `going` anywhere.
        times: The most passes.
        going: Whether the first pass is needed.

    Returns:
        Lines.
    """
    return [f"going = {going}", f"for turn in range(0, {times}):", *indent(step, 4)]
