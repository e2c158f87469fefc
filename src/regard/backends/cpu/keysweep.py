"""What the adjoint sweep computes at every pair, and its C++.

Scores are computed again from the row values that forward kept; each input then receives the
derivative of the result. Leaves to others: the derivatives (`passes/adjoint`), the loops
(`template/backward.h`), how inputs are read (`slots`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from regard.backends.cpu.emit import Lines, Read, by_mask, function, indent
from regard.backends.cpu.seen import Seen, seen_text
from regard.backends.cpu.slots import Slots, array, channel_sides, place_kind
from regard.ir import nodes as n
from regard.passes.split_pairs import ChannelSum, Dot, Input, Split

# How what an input of one number a place receives is added up: places are those of its list.
_ADDED = {
    "query": "row[{place}] += {value};",
    "key": "t.add_to_keys({place}, j, {value});",
    "number": "number[{place}] += {value};",
    "pair": "t.set_pair({result}, i, j, {value});",
    "diagonal": "t.add_to_diagonal({result}, i, j, {value});",
}


def delta_of(term: str) -> n.Hole:
    """Return the hole of r times r's adjoint, where the weights are this term alone.

    They are linear in r, so that it is Σ_j w_ij (do · v_j) = do · summed row.
    """
    return n.Hole(f"gd:{term}", "bhi")


@dataclass
class KeySweep:
    """The adjoint sweep.

    Attributes:
        split: What its expressions were split into.
        seen: The terms' conditions, by name.
        scores: What each dot's and channel sum's value receives, by hole.
        numbers: What each input of rows without channels receives, by input.
        tables: What elements of tables receive: (table, the node that read it, expression).
        value: The dot of the summed row's adjoint and the values, if the values receive anything.
        weights: What values are weighed with.
        wanted: The inputs that receive anything.
        delta: The two query rows whose dot is `delta_of` the term, if that is read.
    """

    split: Split
    seen: dict[str, Seen]
    scores: dict[n.Hole, n.Node] = field(default_factory=dict)
    numbers: dict[Input, n.Node] = field(default_factory=dict)
    tables: list[tuple[Input, n.Gather | n.Pick, n.Node]] = field(default_factory=list)
    value: Dot | None = None
    weights: n.Node | None = None
    wanted: set[Input] = field(default_factory=set)
    delta: tuple[Input, Input] | None = None

    @property
    def results(self) -> list[Input]:
        """The inputs that receive something, in the order of a call's results."""
        return [item for item in self.split.inputs.values() if item in self.wanted]

    def source(self, kinds: dict[Input, str]) -> str:
        """Return the C++ of the sweep.

        Args:
            kinds: What each input is read as.

        Returns:
            A struct `Program` for the template.
        """
        return _Writer(self, Slots(self.split, kinds)).text()


