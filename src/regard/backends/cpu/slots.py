"""Where a kernel finds its inputs: each has a number among the call's, and a place in a tile.

Leaves to others: what the inputs are (`passes/split_pairs`), what is computed from them.
"""

from collections.abc import Callable, Sequence

from regard.backends.cpu.emit import Lines, Read, function, indent
from regard.backends.cpu.seen import HIDDEN_DECLARATION
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.passes.differentiate import Adjoint, differentiate
from regard.passes.split_pairs import COSTLY, ChannelSum, Input, Split, keys_of

# Inputs of one number a place, by what they vary along; their lists in C++, and those lists' sizes.
_LISTS = {
    "number": ("numbers", "NUMBERS"),
    "query": ("queries", "QUERIES"),
    "key": ("keys", "KEYS"),
    "pair": ("pairs", "PAIRS"),
}
# How inputs are read at W pairs of query row i, from key j on, after their place in a list.
_AT_PAIR = {"number": "{}", "query": "{}, i", "key": "{}, j", "pair": "{}, j"}
# The words of a table's `Input` that hold the sizes of its dimensions.
_SIZES = ("by_row", "by_column", "width")
# What one channel's sum receives.
# Operations of finite numbers that may be infinite or NaN.
_NOT_EVERYWHERE = ("div", "exp", "log", "pow", "sqrt")
_RECEIVED = n.Hole("g", "bhij")
# As many as `Tile` holds, in template/tile.h.
_MOST_DRAWS, _MOST_CHOICES, _MOST_PLACED = 8, 4, 2
# How the rows of a channel sum are called in C++: of the query, of W keys, of the head.
_LETTERS = {"query_row": "u", "key_row": "w", "channels": "a"}


