"""Where a kernel finds its inputs: arguments that tell where they lie, lines that load them.

A kernel takes one block of one side, the major side, and loops over blocks of the other. What the
major side or a head decides is loaded before the loops, all else in them. Leaves to others: what
the inputs are (`passes/split_pairs`), what is computed from them (`rowkernel`, `keykernel`), the
values of the arguments (`arguments`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from regard.backends.cpu.seen import Seen
from regard.backends.cpu.seen import may_be_hidden as score_may_be_hidden
from regard.backends.cpu.slots import place_kind
from regard.backends.triton.emit import HIDDEN, Lines, Value, all_of
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.passes.split_pairs import ChannelSum, Input, Split, keys_of

# What each kind of input varies along.
SIDES = {
    "number": "", "channels": "", "table": "", "query": "i", "query_row": "i", "query_table": "i",
    "key": "j", "key_row": "j", "key_table": "j", "pair": "ij", "diagonal": "ij",
    "choice": "ij", "listed": "ij", "placed": "ij",
}  # fmt: skip
# The arguments that tell where an input of each kind lies, beside its address.
ARGUMENTS = {
    "number": "b h share", "query": "b h r share", "key": "b h r share",
    "query_row": "b h r c share", "key_row": "b h r c share", "channels": "b h share",
    "pair": "b h r c share", "diagonal": "b h share s0", "table": "h share s0 s1 s2",
    "query_table": "b h r share s0", "key_table": "b h r share s0",
    "choice": "b h r share s0", "listed": "b h r share s0", "placed": "b h r share s0",
}  # fmt: skip
WITH_WIDTH = ("query_row", "key_row", "channels")
# How rows are called: the first of a block, their numbers within it and in all, and their end.
_ROWS = {"i": ("i0", "row", "i", "rows_end", "[:, None]"),
         "j": ("j0", "column", "j", "keys_end", "[None, :]")}  # fmt: skip


class Form(NamedTuple):
    """How the inputs of a kernel are read, which its text depends on.

    Attributes:
        kinds: What each input is read as: "real", "int" or "bool".
        exact: Whether the channels of each input fill a tile, a power of two.
    """

    kinds: tuple[str, ...]
    exact: tuple[bool, ...]


@dataclass
class Places:
    """The places of a split's inputs in one kernel.

    Attributes:
        split: The inputs, dots and channel sums.
        form: How inputs are read.
        major: "i" if the kernel takes a block of query rows, "j" if one of keys.
        outer: The lines before the loops.
        used: The inputs that are read.
    """

    split: Split
    form: Form
    major: str
    outer: list[str] = field(default_factory=list)
    used: dict[Input, None] = field(default_factory=dict)
    _loaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.inputs = list(self.split.inputs.values())
        self.index = {item: k for k, item in enumerate(self.inputs)}
        self.by_hole: dict[n.Node, Input] = {item.hole: item for item in self.inputs}
        self.scores: dict[n.Node, str] = {}
        self.scores |= {dot.hole: f"dot{k}" for k, dot in enumerate(self.split.dots.values())}
        self.scores |= {one.hole: f"sum{k}" for k, one in enumerate(self.split.sums.values())}

    def kind(self, item: Input) -> str:
        """Return what an input is read as."""
        return self.form.kinds[self.index[item]]

    def name(self, item: Input) -> str:
        """Return the name of an input, from which those of its arguments are made."""
        self.used[item] = None
        name = f"in{self.index[item]}"
        if name + "_head" not in self._loaded:
            self._loaded.add(name + "_head")
            told = ARGUMENTS[place_kind(item)].split()
            batch = f" + b * {name}_b" if "b" in told else ""
            self.outer.append(f"{name}_head = {name}_ptr{batch} + h // {name}_share * {name}_h")
        return name

    # ── Loading ──────────────────────────────────────────────────────────────────────────────
    def rows(self, item: Input, body: "Body") -> str:
        """Return the name of an input's rows with channels in the tile, loaded once.

        Args:
            item: A "query_row" or a "key_row".
            body: The stretch in which it is read.

        Returns:
            A tile (rows, channels) in the dtype the input is stored in.
        """
        name, k, side = self.name(item), self.index[item], SIDES[item.kind]
        first, within, number, end, _ = _ROWS[side]
        masks = [f"({number} < {end})[:, None]"] if self._partial(side, body) else []
        if not self.form.exact[k]:
            masks.append(f"(tl.arange(0, C{k}) < W{k})[None, :]")
        mask = f", mask={' & '.join(masks)}, other=0.0" if masks else ""
        at = f"{name}_head + {first} * {name}_r + {within}[:, None] * {name}_r"
        channels = f"tl.arange(0, C{k})[None, :] * {name}_c"
        self._once(f"{name}_at", f"{at} + {channels}", side, body)
        return self._once(name, f"tl.load({name}_at{mask})", side, body)

    def number_of(self, item: Input, body: "Body") -> str:
        """Return the name of an input of one number a head, a row or a key, loaded once."""
        name, side = self.name(item), SIDES[place_kind(item)]
        if not side:
            text = f"tl.load({name}_head)"
        else:
            first, within, number, end, _ = _ROWS[side]
            mask = f", mask={number} < {end}, other=0" if self._partial(side, body) else ""
            text = f"tl.load({name}_head + {first} * {name}_r + {within} * {name}_r{mask})"
        return self._once(name, self._as_kind(item, text), side, body)

    def channel(self, item: Input, body: "Body") -> Value:
        """Return channel `c` of an input of a channel sum."""
        name, side = self.name(item), SIDES[item.kind]
        if not side:
            return Value(f"tl.load({name}_head + c).to(REAL)", "real")
        first, within, number, end, spread = _ROWS[side]
        mask = f", mask={number} < {end}, other=0" if self._partial(side, body) else ""
        at = f"{name}_head + {first} * {name}_r + {within} * {name}_r + c * {name}_c"
        return Value(f"tl.load({at}{mask}).to(REAL){spread}", "real", side)

    def _partial(self, side: str, body: "Body") -> bool:
        return body.masked or side == self.major

    def _once(self, name: str, text: str, side: str, body: "Body") -> str:
        fixed = side in ("", self.major)
        known = self._loaded if fixed else body.loaded
        if name not in known:
            known.add(name)
            (self.outer if fixed else body.lines.lines).append(f"{name} = {text}")
        return name

    def _as_kind(self, item: Input, text: str) -> str:
        if self.kind(item) == "bool":
            return f"{text} != 0"
        if self.kind(item) == "real":
            return f"{text}.to(REAL)"
        # Positions are counted in 32 bits; whole numbers of data may be wider.
        return f"{text}.to(tl.int32)" if isinstance(item.node, n.Index) else text

    # ── Reading in expressions ───────────────────────────────────────────────────────────────
    def at_pair(self, node: n.Node, body: "Body") -> Value | None:
        """Return how a node is read at the pairs of a tile, or None if it is computed."""
        match node:
            case n.Index(name="i"):
                return Value("i[:, None]", "int", "i")
            case n.Index(name="j"):
                return Value("j[None, :]", "int", "j")
            case n.Gather():
                return self._table(node, body)
            case n.Pick():
                return self._pick(node, body)
            case n.Keep():
                return self._draw(node, body)
            case n.Hole() if node in self.scores:
                return Value(self.scores[node], "real", "ij")
            case n.Hole() if node in self.by_hole:
                return self._input(self.by_hole[node], body)
        return None

    def at_row(self, node: n.Node, body: "Body") -> Value | None:
        """Return how a node is read for each query row alone, (rows,), or None if computed."""
        if node is n.Index("i"):
            return Value("i", "int", "i")
        item = self.by_hole.get(node) if isinstance(node, n.Hole) else None
        if item is None:
            return None
        side = SIDES[place_kind(item)]
        if side not in ("", "i") or item.kind == "query_row":
            raise UnsupportedError(f"a kernel reads no {item.kind.replace('_', ' ')} of a row")
        return Value(self.number_of(item, body), self.kind(item), side)

    def _input(self, item: Input, body: "Body") -> Value:
        kind, place = self.kind(item), place_kind(item)
        side = SIDES[place]
        if place in ("choice", "placed"):
            return self._listed(item, body)
        if side == "ij":
            name = self.name(item)
            if place == "pair":
                at = f"i[:, None].to(tl.int64) * {name}_r + j[None, :] * {name}_c"
            else:
                at = "(N - 1 - i[:, None] + j[None, :])"
            text = f"tl.load({name}_head + {at}, mask=inside, other=0)"
            body.needs_inside = True
            return Value(self._as_kind(item, text), kind, side)
        name = self.number_of(item, body)
        return Value(name + (_ROWS[side][4] if side else ""), kind, side)

    def _listed(self, item: Input, body: "Body") -> Value:
        """Return whether a query row's list names a key, or the number that it places there."""
        keys = item if item.kind == "choice" else self.split.inputs[keys_of(item.hole)]
        name, lines = self.name(keys), body.lines
        starts = {one: f"{one}_head + tl.minimum(i, N - 1)[:, None].to(tl.int64) * {one}_r"
                  for one in (name, self.name(item))}  # fmt: skip
        call = f"{lines.calls('place_in_list')}({starts[name]}, j[None, :], {name}_s0)"
        place = lines.name(Value(call, "int", "ij")).text
        at = f"tl.minimum({place}, {name}_s0 - 1)"
        named = f"({place} < {name}_s0) & (tl.load({starts[name]} + {at}) == j[None, :])"
        if keys is item:
            return Value(named, "bool", "ij")
        value = f"tl.load({starts[self.name(item)]} + {at}).to(REAL)"
        return Value(f"tl.where({named}, {value}, 0.0)", "real", "ij")

    def place_in_table(self, node: n.Gather, body: "Body") -> Value:
        """Return the place of a table's element, clamped as indices are."""
        name = self.name(self.split.inputs[node.array])
        if len(node.indices) > 3:
            raise UnsupportedError(f"'{node.array.name}' has more than 3 indices")
        flat, axes = "", ""
        for number, index in enumerate(node.indices):
            inside = self.clamped(index, f"{name}_s{number}", body)
            flat = f"({flat}) * {name}_s{number} + {inside.text}" if flat else inside.text
            axes = "".join(axis for axis in "ij" if axis in axes + inside.axes)
        return body.lines.name(Value(flat, "int", axes))

    def clamped(self, index: n.Node, size: str, body: "Body") -> Value:
        """Return an index at pairs, clamped to a size.

        Args:
            index: The index.
            size: How many elements there are.
            body: The stretch in which it is read.

        Returns:
            Whole numbers.
        """
        found = body.lines.value(index)
        text = f"({found.text}).to(tl.int32)" if found.kind == "bool" else found.text
        return Value(f"tl.minimum(tl.maximum({text}, 0), {size} - 1)", "int", found.axes)

    def _table(self, node: n.Gather, body: "Body") -> Value:
        item = self.split.inputs[node.array]
        place = self.place_in_table(node, body)
        text = f"tl.load({self.name(item)}_head + {place.text})"
        return Value(self._as_kind(item, text), self.kind(item), place.axes)

    def place_in_row(self, node: n.Pick, body: "Body") -> Value:
        """Return the channel that each pair picks of a row, clamped as indices are."""
        item = self.by_hole[node.rows]
        return body.lines.name(self.clamped(node.index, f"{self.name(item)}_s0", body))

    def _pick(self, node: n.Pick, body: "Body") -> Value:
        item = self.by_hole[node.rows]
        name, place = self.name(item), self.place_in_row(node, body)
        number, spread = ("i", "[:, None]") if SIDES[item.kind] == "i" else ("j", "[None, :]")
        at = f"{number}{spread}.to(tl.int64) * {name}_r + {place.text}"
        body.needs_inside = True
        text = f"tl.load({name}_head + {at}, mask=inside, other=0).to(REAL)"
        return Value(text, "real", "ij")

    def _draw(self, keep: n.Keep, body: "Body") -> Value:
        lines, k = body.lines, list(self.split.draws).index(keep)
        state = f"tl.full([1, 1], draw{k}, tl.uint32)"
        mix = lines.calls("mix_in")
        for axis, word in (("b", "b"), ("h", "h + first_head"), ("i", "i[:, None]")):
            state = f"{mix}({state}, {word})" if axis in keep.axes else state
        bits = f"{lines.calls('random_bits')}({mix}({state}, j[None, :]))"
        bits = lines.name(Value(bits, "int", "ij"))
        least = self._input(self.split.draws[keep], body)
        return Value(f"{bits.text} >= {least.text}", "bool", "ij")