class _Writer:
    """Writes one adjoint sweep."""

    def __init__(self, sweep: KeySweep, slots: Slots) -> None:
        self.sweep, self.slots = sweep, slots
        self.result = {item: k for k, item in enumerate(sweep.results)}
        self.by_place = {
            place: [x for x in sweep.numbers if place_kind(x) == place] for place in _ADDED
        }
        # What is the same for all keys, and the lines that compute it once for a row.
        self.fixed: dict[n.Node, Read] = {}
        self.fixed_lines = Lines(self._leaf(masked=False, fixes=False))

    def text(self) -> str:
        for one in self.sweep.split.sums.values():
            if one.hole in self.sweep.scores:
                self.slots.keep_channels(one, self.sweep.wanted)
        adjoints = self._adjoints()
        return "\n".join(
            [
                "struct Program {",
                *indent(self.slots.declarations() + self._declarations()),
                f"  static constexpr int FIXED = {len(self.fixed)};",
                *self.slots.channel_functions(),
                *self._channel_adjoints(),
                *function(
                    "static REGARD_INLINE void fix(const Tile& t, int i, Vec* fixed)",
                    self.fixed_lines.lines,
                    "What is the same for all keys of query row i.",
                ),
                *adjoints,
                "};",
            ]
        )

    def _declarations(self) -> list[str]:
        """Return the declarations by which the template adds up and multiplies."""
        lefts, rights = self.slots.lefts, self.slots.rights
        products = self._products()
        lines = [f"static constexpr int INPUTS = {len(self.slots.inputs)};"]
        most = max(map(len, self.slots.kept.values()), default=0)
        lines.append(f"static constexpr int KEPT = {most};")
        for place, name in (("query", "row_sums"), ("key", "key_sums"), ("number", "number_sums")):
            results = [self.result[item] for item in self.by_place[place]]
            lines.append(array("int", name.upper(), name, results))
        for name, items in (("left_results", lefts), ("right_results", rights)):
            results = [self.result[item] for item in items if item in self.result]
            lines.append(array("int", name.upper(), name, results))
        left_panels = {product[1] for product in products if product[4] >= 0}
        right_panels = {product[2] for product in products if product[3] >= 0}
        lines.append(_flags("left_in_panels", (k in left_panels for k in range(len(lefts)))))
        lines.append(_flags("right_in_panels", (k in right_panels for k in range(len(rights)))))
        listed = ["{" + ", ".join(map(str, product)) + "}" for product in products]
        delta = [self.slots.index(row) for row in self.sweep.delta or ()]
        lines.append(array("int", "DELTAS", "deltas", delta))
        lines.append(array("Product", "PRODUCTS", "products", listed, "{-1, -1, -1, -1, -1}"))
        return lines

    def _products(self) -> list[tuple[int, int, int, int, int]]:
        """Return what each dot's adjoint gives to its rows, as fields of `Product`."""
        found = []
        for dot in self.sweep.split.dots.values():
            place = self.slots.scores[dot.hole]
            left, right = self.slots.lefts.index(dot.left), self.slots.rights.index(dot.right)
            to_left, to_right = self.result.get(dot.left, -1), self.result.get(dot.right, -1)
            if dot is self.sweep.value:
                # Its place holds the weights: what the values receive, and nothing for the adjoint.
                found.append((place, left, right, -1, to_right))
            elif dot.hole in self.sweep.scores:
                found.append((place, left, right, to_left, to_right))
        return [product for product in found if product[3] >= 0 or product[4] >= 0]

    def _leaf(self, masked: bool, fixes: bool = True) -> Callable[[n.Node, Lines], Read | None]:
        """Return how leaves are read; with `fixes`, what a query row decides is one too."""

        def read(node: n.Node, lines: Lines) -> Read | None:
            if fixes and isinstance(node, n.Call) and self._is_of_row(node):
                return self._fixed(node)
            if isinstance(node, n.Hole) and node.name.startswith("seen:"):
                return seen_text(self.sweep.seen[node.name[5:]], lines, masked), "bool"
            if isinstance(node, n.Hole) and node.name.startswith("gd:") and self.sweep.delta:
                return "t.delta(i)", "real"
            return self.slots.pair(node, lines)

        return read

    def _is_of_row(self, root: n.Node) -> bool:
        """Tell whether a query row, and no key, decides a value."""
        read = [x for x in n.walk(root) if not isinstance(x, n.Call | n.Const)]
        return bool(read) and all(
            isinstance(x, n.Hole) and (self.slots.is_of_row(x) or x.name.startswith("gd:"))
            for x in read
        )

    def _fixed(self, node: n.Call) -> Read:
        """Return where a value of a query row is kept, which is computed there on first use."""
        if node not in self.fixed:
            value, kind = self.fixed_lines.value(node)
            place = f"fixed[{len(self.fixed)}]"
            cast = "" if kind == "real" else "(Vec)"
            self.fixed_lines.write(f"{place} = {cast}{value};")
            self.fixed[node] = (place if kind == "real" else f"(Int){place}"), kind
        return self.fixed[node]

    def _adjoints(self) -> list[str]:
        sweep = self.sweep

        def body(masked: bool) -> list[str]:
            lines = Lines(self._leaf(masked))
            # All is read before a score's place takes what the score receives.
            ends = [*self._number_ends(lines), *self._table_ends(lines)]
            ends += [self._kept(hole, value, lines) for hole, value in sweep.scores.items()]
            if sweep.value is not None and sweep.weights is not None:
                ends.append(self._kept(sweep.value.hole, sweep.weights, lines))
            return [*lines.lines, *ends]

        return by_mask(
            "static REGARD_INLINE void adjoints(const Tile& t, int i, int j, const Vec* fixed,\n"
            "                                   Vec* row, Vec* number)",
            body,
            "What W pairs give to every input.",
        )

    def _kept(self, score: n.Hole, value: n.Node, lines: Lines) -> str:
        """Return the line that keeps a value in the place of a score, which is no longer needed."""
        place = self.slots.scores[score]
        return f"store(t.scores[{place}] + i * SCORE_ROW + j, {lines.real(value)});"

    def _number_ends(self, lines: Lines) -> list[str]:
        """Return the lines that add up what inputs of one number a place receive."""
        return [
            _ADDED[kind].format(
                place=place,
                result=self.result[item],
                value=lines.real(self.sweep.numbers[item]),
            )
            for kind, items in self.by_place.items()
            for place, item in enumerate(items)
        ]

    def _table_ends(self, lines: Lines) -> list[str]:
        """Return the lines that add up what elements of tables receive."""
        ends = []
        for item, node, value in self.sweep.tables:
            if isinstance(node, n.Gather):
                place = f"{self.result[item]}, {self.slots.place_in_table(node, lines)}"
            else:
                at = "i" if item.kind == "query_table" else "j"
                place = f"{self.result[item]}, {at}, {self.slots.place_in_row(node, lines)}"
            ends.append(f"t.add_to_{item.kind}({place}, {lines.real(value)});")
        return ends

    def _channel_adjoints(self) -> list[str]:
        """Return the functions of what channel sums give to the rows they are made of."""
        lines: list[str] = []
        calls: list[str] = []
        for k, one in enumerate(self.sweep.split.sums.values()):
            if one.hole in self.sweep.scores:
                lines += self.slots.channel_adjoints(k, one, self.sweep.wanted)
                calls += self._channel_call(k, one)
        ends = [
            f"add_transposed(t, t.call->results[{self.result[item]}], "
            f"task.right_sums[{self.slots.rights.index(item)}], "
            f"t.call->inputs[{self.slots.index(item)}].width);"
            for item in self._channel_rights()
        ]
        signature = (
            "template <class Task, class Lefts>\n"
            "static void spread_channel_sums(const Tile& t, Task& task, const Lefts& left,\n"
            "                                const Laid* right, int64_t kb, int64_t columns)"
        )
        return [
            *lines,
            *function(signature, calls, "What a tile's channel sums give to their rows."),
            *function(
                "template <class Task> static void finish_channel_sums(const Tile& t, Task& task)",
                ends,
                "What a block of keys has received.",
            ),
        ]

    def _channel_rights(self) -> list[Input]:
        rows = [x for one in self.sweep.split.sums.values() for x in one.inputs]
        return [x for x in dict.fromkeys(rows) if x.kind == "key_row" and x in self.result]

    def _channel_call(self, k: int, one: ChannelSum) -> list[str]:
        """Return the lines that spread one channel sum, given where its inputs' results lie."""
        sides = channel_sides(one)
        lefts = [self._result_at(item, "t.i0") for item in sides["query_row"]]
        arrays = [self._result_at(item, "0") for item in sides["channels"]]
        widths = [
            f"t.call->results[{self.result[item]}].by_row" if item in self.result else "0"
            for item in sides["query_row"]
        ]
        rights = [
            f"task.right_sums[{self.slots.rights.index(item)}]"
            if item in self.result
            else "nullptr"
            for item in sides["key_row"]
        ]
        body = [
            f"real* const lefts[] = {{{', '.join(lefts) or 'nullptr'}}};",
            f"const int64_t widths[] = {{{', '.join(widths) or '0'}}};",
            f"real* const rights[] = {{{', '.join(rights) or 'nullptr'}}};",
            f"real* const arrays[] = {{{', '.join(arrays) or 'nullptr'}}};",
            f"spread_channels<ChannelAdjoints{k}>(t, left, right, kb, columns, "
            f"t.scores[{self.slots.scores[one.hole]}],",
            "                                  lefts, widths, rights, arrays, task.lanes_kept,",
            f"                                  task.kept[{k}]);",
        ]
        return ["{", *indent(body), "}"]

    def _result_at(self, item: Input, row: str) -> str:
        """Return where an input's result lies, from a row on; null if nobody wants it."""
        if item not in self.result:
            return "nullptr"
        return f"t.call->results[{self.result[item]}].at(t.chunk, t.b, t.h, {row})"


def _flags(name: str, values: Iterable[bool]) -> str:
    """Return the declaration of an array of flags, which is never empty."""
    listed = ", ".join(str(value).lower() for value in values) or "false"
    return f"static constexpr bool {name}[] = {{{listed}}};"
