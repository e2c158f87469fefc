"""Triton of the adjoint sweep: what each input receives, in one kernel a side.

Scores are computed again from the row values that forward kept. The kernel of a side takes one of
its blocks, loops over the blocks of the other side that see it, and adds up what the inputs of its
own side receive, so that nothing is added twice in different orders but elements of tables, which
are added atomically. Leaves to others: the derivatives (`cpu/keysweep`), where inputs lie
(`places`), the call (`caller`).
"""

from collections.abc import Callable

from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.slots import (
    channel_gradient,
    channel_sides,
    may_be_undefined,
    place_kind,
)
from regard.backends.triton.emit import Lines, Value
from regard.backends.triton.places import SIDES, Body, Form, Places, scores_hide
from regard.backends.triton.text import Text, loops, opening
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.passes.split_pairs import ChannelSum, Input

# Which kernel adds up what each kind of input receives.
_MAJOR = {
    "query_row": "i", "query": "i", "number": "i", "channels": "i", "pair": "i", "diagonal": "i",
    "table": "i", "query_table": "i", "key_row": "j", "key": "j", "key_table": "j",
}  # fmt: skip
_RECEIVED = n.Hole("g", "bhij")


def major_of(item: Input) -> str:
    """Return the side whose kernel adds up what an input receives."""
    return _MAJOR[place_kind(item)]


