"""Triton of a sweep over the keys of each query row.

One program takes a block of query rows of one head and loops over the blocks of keys that it sees,
full ones first. Maxima rise as keys are seen, and what was summed is scaled down (Milakov &
Gimelshein 2018; Dao et al. 2022). Leaves to others: what is computed (`cpu/rowsweep`), where inputs
lie (`places`), the call (`caller`).
"""

from dataclasses import dataclass

from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.seen import Seen
from regard.backends.triton.emit import HIDDEN, Lines, Value, choose
from regard.backends.triton.places import Body, Form, Places, scores_hide
from regard.backends.triton.text import Text, joined, loops, opening, stored_row
from regard.errors import UnsupportedError
from regard.ir import nodes as n


@dataclass(frozen=True)
class RowResults:
    """Which results of a sweep are wanted.

    Attributes:
        rows: The numbers of the row values that are stored.
        part: "whole", or "split" for the sums over a part of the keys, of which "join" makes all.
    """

    rows: tuple[int, ...]
    part: str = "whole"


class RowKernel:
    """Writes one sweep.

    Args:
        sweep: The sweep.
        form: How inputs are read.
        wanted: Which row values are stored.
    """

    def __init__(self, sweep: RowSweep, form: Form, wanted: RowResults) -> None:
        if any(part.terms for part in sweep.histograms):
            raise UnsupportedError("its kernels scale no weights of tables down")
        self.sweep, self.wanted = sweep, wanted
        self.places = Places(sweep.split, form, "i")
        self.used: set[str] = set()
        self._names = [0]
        self._terms = {term.name: k for k, term in enumerate(sweep.terms)}
        self._value = "" if sweep.values is None else self.places.name(sweep.values)

    def text(self) -> Text:
        """Return the kernel."""
        if self.wanted.part == "join":
            over = joined(self.sweep, self._channels())
        else:
            over = loops(self._body(False), self._body(True), "j", self.wanted.part == "split")
        finish = self._stored_parts() if self.wanted.part == "split" else self._finish()
        start = self._start()
        body = [*opening("i"), "out_row = bh * N + i", *self.places.outer, *start, *over, *finish]
        results = [f"out{k}_ptr" for k in self.wanted.rows]
        if self.wanted.part == "split":
            results = ["tops_ptr", "sums_ptr", "accs_ptr"]
        else:
            results += [f"summed{k}_ptr" for k in range(self.sweep.summed_count)]
        if self.wanted.part == "join":
            results += ["tops_ptr", "sums_ptr", "accs_ptr"]
        for k in range(len(self.sweep.histograms)):
            results += [f"histogram{k}_ptr", f"histogram{k}_rows"]
        return Text(self.places, body, results, self.used)

    # ── Before the loops ─────────────────────────────────────────────────────────────────────
    def _start(self) -> list[str]:
        lines = Lines(self._at_row(None), self._names, self.used)
        for k, term in enumerate(self.sweep.terms):
            first = HIDDEN if not term.floor_zero else "0.0"
            if term.sink is None or self.wanted.part == "split":
                lines.write(f"m{k} = tl.full([BI], {first}, REAL)")
            else:
                lines.write(f"m{k} = tl.zeros([BI], REAL) + {lines.real(term.sink)}")
        lines.write(*(f"s{k} = tl.zeros([BI], REAL)" for k in range(len(self.sweep.sums))))
        for k in range(len(self.sweep.components)):
            lines.write(f"acc{k} = tl.zeros([BI, {self._channels()}], REAL)")
        return lines.lines

    def _channels(self) -> str:
        if self.sweep.values is None:
            return ""
        return f"C{self.places.index[self.sweep.values]}"

    def _at_row(self, found: dict[str, str] | None):
        """Return how leaves of row expressions are read; `found` are values known at the end."""
        body = Body(self.places, Lines(lambda *_: None, self._names, self.used), masked=True)
        sums = {item.name: f"s{k}" for k, item in enumerate(self.sweep.sums)}

        def leaf(node: n.Node, lines: Lines) -> Value | None:
            if found is not None and isinstance(node, n.Hole):
                letter, _, name = node.name.partition(":")
                if letter == "m" and name in self._terms:
                    m = f"m{self._terms[name]}"
                    return Value(f"tl.where({m} == {HIDDEN}, 0.0, {m})", "real", "i")
                known = sums | found
                if node.name in known:
                    return Value(known[node.name], "real", "i")
            return self.places.at_row(node, body)

        return leaf

    # ── The loops ────────────────────────────────────────────────────────────────────────────
    def _body(self, masked: bool) -> list[str]:
        body = Body(self.places, Lines(lambda *_: None, self._names, self.used), masked)
        body.scores_hide = scores_hide(self.sweep.seen)
        lines = body.lines = Lines(self._leaf(body, kept=False), self._names, self.used)
        body.dots(self.places.scores)
        self._raise_maxima(body)
        weigh = Lines(self._leaf(body, kept=True), self._names, self.used)
        body.lines = weigh
        for k, item in enumerate(self.sweep.sums):
            weigh.write(f"s{k} += tl.sum({weigh.whole_tile(item.pair)}, 1)")
        for k, part in enumerate(self.sweep.components):
            weight = weigh.whole_tile(part.pair)
            values = body.clean_rows(self._values())
            if body.hides:
                weight = self._poisoned(weight, body)
            call = f"{weigh.calls('multiply')}({weight}.to({values}.dtype), {values}, acc{k}, UNIT)"
            weigh.write(f"acc{k} = {call}")
        for k, part in enumerate(self.sweep.histograms):
            place = self.places.clamped(part.index, f"histogram{k}_rows", body).text
            tile = weigh.whole_tile(part.pair)
            at = f"out_row[:, None] * histogram{k}_rows + {place}"
            weigh.write(f'tl.atomic_add(histogram{k}_ptr + {at}, {tile}, inside, sem="relaxed")')
            body.needs_inside = True
        first = ["inside = (i < rows_end)[:, None] & (j < keys_end)[None, :]"]
        return [*(first if body.needs_inside else []), *lines.lines, *weigh.lines]

    def _poisoned(self, weight: str, body: Body) -> str:
        """Return weights that are NaN where a value is seen that is not finite."""
        name = self.places.name(self._values())
        if "poison" not in body.loaded:
            body.loaded.add("poison")
            body.lines.write(f"poison = tl.sum({name}.to(REAL) * 0.0, 1)[None, :]")
        text = f"tl.where({weight} == 0.0, 0.0, {weight} + poison)"
        return body.lines.name(Value(text, "real", "ij")).text

    def _values(self):
        assert self.sweep.values is not None
        return self.sweep.values

    def _raise_maxima(self, body: Body) -> None:
        """Write the scores of a tile, the largest so far, and what sums are scaled down by."""
        for k in range(len(self.sweep.terms)):
            self._write_score(k, body)
            body.lines.write(
                f"top{k} = tl.maximum(m{k}, tl.max(score{k}, 1))",
                f"shift{k} = tl.where(top{k} == {HIDDEN}, 0.0, top{k})",
                f"scale{k} = tl.exp(m{k} - shift{k})",
                *self._rescaled(k),
                f"m{k} = top{k}",
            )

    def _write_score(self, k: int, body: Body) -> None:
        """Write the largest exponents of a term's pairs, -inf where hidden."""
        lines, term = body.lines, self.sweep.terms[k]
        top, *others = [lines.value(exponent) for exponent in term.exponents]
        for other in others:
            text = f"tl.maximum({lines.real(term.exponents[0])}, {other.text})"
            top = lines.name(Value(text, "real", "ij"))
        seen = self.sweep.seen[term.name]
        # A score of -inf is hidden by being kept as it is.
        condition = body.seen(Seen(seen.where) if term.kept else seen)
        value = choose(condition, top.text, HIDDEN)
        if "j" not in top.axes or "i" not in top.axes:
            value = f"tl.broadcast_to(({value}).to(REAL), [BI, BJ])"
        lines.write(f"score{k} = {value}")

    def _rescaled(self, k: int) -> list[str]:
        """Return the lines that let m rise: what was summed so far is scaled down."""
        term, found = self.sweep.terms[k], []
        own = {item.name: f"s{at}" for at, item in enumerate(self.sweep.sums) if item.term == k}
        scaled = own.get(f"x:{term.name}")
        if scaled is not None:
            total = own[f"s:{term.name}"]
            moved = f"tl.where(m{k} == {HIDDEN}, 0.0, m{k} - shift{k})"
            found.append(f"{scaled} += {moved} * {total}")
        found += [f"{name} *= scale{k}" for name in own.values()]
        for at, part in enumerate(self.sweep.components):
            if k in part.terms:
                found.append(f"acc{at} *= scale{k}[:, None]")
        return found

    def _leaf(self, body: Body, kept: bool):
        """Return how leaves are read when weighing (`kept`), or before that."""

        def read(node: n.Node, lines: Lines) -> Value | None:
            if isinstance(node, n.Hole):
                letter, _, name = node.name.partition(":")
                k = self._terms.get(name)
                if letter == "seen":
                    if kept and k is not None and self.sweep.terms[k].kept:
                        return Value(f"score{k} != {HIDDEN}", "bool", "ij")
                    return body.seen(self.sweep.seen[name])
                if k is not None and letter == "m":
                    return Value(f"shift{k}[:, None]", "real", "i")
                if k is not None and letter == "kept":
                    return Value(f"score{k}", "real", "ij")
                if k is not None and letter == "p":
                    return Value(f"tl.exp(score{k} - shift{k}[:, None])", "real", "ij")
            return self.places.at_pair(node, body)

        return read

    def _stored_parts(self) -> list[str]:
        """Return the lines that store what was summed over a part of the keys."""
        found = ["at = chunk * (tl.num_programs(0) // blocks) * N + out_row",
                 "size = CHUNKS * (tl.num_programs(0) // blocks) * N"]  # fmt: skip
        for name, count, pointer in (("m", len(self.sweep.terms), "tops_ptr"),
                                     ("s", len(self.sweep.sums), "sums_ptr")):  # fmt: skip
            found += [f"tl.store({pointer} + {k} * size + at, {name}{k}, mask=i < rows_end)"
                      for k in range(count)]  # fmt: skip
        if self.sweep.values is not None:
            k = self.places.index[self.sweep.values]
            found.append(f"channel = tl.arange(0, C{k})")
            found += [f"tl.store(accs_ptr + ({at} * size + at)[:, None] * C{k} + channel[None, :], "
                      f"acc{at}, mask=(i < rows_end)[:, None])"
                      for at in range(len(self.sweep.components))]  # fmt: skip
        return found

    # ── After the loops ──────────────────────────────────────────────────────────────────────
    def _finish(self) -> list[str]:
        sweep, found = self.sweep, {}
        lines = Lines(self._at_row(found), self._names, self.used)
        names = [f"m{k}" for k in range(len(sweep.terms))]
        names += [f"s{k}" for k in range(len(sweep.sums))]
        for name, expression in sweep.finals:
            found[name] = lines.real(expression)
            names.append(found[name])
        parts = []
        for k, part in enumerate(sweep.components):
            row = lines.value(part.row)
            text = f"acc{k}"
            if part.row is not n.Const(1.0):
                row_text = f"{row.text}[:, None]" if row.axes else row.text
                # A row that sees nothing is 0, even if its number is 1 / 0.
                text = f"tl.where(acc{k} == 0, 0.0, acc{k} * {row_text})"
            lines.write(f"part{k} = {text}")
            parts.append(f"part{k}")
        for k in self.wanted.rows:
            lines.write(stored_row(f"out{k}_ptr", names[k]))
        if parts:
            k = self.places.index[self._values()]
            results = [" + ".join(parts), *(parts if sweep.apart else [])]
            lines.write(f"channel = tl.arange(0, C{k})")
            lines.write(f"at = out_row[:, None] * W{k} + channel[None, :]")
            for at, text in enumerate(results):
                lines.write(
                    f"tl.store(summed{at}_ptr + at, {text},",
                    f"         mask=(i < rows_end)[:, None] & (channel < W{k})[None, :])",
                )
        return lines.lines
