"""What a sweep over the keys of each query row computes, and its C++.

One sweep finds the largest exponents, row sums and, where the weights allow it, the summed row;
others count keys, or sum what an adjoint needs. Leaves to others: where the expressions come from
(`forward_sweeps`), the loops (`template/forward.h`), how inputs are read (`slots`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from regard.backends.cpu.emit import Lines, Read, by_mask, choose, function, indent
from regard.backends.cpu.seen import HIDDEN, Seen, seen_text
from regard.backends.cpu.slots import Slots, clamped
from regard.ir import nodes as n
from regard.passes.split_pairs import Input, Split


@dataclass(frozen=True)
class ShiftedTerm:
    """A term whose exponentials are divided by exp(m), m found while sums are taken.

    Attributes:
        name: The term's name.
        exponents: Pair expressions whose largest is m.
        sink: The row expression m starts from; None starts from -inf, or 0 with `floor_zero`.
        floor_zero: Whether m is at least 0.
        kept: Whether the one exponent, hidden where -inf, is kept for the second pass over a row.
    """

    name: str
    exponents: tuple[n.Node, ...]
    sink: n.Node | None
    floor_zero: bool
    kept: bool


@dataclass(frozen=True)
class RowSum:
    """A row sum by hole name, and the shifted term that scales it."""

    name: str
    pair: n.Node
    term: int | None = None


@dataclass(frozen=True)
class Component:
    """A part of the summed row: Σ_j pair · values, times `row`.

    Attributes:
        pair: What values are weighed with.
        row: What the sum is multiplied by.
        terms: The places of the terms whose exp(-m) is a factor of it.
        powers: To which power each term's r is a factor of `row`, by the term's name.
    """

    pair: n.Node
    row: n.Node
    terms: tuple[int, ...] = ()
    powers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Histogram:
    """What the rows of a table are weighed with: Σ_j pair of the keys that choose it, times `row`.

    Attributes:
        table: The table.
        index: Which of its rows a pair chooses.
        pair: What a pair adds.
        row: What the sum is multiplied by.
        terms: The places of the terms whose exp(-m) is a factor of it.
    """

    table: n.Array
    index: n.Node
    pair: n.Node
    row: n.Node
    terms: tuple[int, ...] = ()


@dataclass
class RowSweep:
    """A sweep over keys for each query row.

    Attributes:
        split: What its expressions were split into.
        seen: The terms' conditions, by name.
        terms: The shifted ones.
        sums: What is summed.
        components: The parts of the summed row.
        finals: Row expressions computed at the end, by name, in this order.
        values: What is weighed; None without components.
        histograms: The weights of tables whose rows are summed too.
        apart: Whether each component's sum is returned too.
        listed: How many of the largest exponents of the first term are listed with their keys.
        receives: Whether what keys receive is found too.
    """

    split: Split
    seen: dict[str, Seen]
    terms: list[ShiftedTerm] = field(default_factory=list)
    sums: list[RowSum] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    finals: list[tuple[str, n.Node]] = field(default_factory=list)
    values: Input | None = None
    histograms: list[Histogram] = field(default_factory=list)
    apart: bool = False
    listed: int = 0
    receives: bool = False

    @property
    def summed_count(self) -> int:
        """How many results are summed rows."""
        return bool(self.components) + (len(self.components) if self.apart else 0)

    @property
    def row_results(self) -> list[str]:
        """The names of the row values a call returns, in order."""
        tops = [f"top:{term.name}" for term in self.terms]
        return [*tops, *(s.name for s in self.sums), *(name for name, _ in self.finals)]

    def source(self, kinds: dict[Input, str]) -> str:
        """Return the C++ of the sweep.

        Args:
            kinds: What each input is read as: "real", "int" or "bool".

        Returns:
            A struct `Program` for the template.
        """
        return RowWriter(self, Slots(self.split, kinds)).text()


class RowWriter:
    """Writes one sweep.

    Args:
        sweep: The sweep.
        slots: Where its inputs are found.
    """

    def __init__(self, sweep: RowSweep, slots: Slots) -> None:
        self.sweep, self.slots = sweep, slots
        self.places = {term.name: k for k, term in enumerate(sweep.terms)}

    def text(self) -> str:
        """Return a struct `Program`."""
        sweep = self.sweep
        value = "-1" if sweep.values is None else str(self.slots.index(sweep.values))
        head = [
            f"static constexpr int TERMS = {len(sweep.terms)}, SUMS = {len(sweep.sums)}, "
            f"COMPONENTS = {len(sweep.components)}, FINALS = {len(sweep.finals)};",
            f"static constexpr int VALUE = {value};  // the input that is weighed",
        ]
        if sweep.apart:
            head.append("static constexpr bool APART = true;  // each component's sum is returned")
        if sweep.listed:
            head.append(f"static constexpr int LISTED = {sweep.listed};  // largest, with keys")
        if sweep.receives:
            head.append("static constexpr bool RECEIVES = true;  // what keys receive is found too")
        if sweep.histograms:
            head.append(f"static constexpr int HISTOGRAMS = {len(sweep.histograms)};")
        return "\n".join(
            [
                "struct Program {",
                *indent(self.slots.declarations() + head),
                *self.slots.channel_functions(),
                *self._start(),
                *self._shifts("shifts", [part.terms for part in self.sweep.components]),
                *self._histogram_shifts(),
                *self._rescale(),
                *self.scores(),
                *self._weights(),
                *self._finish(),
                "};",
            ]
        )

    def _leaf(self, masked: bool, kept: bool) -> Callable[[n.Node, Lines], Read | None]:
        """Return how leaves are read in the second pass (`kept`) or the first."""

        def read(node: n.Node, lines: Lines) -> Read | None:
            if isinstance(node, n.Hole):
                letter, _, name = node.name.partition(":")
                place = self.places.get(name)
                if letter == "seen":
                    return self._seen(lines, name, masked, kept), "bool"
                if place is not None and letter == "m":
                    return f"shift[{place}]", "real"
                if place is not None and letter == "kept":
                    return f"score[{place}]", "real"
                if place is not None and letter == "p":
                    return f"vexp_nonpositive(score[{place}] - shift[{place}])", "real"
            shifted = self._shifted_power(node, lines) if kept else None
            return self.slots.pair(node, lines) if shifted is None else (shifted, "real")

        return read

    def _shifted_power(self, node: n.Node, lines: Lines) -> str | None:
        """Return how exp(x - m) is computed where x is among what m is the maximum of, or 0."""
        match node:
            case n.Call("exp", (n.Call("sub", (x, n.Hole(name=name))),)):
                pass
            case n.Call("exp", (n.Call("neg", (n.Hole(name=name),)),)):
                x = None
            case _:
                return None
        place = self.places.get(name[2:]) if name.startswith("m:") else None
        if place is None:
            return None
        term = self.sweep.terms[place]
        if x is None:
            return f"vexp_nonpositive(-shift[{place}])" if term.floor_zero else None
        if x not in term.exponents:
            return None
        # The first pass has found it, if it is the only one.
        value = f"score[{place}]" if len(term.exponents) == 1 else lines.real(x)
        return f"vexp_nonpositive({value} - shift[{place}])"

    def _seen(self, lines: Lines, name: str, masked: bool, kept: bool) -> str:
        place = self.places.get(name)
        if kept and place is not None and self.sweep.terms[place].kept:
            return f"score[{place}] != {HIDDEN}"
        return seen_text(self.sweep.seen[name], lines, masked)

    def _start(self) -> list[str]:
        body = []
        for place, term in enumerate(self.sweep.terms):
            if term.sink is not None:
                lines = Lines(lambda node, _: self.slots.row_at(node))
                value = lines.real(term.sink)
                found = [*lines.lines, f"return ({value})[0];"]
                body += [f"if (term == {place}) {{", *indent(found), "}"]
            elif term.floor_zero:
                body.append(f"if (term == {place}) return 0;")
        return function(
            "static real start(const Tile& t, int term, int i)",
            [*body, "return HIDDEN;"],
            "What m is before any key.",
        )

    def _histogram_shifts(self) -> list[str]:
        terms = [part.terms for part in self.sweep.histograms]
        return self._shifts("shifts_histogram", terms) if terms else []

    def _shifts(self, name: str, parts: list[tuple[int, ...]]) -> list[str]:
        body = [
            f"if (component == {k} && term == {term}) return true;"
            for k, terms in enumerate(parts)
            for term in terms
        ]
        return function(
            f"static constexpr bool {name}(int component, int term)",
            [*body, "return false;"],
            "Whether a part of the summed row is scaled by a term's exp(-m).",
        )

    def _rescale(self) -> list[str]:
        body = []
        for place, term in enumerate(self.sweep.terms):
            own = {s.name: k for k, s in enumerate(self.sweep.sums) if s.term == place}
            body.append(f"if (term == {place}) {{")
            scaled = own.get(f"x:{term.name}")
            if scaled is not None:
                total = own[f"s:{term.name}"]
                body.append(
                    f"  sums[{scaled} * QUERY_BLOCK] += moved * sums[{total} * QUERY_BLOCK];"
                )
            body += [f"  sums[{k} * QUERY_BLOCK] *= factor;" for k in own.values()]
            body.append("}")
        return function(
            "static void rescale(int term, real moved, real factor, real* sums)",
            body,
            "Let m rise: what was summed so far is scaled down.",
        )

    def scores(self) -> list[str]:
        """Return the function of the exponents of W pairs."""

        def body(masked: bool) -> list[str]:
            lines = Lines(self._leaf(masked, kept=False))
            for place, term in enumerate(self.sweep.terms):
                top, *others = [lines.real(exponent) for exponent in term.exponents]
                for other in others:
                    top = f"vmax({top}, {other})"
                seen = self.sweep.seen[term.name]
                # A score of -inf is hidden by being kept as it is.
                seen = Seen(seen.where) if term.kept else seen
                value = choose(seen_text(seen, lines, masked), top, HIDDEN)
                lines.write(f"score[{place}] = {value};")
            return lines.lines

        return by_mask(
            "static REGARD_INLINE void scores(const Tile& t, int i, int j, Vec* score)",
            body,
            "The exponents of W pairs, -inf where hidden.",
        )

    def _weights(self) -> list[str]:
        def body(masked: bool) -> list[str]:
            lines = Lines(self._leaf(masked, kept=True))
            for k, item in enumerate(self.sweep.sums):
                lines.write(f"sum[{k}] += {lines.real(item.pair)};")
            for k, part in enumerate(self.sweep.components):
                lines.write(f"weight[{k}] = {lines.real(part.pair)};")
            for k, part in enumerate(self.sweep.histograms):
                result = self._first_histogram() + k
                place = clamped(part.index, f"t.call->results[{result}].by_row", lines)
                value = lines.real(part.pair)
                lines.write(f"t.add_to_query_table({result}, i, {place}, {value});")
            return lines.lines

        return by_mask(
            "static REGARD_INLINE void weights(const Tile& t, int i, int j, const Vec* score,\n"
            "                                  const Vec* shift, Vec* sum, Vec* weight)",
            body,
            "What W pairs add to row sums, and what their values are weighed with.",
        )

    def _first_histogram(self) -> int:
        return len(self.sweep.row_results) + self.sweep.summed_count

    def _finish(self) -> list[str]:
        sums = {item.name: k for k, item in enumerate(self.sweep.sums)}
        found: dict[str, str] = {}

        def leaf(node: n.Node, lines: Lines) -> Read | None:
            if not isinstance(node, n.Hole):
                return None
            letter, _, name = node.name.partition(":")
            if letter == "m" and name in self.places:
                top, _ = lines.name(f"load(&s.top[{self.places[name]}][i])", "real")
                return f"select({top} == {HIDDEN}, Vec{{}}, {top})", "real"
            if node.name in sums:
                return f"load(&s.sum[{sums[node.name]}][i])", "real"
            if node.name in found:
                return found[node.name], "real"
            return self.slots.rows(node)

        lines = Lines(leaf)
        for k, (name, expression) in enumerate(self.sweep.finals):
            found[name] = lines.real(expression)
            lines.write(f"store(&s.found[{k}][i], {found[name]});")
        for k, part in enumerate(self.sweep.components):
            lines.write(f"store(&s.coefficient[{k}][i], {lines.real(part.row)});")
        for k, part in enumerate(self.sweep.histograms):
            lines.write(f"store(&s.share[{k}][i], {lines.real(part.row)});")
        return function(
            "template <class State> static void finish(const Tile& t, State& s, int i)",
            lines.lines,
            "The values of W rows when all keys were seen.",
        )