@dataclass
class Body:
    """One stretch of a kernel: the lines before its loops' end, in masked blocks or in full ones.

    Attributes:
        places: Where inputs are found.
        lines: Its lines.
        masked: Whether rows and keys beyond the last, and the program's conditions, are tested.
        loaded: The inputs that its lines have loaded.
        needs_inside: Whether which pairs exist is read by name.
        scores_hide: Whether a score of -inf hides pairs that the conditions admit.
    """

    places: Places
    lines: Lines
    masked: bool
    loaded: set[str] = field(default_factory=set)
    needs_inside: bool = False
    scores_hide: bool = False

    def seen(self, seen: Seen) -> Value:
        """Return the condition under which a term sees a pair."""
        parts = []
        if self.masked:
            self.needs_inside = True
            parts.append(Value("inside", "bool", "ij"))
            if seen.where is not None:
                parts.append(self.lines.condition(seen.where))
        if seen.score is not None and score_may_be_hidden(seen.score):
            score = self.lines.value(seen.score)
            parts.append(Value(f"({score.text} != {HIDDEN})", "bool", score.axes))
        return self.lines.name(all_of(parts))

    @property
    def hides(self) -> bool:
        """Whether some pair of the block may be hidden."""
        return self.masked or self.scores_hide

    def clean_rows(self, item: Input) -> str:
        """Return the name of rows that a tile of pairs is multiplied with, once.

        What is hidden is multiplied by 0, and must not be NaN or infinite.

        Args:
            item: A row of the side that is looped over.

        Returns:
            The rows, 0 where they are not finite if some pair may be hidden.
        """
        name = self.places.rows(item, self)
        if not self.hides:
            return name
        if f"{name}_clean" not in self.loaded:
            self.loaded.add(f"{name}_clean")
            finite = f'tl.abs({name}.to(REAL)) < float("inf")'
            self.lines.write(f"{name}_clean = tl.where({finite}, {name}, 0.0).to({name}.dtype)")
        return f"{name}_clean"

    def dots(self, holes: Iterable[n.Node]) -> None:
        """Write the lines of dots and channel sums.

        Args:
            holes: Those that are read.
        """
        wanted, places, lines = set(holes), self.places, self.lines
        for dot in places.split.dots.values():
            if dot.hole in wanted:
                left, right = places.rows(dot.left, self), places.rows(dot.right, self)
                call = f"{lines.calls('product')}({left}, {right}, tl.zeros([BI, BJ], REAL), UNIT)"
                lines.write(f"{places.scores[dot.hole]} = {call}")
        for k, one in enumerate(places.split.sums.values()):
            if one.hole in wanted:
                self._channel_sum(k, one)

    def _channel_sum(self, k: int, one: ChannelSum) -> None:
        inner = self.channel_lines()
        value = inner.real(one.body)
        self.lines.write(f"sum{k} = tl.zeros([BI, BJ], REAL)", f"for c in range(0, CHANNELS{k}):")
        self.lines.write(*(f"    {line}" for line in [*inner.lines, f"sum{k} += {value}"]))

    def channel_lines(self, more: dict[n.Node, Value] | None = None) -> Lines:
        """Return lines that read channel `c` of the inputs of channel sums.

        Args:
            more: How further nodes are read.

        Returns:
            The lines, none so far.
        """

        def leaf(node: n.Node, lines: Lines) -> Value | None:
            if more and node in more:
                return more[node]
            item = self.places.by_hole.get(node) if isinstance(node, n.Hole) else None
            return None if item is None else lines.name(self.places.channel(item, self))

        return Lines(leaf, self.lines.names, self.lines.used)


def scores_hide(seen: dict[str, Seen]) -> bool:
    """Tell whether the score of some term may be -inf, which hides a pair.

    Args:
        seen: The terms' conditions, by name.

    Returns:
        Whether any may.
    """
    return any(x.score is not None and score_may_be_hidden(x.score) for x in seen.values())