class Slots:
    """The places of a split's inputs.

    Args:
        split: The inputs, dots and channel sums.
        kinds: What each input is read as: "real", "int" or "bool".

    Raises:
        UnsupportedError: If there are more random draws, or choices of keys, than a kernel has room
            for.
    """

    def __init__(self, split: Split, kinds: dict[Input, str]) -> None:
        self.split, self.kinds = split, kinds
        self.inputs = list(split.inputs.values())
        self._index = {item: k for k, item in enumerate(self.inputs)}
        self._by_hole: dict[n.Node, Input] = {item.hole: item for item in self.inputs}
        self.lists: dict[str, list[Input]] = {name: [] for name in _LISTS}
        for item in self.inputs:
            name = place_kind(item)
            if name in self.lists:
                self.lists[name].append(item)
        dots, sums = split.dots.values(), split.sums.values()
        rows = [row for dot in dots for row in (dot.left, dot.right)]
        rows += [row for one in sums for row in one.inputs]
        self.lefts = [row for row in dict.fromkeys(rows) if row.kind == "query_row"]
        self.rights = [row for row in dict.fromkeys(rows) if row.kind == "key_row"]
        self.scores = {one.hole: k for k, one in enumerate([*dots, *sums])}
        self.kept: dict[n.Hole, list[n.Node]] = {}
        self.draws = list(split.draws.items())
        if len(self.draws) > _MOST_DRAWS:
            raise UnsupportedError(f"a kernel draws at most {_MOST_DRAWS} times at a pair")
        self.placed = [item for item in self.inputs if item.kind == "placed"]
        if len(self.placed) > _MOST_PLACED:
            raise UnsupportedError(
                f"a kernel reads at most {_MOST_PLACED} lists of largest weights"
            )
        self.choices = [item for item in self.inputs if item.kind == "choice"]
        if len(self.choices) > _MOST_CHOICES:
            raise UnsupportedError(f"a kernel reads at most {_MOST_CHOICES} choices of keys")

    def index(self, item: Input) -> int:
        """Return an input's number among the call's."""
        return self._index[item]

    def pair(self, node: n.Node, lines: Lines) -> Read | None:
        """Return how a node is read at W pairs, or None if it is computed."""
        if isinstance(node, n.Gather):
            return self._table(node, lines)
        if isinstance(node, n.Pick):
            item, place = self._by_hole[node.rows], self.place_in_row(node, lines)
            at = "i" if item.kind == "query_table" else "j"
            return f"t.{item.kind}({self.index(item)}, {at}, {place})", "real"
        if isinstance(node, n.Keep):
            return self._draw(node, lines)
        if isinstance(node, n.Hole) and node in self.scores:
            return f"t.score({self.scores[node]}, i, j)", "real"
        if isinstance(node, n.Index):
            at = {"i": "splat_int(t.i0 + i)", "j": "lanes() + integer(t.j0 + j)"}
            return at[node.name], "int"
        item = self._by_hole.get(node) if isinstance(node, n.Hole) else None
        if item is None:
            return None
        kind = self.kinds[item]
        if item.kind in ("choice", "placed"):
            return self._listed(item)
        if item.kind == "diagonal":
            if kind == "real":
                return f"load(t.diagonal<real>({self.index(item)}, i) + j)", kind
            return f"load_int(t.diagonal<integer>({self.index(item)}, i) + j)", kind
        return self._slot(item, _AT_PAIR)

    def _listed(self, item: Input) -> Read:
        if item.kind == "choice":
            return f"load_int(t.chosen[{self.choices.index(item)}] + j)", "bool"
        return f"load(t.placed[{self.placed.index(item)}] + j)", "real"

    def is_of_row(self, node: n.Hole) -> bool:
        """Tell whether an input is a number of a head or of a query row."""
        item = self._by_hole.get(node)
        return item is not None and place_kind(item) in ("number", "query")

    def rows(self, node: n.Node) -> Read | None:
        """Return how a node is read at W query rows, or None if it is computed."""
        if node is n.Index("i"):
            return "lanes() + integer(t.i0 + i)", "int"
        item = self._by_hole.get(node) if isinstance(node, n.Hole) else None
        if item is None:
            return None
        if place_kind(item) == "query":
            place = self.lists["query"].index(item)
            whole = "" if self.kinds[item] == "real" else "whole_"
            return f"t.{whole}rows_of({place}, i)", self.kinds[item]
        return self._slot(item, {"number": "{}"})

    def row_at(self, node: n.Node) -> Read | None:
        """Return how a node is read at one query row, in every lane."""
        if node is n.Index("i"):
            return "splat_int(t.i0 + i)", "int"
        item = self._by_hole.get(node) if isinstance(node, n.Hole) else None
        return None if item is None else self._slot(item, {"number": "{}", "query": "{}, i"})

    def declarations(self) -> list[str]:
        """Return the declarations by which the template reads tiles."""
        lines = [HIDDEN_DECLARATION]
        for name, (plural, title) in _LISTS.items():
            slots = [
                f"{{{self.index(item)}, {str(self.kinds[item] == 'real').lower()}}}"
                for item in self.lists[name]
            ]
            lines.append(array("Slot", title, plural, slots, "{-1, true}"))
        lines.append(array("int", "LEFTS", "lefts", [self.index(x) for x in self.lefts]))
        lines.append(array("int", "RIGHTS", "rights", [self.index(x) for x in self.rights]))
        arrays = [self.index(item) for item in self.inputs if item.kind == "channels"]
        lines.append(array("int", "CHANNEL_ARRAYS", "channel_arrays", arrays))
        dots = [
            f"{{{self.lefts.index(dot.left)}, {self.rights.index(dot.right)}}}"
            for dot in self.split.dots.values()
        ]
        lines.append(array("Dot", "DOTS", "dots", dots, "{-1, -1}"))
        lines.append(f"static constexpr int CHANNEL_SUMS = {len(self.split.sums)};")
        return lines

    def start_row(self) -> list[str]:
        """Return the function that prepares the draws and chosen keys of one query row."""
        body = []
        for k, (keep, _) in enumerate(self.draws):
            flags = ", ".join(str(axis in keep.axes).lower() for axis in "bhi")
            body.append(f"t.draws[{k}] = t.drawn({keep.place}, {flags}, i);")
        about = "The random state of each draw in query row i."
        if self.choices:
            about = "What is drawn and chosen in query row i."
        for k, item in enumerate(self.choices):
            body.append(f"t.choose({k}, {self.index(item)}, i);")
        for k, item in enumerate(self.placed):
            keys = self.index(self.split.inputs[keys_of(item.node)])
            body.append(f"t.place({k}, {keys}, {self.index(item)}, i);")
        return function("static void start_row(Tile& t, int i)", body, about)

    def channel_functions(self) -> list[str]:
        """Return the functions of the sums over channels, and the one that calls them."""
        lines: list[str] = []
        calls = []
        for k, one in enumerate(self.split.sums.values()):
            lines += self._channel_sum(k, one)
            score = f"t.scores[{self.scores[one.hole]}]"
            kept = f"kept[{k}]" if self.kept.get(one.hole) else "nullptr"
            calls.append(
                f"sum_channels<Channels{k}>(t, left, right, kb, columns, {score}, {kept});"
            )
        signature = (
            "template <class Lefts>\n"
            "static void channel_sums(const Tile& t, const Lefts& left, const Laid* right, "
            "int64_t kb,\n                         int64_t columns, Vec* const* kept)"
        )
        return [
            *lines,
            *function(signature, calls, "The sums over channels of a tile's pairs."),
            *self.start_row(),
        ]

    def _channel_reader(self, one: ChannelSum) -> Callable[[n.Node, Lines], Read | None]:
        """Return how a channel sum's body reads its inputs."""
        sides = channel_sides(one)

        def leaf(node: n.Node, _: Lines) -> Read | None:
            item = self._by_hole.get(node) if isinstance(node, n.Hole) else None
            if item is None:
                return None
            return f"{_LETTERS[item.kind]}[{sides[item.kind].index(item)}]", "real"

        return leaf

    def _channel_sum(self, k: int, one: ChannelSum) -> list[str]:
        lines = Lines(self._channel_reader(one))
        value = lines.real(one.body)
        for place, node in enumerate(self.kept.get(one.hole, [])):
            lines.write(f"kept[{place}] = {lines.real(node)};")
        sides = channel_sides(one)
        places = [
            f"static constexpr int KEPT = {len(self.kept.get(one.hole, []))};",
            array("int", "LEFTS", "lefts", [self.lefts.index(x) for x in sides["query_row"]]),
            array("int", "RIGHTS", "rights", [self.rights.index(x) for x in sides["key_row"]]),
            array("int", "ARRAYS", "arrays", [self.index(x) for x in sides["channels"]]),
        ]
        signature = (
            "static REGARD_INLINE Vec at(const Tile& t, const Vec* u, const Vec* w, const Vec* a,\n"
            "                            Vec* kept)"
        )
        body = [f"{signature} {{", *indent([*lines.lines, f"return {value};"]), "}"]
        return [
            "",
            f"  // One channel of {one.hole.name}: u of the query, w of W keys, a of the head.",
            f"  struct Channels{k} {{",
            *indent([*places, *body], 4),
            "  };",
        ]

    def keep_channels(self, one: ChannelSum, wanted: set[Input]) -> None:
        """Keep what a channel sum computes at length for the gradient that reads it again.

        Args:
            one: The sum.
            wanted: The inputs that receive anything.
        """
        values = [value for hole, value in channel_gradient(one).items()
                  if self._by_hole[hole] in wanted]  # fmt: skip
        read = {node for value in values for node in n.walk(value)}
        self.kept[one.hole] = [
            node
            for node in n.walk(one.body)
            if isinstance(node, n.Call) and node.op in COSTLY and node in read
        ]

    def channel_adjoints(self, k: int, one: ChannelSum, wanted: set[Input]) -> list[str]:
        """Return the function of a channel sum's gradient, at one channel of W pairs.

        Args:
            k: The sum's number.
            one: The sum.
            wanted: The inputs that receive anything.

        Returns:
            A struct's lines, after an empty one.
        """
        leaf, kept = self._channel_reader(one), self.kept.get(one.hole, [])
        found = channel_gradient(one)

        def read(node: n.Node, lines: Lines) -> Read | None:
            if node in kept:
                return f"kept[{kept.index(node)}]", "real"
            return ("g", "real") if node is _RECEIVED else leaf(node, lines)

        lines, guarded = Lines(read), may_be_undefined(one)
        for kind, items in channel_sides(one).items():
            for place, item in enumerate(items):
                value = found.get(item.hole)
                text = "Vec{}" if value is None or item not in wanted else lines.real(value)
                if guarded and text != "Vec{}":
                    text = f"select(g == real(0), Vec{{}}, {text})"
                lines.write(f"d{_LETTERS[kind]}[{place}] = {text};")
        return [
            "",
            f"  // What one channel of {one.hole.name} gives to each; g is what the sum receives.",
            f"  struct ChannelAdjoints{k} : Channels{k} {{",
            "    static REGARD_INLINE void spread(const Tile& t, Vec g,",
            "                                     const Vec* u, const Vec* w, const Vec* a,",
            "                                     const Vec* kept, Vec* du, Vec* dw, Vec* da) {",
            *indent(lines.lines, 6),
            "    }",
            "  };",
        ]

    def _slot(self, item: Input, places: dict[str, str]) -> Read:
        """Return how an input is read, by what it varies along and where that lies."""
        name, kind = place_kind(item), self.kinds[item]
        if name not in places:
            raise UnsupportedError(f"a kernel reads no {name.replace('_', ' ')} there")
        whole = "" if kind == "real" else "whole_"
        return f"t.{whole}{name}({places[name].format(self.lists[name].index(item))})", kind

    def _table(self, node: n.Gather, lines: Lines) -> Read:
        item = self.split.inputs[node.array]
        number, kind = self.index(item), self.kinds[item]
        place = self.place_in_table(node, lines)
        if kind == "real":
            return f"gather(t.table<real>({number}), {place})", kind
        return f"gather_int(t.table<integer>({number}), {place})", kind

    def place_in_table(self, node: n.Gather, lines: Lines) -> str:
        """Return the place of a table's element, clamped as indices are.

        Args:
            node: The element at W pairs.
            lines: Where the indices are computed.

        Returns:
            The name of whole numbers.

        Raises:
            UnsupportedError: If the table has more dimensions than an input has sizes.
        """
        if len(node.indices) > len(_SIZES):
            raise UnsupportedError(f"'{node.array.name}' has more than {len(_SIZES)} indices")
        number = self.index(self.split.inputs[node.array])
        flat = ""
        for index, size in zip(node.indices, _SIZES, strict=False):
            name, kind = lines.value(index)
            name = f"-{name}" if kind == "bool" else name
            most = f"splat_int(integer(t.call->inputs[{number}].{size}))"
            inside = f"vmin(vmax({name}, Int{{}}), {most} - 1)"
            flat, _ = lines.name(f"{flat} * {most} + {inside}" if flat else inside, "int")
        return flat

    def place_in_row(self, node: n.Pick, lines: Lines) -> str:
        """Return the place of the channel that W pairs pick of a row, clamped as indices are.

        Args:
            node: What they pick.
            lines: Where the index is computed.

        Returns:
            The name of whole numbers.
        """
        number = self.index(self._by_hole[node.rows])
        return clamped(node.index, f"t.call->inputs[{number}].width", lines)

    def _draw(self, keep: n.Keep, lines: Lines) -> Read:
        places = [drawn for drawn, _ in self.draws]
        k = places.index(keep)
        threshold, _ = lines.name(*self._slot(self.draws[k][1], _AT_PAIR))
        column = "lanes() + integer(t.j0 + j)"
        return f"(Int)(keep_bits(t.draws[{k}], {column}) >= (Uint){threshold})", "bool"