class KeyKernel:
    """Writes the kernel of one side.

    Args:
        sweep: The adjoint sweep.
        form: How inputs are read.
        major: "i" for what query rows receive, "j" for what keys do.
    """

    def __init__(self, sweep: KeySweep, form: Form, major: str) -> None:
        self.sweep, self.major = sweep, major
        self.places = Places(sweep.split, form, major)
        self.wanted = [item for item in sweep.results if major_of(item) == major]
        self.used: set[str] = set()
        self._names = [0]
        self._reads_delta = False
        for item in self.wanted:
            self.places.name(item)

    def text(self) -> Text | None:
        """Return the kernel; None if its side receives nothing."""
        if not self.wanted:
            return None
        full, masked = self._body(False), self._body(True)
        starts = [f"{self._sum(item)} = tl.zeros({shape}, REAL)"
                  for item in self.wanted if (shape := self._shape(item))]  # fmt: skip
        if self._reads_delta and self.major == "i":
            starts.append(_DELTA.format(mask=", mask=i < rows_end, other=0"))
        body = [*opening(self.major), *self.places.outer, *starts]
        body += [*loops(full, masked, "j" if self.major == "i" else "i"), *self._finish()]
        results = [f"{self._sum(item)}_ptr" for item in self.wanted]
        results += ["delta_ptr"] if self._reads_delta else []
        return Text(self.places, body, results, self.used)

    def _sum(self, item: Input) -> str:
        return f"d{self.places.index[item]}"

    def _shape(self, item: Input) -> str | None:
        """Return the shape of what an input receives in one program; None if it goes to memory."""
        k = self.places.index[item]
        match place_kind(item):
            case "query_row":
                return f"[BI, C{k}]"
            case "key_row":
                return f"[BJ, C{k}]"
            case "query":
                return "[BI]"
            case "key":
                return "[BJ]"
            case "number":
                return "[BI]"
            case "channels":
                return f"[C{k}]"
        return None

    # ── The loops ────────────────────────────────────────────────────────────────────────────
    def _body(self, masked: bool) -> list[str]:
        body = Body(self.places, Lines(lambda *_: None, self._names, self.used), masked)
        body.scores_hide = scores_hide(self.sweep.seen)
        lines = body.lines = Lines(self._leaf(body), self._names, self.used)
        ends = Lines(self._leaf(body), self._names, self.used)
        body.dots(self._read_scores())
        for item in self.wanted:
            self._add(item, body, ends)
        self._products(body, ends)
        for k, one in enumerate(self.places.split.sums.values()):
            if one.hole in self.sweep.scores:
                self._channel_adjoints(k, one, body, ends)
        first = ["inside = (i < rows_end)[:, None] & (j < keys_end)[None, :]"]
        return [*(first if body.needs_inside else []), *lines.lines, *ends.lines]

    def _read_scores(self) -> set[n.Node]:
        """Return the dots and channel sums that some expression of this side reads."""
        roots = [self.sweep.numbers[x] for x in self.wanted if x in self.sweep.numbers]
        roots += [value for item, _, value in self.sweep.tables if item in self.wanted]
        roots += [node for item, node, _ in self.sweep.tables if item in self.wanted]
        roots += [value for hole, value in self.sweep.scores.items() if self._is_given(hole)]
        if self.sweep.value is not None and self.sweep.value.right in self.wanted:
            assert self.sweep.weights is not None
            roots.append(self.sweep.weights)
        seen = [x for one in self.sweep.seen.values() for x in (one.where, one.score)]
        return set(n.walk(*roots, *seen)) & self.places.scores.keys()

    def _is_given(self, hole: n.Node) -> bool:
        """Tell whether what a dot or a channel sum receives goes on to an input of this side."""
        split = self.places.split
        rows = [(dot.hole, (dot.left, dot.right)) for dot in split.dots.values()]
        rows += [(one.hole, one.inputs) for one in split.sums.values()]
        return any(item in self.wanted for at, items in rows if at is hole for item in items)

    def _leaf(self, body: Body) -> Callable[[n.Node, Lines], Value | None]:
        def read(node: n.Node, _: Lines) -> Value | None:
            if isinstance(node, n.Hole) and node.name.startswith("seen:"):
                return body.seen(self.sweep.seen[node.name[5:]])
            if isinstance(node, n.Hole) and node.name.startswith("gd:") and self.sweep.delta:
                return self._delta(body)
            return self.places.at_pair(node, body)

        return read

    def _delta(self, body: Body) -> Value:
        """Return r times what the one normaliser receives: do times the summed row."""
        self._reads_delta = True
        if self.major == "j" and "delta" not in body.loaded:
            body.loaded.add("delta")
            mask = ", mask=i < rows_end, other=0" if body.masked else ""
            body.lines.write(_DELTA.format(mask=mask))
        return Value("delta[:, None]", "real", "i")

    def _add(self, item: Input, body: Body, ends: Lines) -> None:
        """Write what an input without channels receives from a tile."""
        lines, name = body.lines, self._sum(item)
        value = self.sweep.numbers.get(item)
        if value is not None:
            match place_kind(item):
                case "query" | "number":
                    ends.write(f"{name} += tl.sum({lines.whole_tile(value)}, 1)")
                case "key":
                    ends.write(f"{name} += tl.sum({lines.whole_tile(value)}, 0)")
                case "pair":
                    at = "((bh * N + i[:, None]) * M + j[None, :])"
                    tile = lines.whole_tile(value)
                    ends.write(f"tl.store({name}_ptr + {at}, {tile}, mask=inside)")
                    body.needs_inside = True
                case "diagonal":
                    size = f"in{self.places.index[item]}_s0"
                    at = f"(bh * {size} + N - 1 - i[:, None] + j[None, :])"
                    ends.write(self._atomic(name, at, lines.whole_tile(value)))
                    body.needs_inside = True
        for table, node, given in self.sweep.tables:
            if table is item:
                body.needs_inside = True
                at = self._place(item, node, body)
                ends.write(self._atomic(name, at, lines.whole_tile(given)))

    def _place(self, item: Input, node: n.Gather | n.Pick, body: Body) -> str:
        """Return where an element lies that a pair reads, in what the input receives."""
        if isinstance(node, n.Gather):
            array = f"in{self.places.index[item]}"
            size = " * ".join(f"{array}_s{k}" for k in range(len(node.indices)))
            return f"bh * ({size}) + {self.places.place_in_table(node, body).text}"
        place, name = self.places.place_in_row(node, body), f"in{self.places.index[item]}"
        rows, at = ("N", "i[:, None]") if SIDES[item.kind] == "i" else ("M", "j[None, :]")
        return f"(bh * {rows} + {at}) * {name}_s0 + {place.text}"

    def _atomic(self, name: str, at: str, value: str) -> str:
        spread = f"{at} + tl.zeros([BI, BJ], tl.int64)"
        return f'tl.atomic_add({name}_ptr + {spread}, {value}, mask=inside, sem="relaxed")'

    def _products(self, body: Body, ends: Lines) -> None:
        """Write what dots give to their rows."""
        lines, places = body.lines, self.places
        for dot in places.split.dots.values():
            if dot is self.sweep.value:
                if dot.right not in self.wanted or self.sweep.weights is None:
                    continue
                given, to_left = self.sweep.weights, False
            elif dot.hole in self.sweep.scores:
                given, to_left = self.sweep.scores[dot.hole], dot.left in self.wanted
            else:
                continue
            multiply = lines.calls("multiply")
            if to_left:
                tile, rows = lines.whole_tile(given), body.clean_rows(dot.right)
                name = self._sum(dot.left)
                ends.write(f"{name} = {multiply}({tile}.to({rows}.dtype), {rows}, {name}, UNIT)")
            if dot.right in self.wanted:
                tile, rows = lines.whole_tile(given), body.clean_rows(dot.left)
                name, turned = self._sum(dot.right), f"tl.trans({tile}.to({rows}.dtype))"
                ends.write(f"{name} = {multiply}({turned}, {rows}, {name}, UNIT)")

    # ── Channel sums ─────────────────────────────────────────────────────────────────────────
    def _channel_adjoints(self, k: int, one: ChannelSum, body: Body, ends: Lines) -> None:
        """Write what a channel sum gives to its rows, channel by channel."""
        found, sides = channel_gradient(one), channel_sides(one)
        wanted = [item for items in sides.values() for item in items
                  if item in self.wanted and item.hole in found]  # fmt: skip
        if not wanted:
            return
        received = body.lines.whole_tile(self.sweep.scores[one.hole])
        inner = body.channel_lines({_RECEIVED: Value(received, "real", "ij")})
        for item in wanted:
            value = inner.whole_tile(found[item.hole])
            if may_be_undefined(one):
                value = f"tl.where({received} == 0, 0.0, {value})"
            inner.write(self._channel_sum(k, item, value))
        ends.write(f"for c in range(0, CHANNELS{k}):", *(f"    {line}" for line in inner.lines))

    def _channel_sum(self, k: int, item: Input, value: str) -> str:
        """Return the line that adds channel c of what an input of a channel sum receives."""
        name, at = self._sum(item), self.places.index[item]
        match item.kind:
            case "query_row":
                return (f"{name} += tl.where(tl.arange(0, C{at})[None, :] == c, "
                        f"tl.sum({value}, 1)[:, None], 0.0)")  # fmt: skip
            case "key_row":
                return (f"{name} += tl.where(tl.arange(0, C{at})[None, :] == c, "
                        f"tl.sum({value}, 0)[:, None], 0.0)")  # fmt: skip
        if item.kind != "channels":
            raise UnsupportedError(f"a channel sum gives nothing to a {item.kind}")
        total = f"tl.sum(tl.sum({value}, 1), 0)"
        return f"{name} += tl.where(tl.arange(0, C{at}) == c, {total}, 0.0)"

    # ── After the loops ──────────────────────────────────────────────────────────────────────
    def _finish(self) -> list[str]:
        found = []
        for item in self.wanted:
            name, k = self._sum(item), self.places.index[item]
            match place_kind(item):
                case "query_row":
                    found += self._stored_rows(name, k, "N", "i", "rows_end")
                case "key_row":
                    found += self._stored_rows(name, k, "M", "j", "keys_end")
                case "query":
                    found.append(f"tl.store({name}_ptr + bh * N + i, {name}, mask=i < rows_end)")
                case "key":
                    found.append(f"tl.store({name}_ptr + bh * M + j, {name}, mask=j < keys_end)")
                case "number":
                    found.append(f"tl.store({name}_ptr + bh * blocks + block, tl.sum({name}, 0))")
                case "channels":
                    found += [
                        f"channel = tl.arange(0, C{k})",
                        f"tl.store({name}_ptr + (bh * blocks + block) * W{k} + channel, {name},",
                        f"         mask=channel < W{k})",
                    ]
        return found

    def _stored_rows(self, name: str, k: int, size: str, row: str, end: str) -> list[str]:
        return [
            f"channel = tl.arange(0, C{k})",
            f"at = (bh * {size} + {row})[:, None] * W{k} + channel[None, :]",
            f"tl.store({name}_ptr + at, {name},",
            f"         mask=({row} < {end})[:, None] & (channel < W{k})[None, :])",
        ]


_DELTA = "delta = tl.load(delta_ptr + bh * N + i{mask})"