def channel_gradient(one: ChannelSum) -> dict[n.Node, n.Node]:
    """Return what each input of a channel sum receives, from the Hole that the sum receives.

    Args:
        one: The sum.

    Returns:
        Expressions of one channel, by the inputs' holes.
    """
    inputs = {item.hole for item in one.inputs}
    return differentiate({n.Reduce(one.body, "c"): Adjoint(_RECEIVED)}, inputs).dense


def may_be_undefined(one: ChannelSum) -> bool:
    """Tell whether a channel sum of finite rows may be infinite or NaN.

    A hidden pair's sum receives 0, which is then not to be multiplied with what it is made of.

    Args:
        one: The sum.

    Returns:
        Whether it has an operation that is not finite everywhere.
    """
    nodes = n.walk(one.body)
    return any(isinstance(node, n.Call) and node.op in _NOT_EVERYWHERE for node in nodes)


def channel_sides(one: ChannelSum) -> dict[str, list[Input]]:
    """Return the inputs of a channel sum by side: "query_row", "key_row" and "channels"."""
    sides: dict[str, list[Input]] = {kind: [] for kind in _LETTERS}
    for item in one.inputs:
        sides[item.kind].append(item)
    return sides


def clamped(index: n.Node, size: str, lines: Lines) -> str:
    """Return an index at W pairs, clamped to a size.

    Args:
        index: The index.
        size: C++ of how many elements there are.
        lines: Where it is computed.

    Returns:
        The name of whole numbers.
    """
    name, kind = lines.value(index)
    name = f"-{name}" if kind == "bool" else name
    most = f"splat_int(integer({size}))"
    return lines.name(f"vmin(vmax({name}, Int{{}}), {most} - 1)", "int")[0]


def array(kind: str, size: str, name: str, values: Sequence[int | str], nothing: str = "-1") -> str:
    """Return the declarations of a constant array and of its size.

    Args:
        kind: The type of its elements.
        size: The name of its size.
        name: Its name.
        values: Its elements.
        nothing: The one element of an array that would be empty.

    Returns:
        One line.
    """
    listed = ", ".join(map(str, values)) or nothing
    return (
        f"static constexpr int {size} = {len(values)}; "
        f"static constexpr {kind} {name}[] = {{{listed}}};"
    )


def place_kind(item: Input) -> str:
    """Return what an input varies along; a threshold varies as its probability does.

    Args:
        item: The input.

    Returns:
        A kind of inputs, never "threshold".
    """
    if item.kind != "threshold":
        return item.kind
    assert isinstance(item.node, n.Keep)
    axes = axes_of(item.node.p)
    return "query" if "i" in axes else "key" if "j" in axes else "number"
