"""Random well-typed programs, drawn by hypothesis from the whole grammar.

Magnitudes are kept tame by a bound that every part carries, so that float64 results can be
compared closely. Data are multiples of a quarter: sums and products of them are exact, ties are
common and fall alike everywhere; what is not exact is moved off the kinks before it meets one.
Leaves to others: calls of them (`random_calls`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from regard.lang import functions as f
from regard.lang import pair as leaves
from regard.lang import weights as w
from regard.lang.pair import Pair
from regard.lang.trace import Expr, lift
from regard.testing.inputs import Sizes

Draw = Callable[[st.SearchStrategy], Any]
# A number added before a kink to what is not exact, so that rounding decides no comparison.
OFF_THE_KINK = 0.1371
LARGEST = 6.0
INDEX_ROWS = 5


@dataclass(frozen=True)
class Part:
    """A number of a program.

    Attributes:
        expr: What is traced.
        bound: What its magnitude does not exceed.
        exact: Whether every float64 computation of it gives the same bits.
    """

    expr: Any
    bound: float
    exact: bool


class Maker:
    """Draws the parts of one program.

    Args:
        draw: Hypothesis's draw.
        pair: The pair of the program that is traced.
        sizes: The lengths of the call.
    """

    def __init__(self, draw: Draw, pair: Pair, sizes: Sizes) -> None:
        self.draw, self.pair, self.sizes = draw, pair, sizes
        self.in_score = False

    def pick(self, *choices: Any) -> Any:
        """Draw one of some choices; the first is the simplest."""
        return self.draw(st.sampled_from(choices))

    def chance(self, one_in: int) -> bool:
        """Draw true once in so many times."""
        return self.draw(st.integers(0, one_in - 1)) == one_in - 1

    # ── Integers and conditions ───────────────────────────────────────────────────────────────
    def integer(self, sides: str, depth: int) -> Expr:
        """Draw an integer that varies along "i", "j", both or neither."""
        if depth == 0 or self.chance(3):
            return self._integer_leaf(sides)
        a, b = self.integer(sides, depth - 1), self.integer(sides, depth - 1)
        n = self.pick(2, 3, 5)
        made = self.pick("sub", "add", "div", "mod", "clip", "where", "floor", "by", "abs")
        match made:
            case "add":
                return a + b
            case "sub":
                return a - b
            case "div":
                return f.floor(a) // n
            case "mod":
                return f.floor(a) % n
            case "clip":
                return f.clip(a, -n, n)
            case "where":
                return f.where(self.condition(sides, depth - 1), a, b)
            case "floor":
                return f.floor(self.off_kink(self.number(sides, depth - 1)))
            case "by":
                # A divisor that may be zero has a meaning too.
                return f.floor(a) // b if self.chance(2) else f.floor(a) % b
        return f.max(abs(f.floor(a)), 1)

    def _integer_leaf(self, sides: str) -> Expr:
        pair = self.pair
        choices: list[Any] = [pair.head, pair.heads, pair.batch, pair.keys]
        choices += [pair.i, pair.queries] if "i" in sides else []
        choices += [pair.j] if "j" in sides else []
        choices += [pair.i - pair.j] * 3 if sides == "ij" else []
        return self.pick(*choices)

    def condition(self, sides: str, depth: int) -> Expr:
        """Draw a condition."""
        made = self.pick("compare", "leaf", "and", "or", "not", "number", "keep")
        if sides == "ij" and self.chance(2):
            reach = self.pick(3, 1, 5)
            return self.pick(self.pair.j <= self.pair.i, abs(self.pair.i - self.pair.j) < reach)
        if depth == 0 and made in ("and", "or", "not", "number"):
            made = "compare"
        match made:
            case "and":
                return self.condition(sides, depth - 1) & self.condition(sides, depth - 1)
            case "or":
                return self.condition(sides, depth - 1) | self.condition(sides, depth - 1)
            case "not":
                return ~self.condition(sides, depth - 1)
            case "number":
                return self.number(sides, depth - 1, exact=True).expr > self.pick(0.0, 0.25, -1.0)
            case "keep":
                axes = self.pick(*(a for a in ("bh", "bhij", "ij", "j", "h") if fits(a, sides)))
                return w.keep(self.pick(0.3, leaves.scalar("drop")), axes)
            case "leaf" if sides:
                return self._condition_leaf(sides)
        a, b = self.integer(sides, 0), self.integer(sides, 0)
        order = self.pick("le", "lt", "ge", "ne", "eq")
        a = f.floor(a) + self.pick(0, 1, 2)
        return {"le": a >= b, "lt": a > b, "ge": a <= b, "ne": a != b, "eq": a == b}[order]

    def _condition_leaf(self, sides: str) -> Expr:
        choices = [leaves.table("open", per=INDEX_ROWS)[self.integer(sides, 0)]]
        choices += [leaves.query_feature("on")] if "i" in sides else []
        choices += [leaves.key_feature("real")] if "j" in sides else []
        if sides == "ij":
            choices += [leaves.pair_input("allowed")]
            choices += [leaves.query_feature("group") == leaves.key_feature("kind")]
        return self.pick(*choices)

    # ── Real numbers ──────────────────────────────────────────────────────────────────────────
    def number(self, sides: str, depth: int, exact: bool = False) -> Part:
        """Draw a real number, of moderate size."""
        if depth == 0:
            return self._number_leaf(sides)
        made = self.pick("sum", "add", "mul", "smooth", "kink", "where", "leaf", "safe", "running")
        if (
            made == "leaf"
            or (exact and made in ("smooth", "safe"))
            or (made == "sum" and not sides)
        ):
            return self._number_leaf(sides)
        if made == "sum":
            part = self.channels(sides, depth - 1)
            width = max(self.sizes.D, 2)
            part = Part(f.sum(part.expr), part.bound * width, part.exact)
            if exact and not part.exact:
                return self._number_leaf(sides)
            return self.tame(part, keep_exact=exact)
        a = self.number(sides, depth - 1, exact)
        if made == "smooth":
            return self._smooth(a)
        if made == "running":
            return self._running(a, sides, depth, exact)
        b = self.number(sides, depth - 1, exact)
        return self.tame(self._combine(made, a, b, sides, depth), keep_exact=exact)

    def _combine(self, made: str, a: Part, b: Part, sides: str, depth: int) -> Part:
        exact = a.exact and b.exact
        match made:
            case "add":
                if self.chance(2):
                    return Part(a.expr - b.expr, a.bound + b.bound, exact)
                return Part(a.expr + b.expr, a.bound + b.bound, exact)
            case "mul":
                return Part(a.expr * b.expr, a.bound * b.bound, exact)
            case "where":
                chosen = f.where(self.condition(sides, depth - 1), a.expr, b.expr)
                return Part(chosen, max(a.bound, b.bound), exact)
            case "kink":
                return self._kink(a, b)
        below = self.pick(b.expr * b.expr + 0.5, 1 + abs(self.off_kink(b)))
        made = self.pick("div", "log", "pow", "mod")
        match made:
            case "div":
                return Part(a.expr / below, 2 * a.bound, False)
            case "log":
                return Part(f.log(below) + a.expr * 0, math.log(1 + b.bound * b.bound) + 1, False)
            case "pow":
                power = self.pick(2, 0.5, -1, 1.5)
                return Part((0.5 + a.expr * a.expr) ** power, (0.5 + a.bound**2) ** 2 + 2, False)
        return Part(self.off_kink(a) % 1.5, 1.5, False)

    def _running(self, a: Part, sides: str, depth: int, exact: bool) -> Part:
        """Add up a number over keys; what does not vary over them is left as it is."""
        if sides != "ij":
            return a
        where = self.condition(sides, depth - 1) if self.chance(2) else None
        total = f.running_sum(a.expr, where, reverse=self.chance(2), exclusive=self.chance(2))
        made = Part(total, a.bound * self.sizes.M, a.exact)
        return self.tame(made, keep_exact=exact)

    def _kink(self, a: Part, b: Part) -> Part:
        x, y = self.off_kink(a), b.expr
        bound = max(a.bound, b.bound) + 1
        made = self.pick("relu", "abs", "max", "min", "clip", "sign")
        if made in ("max", "min") and not (a.exact and b.exact):
            made = "relu"
        match made:
            case "abs":
                return Part(abs(x), bound, a.exact)
            case "max":
                return Part(f.max(x, y), bound, True)
            case "min":
                return Part(f.min(x, y), bound, True)
            case "clip":
                return Part(f.clip(x, -0.75, 1.0), 1.0, a.exact)
            case "sign":
                return Part(f.sign(x), 1.0, a.exact)
        return Part(f.relu(x), bound, a.exact)

    def off_kink(self, part: Part) -> Any:
        """Return a number that no rounding moves across a kink."""
        return part.expr if part.exact else part.expr + OFF_THE_KINK

    def _smooth(self, a: Part) -> Part:
        name = self.pick("tanh", "sigmoid", "erf", "sin", "cos", "softplus", "exp", "sqrt")
        if name == "exp":
            return Part(f.exp(0.5 * self.tame(a).expr), math.exp(LARGEST / 2), False)
        if name == "sqrt":
            return Part(f.sqrt(a.expr * a.expr + 0.25), a.bound + 1, False)
        bound = a.bound + 1 if name == "softplus" else 1.0
        return Part(getattr(f, name)(a.expr), bound, False)

    def tame(self, part: Part, keep_exact: bool = False) -> Part:
        """Squash a number that may be large."""
        if part.bound <= LARGEST:
            return part
        if keep_exact or self.chance(3):
            return Part(f.clip(self.off_kink(part), -4, 4), 4.0, part.exact)
        return Part(3 * f.tanh(part.expr / 4), 3.0, False)

    def _number_leaf(self, sides: str) -> Part:
        pair = self.pair
        choices: list[tuple[Any, float]] = [
            # Traced at once: ~ and comparisons of plain numbers would be Python's own.
            (Expr(lift(self.pick(0.5, -1.0, 2))), 2.0),
            (leaves.parameter("p_one"), 2.0),
            (leaves.parameter("p_head", per="head"), 2.0),
            (leaves.scalar("heat"), 2.0),
            ((pair.head - pair.heads) * 0.25, 2.0),
            (leaves.table("t", per="rows")[self.integer(sides, 1)], 2.0),
            (leaves.parameter("p_table", per=("head", INDEX_ROWS))[self.integer(sides, 1)], 2.0),
        ]
        if "i" in sides:
            choices += [(leaves.query_feature("fq"), 2.0), (f.clip(pair.i, -8, 8) * 0.25, 2.0)]
            choices += [(f.min(pair.visible, 8) * 0.25, 2.0)] if self.in_score else []
        if "j" in sides:
            choices += [(leaves.key_feature("fkey"), 2.0), (f.clip(pair.j, -8, 8) * 0.25, 2.0)]
        if sides == "ij":
            choices += [(leaves.pair_input("pairs"), 2.0)]
            choices += [(f.clip(pair.i - pair.j, -8, 8) * 0.25, 2.0)]
        expr, bound = self.pick(*choices)
        return Part(expr, bound, True)

    # ── Rows of channels ──────────────────────────────────────────────────────────────────────
    def channels(self, sides: str, depth: int) -> Part:
        """Draw a channel expression D wide, over the rows that the sides allow."""
        if sides != "ij":
            return self.row(sides, depth)
        a, b = self.row("i", depth), self.row("j", depth)
        made = self.pick("mul", "add", "square", "table", "scaled")
        match made:
            case "add":
                added = Part(a.expr + b.expr, a.bound + b.bound, a.exact and b.exact)
                return self._elementwise(added)
            case "square":
                less = a.expr - b.expr
                return Part(less * less, (a.bound + b.bound) ** 2, a.exact and b.exact)
            case "table":
                rows = leaves.table("rows", per=(INDEX_ROWS, "channel"))
                moved = b.expr + rows[self.integer(sides, 1)]
                return Part(a.expr * moved, a.bound * (b.bound + 2), a.exact and b.exact)
            case "scaled":
                number = self.number(sides, 1)
                product = a.expr * b.expr * number.expr
                exact = a.exact and b.exact and number.exact
                return Part(product, a.bound * b.bound * number.bound, exact)
        return Part(a.expr * b.expr, a.bound * b.bound, a.exact and b.exact)

    def row(self, side: str, depth: int) -> Part:
        """Draw a row D wide of the query's or the key's side."""
        if depth == 0 or self.chance(2):
            return Part(self._row_leaf(side), 2.0, True)
        a = self.row(side, depth - 1)
        made = self.pick("rotate", "project", "norm", "scaled", "elementwise", "channel", "two")
        match made:
            case "scaled":
                number = self.number(side, 1)
                exact = a.exact and number.exact
                return self.tame(Part(a.expr * number.expr, a.bound * number.bound, exact))
            case "norm":
                return Part(a.expr / f.sqrt(f.sum(a.expr * a.expr) + 0.5), 1.0, False)
            case "rotate":
                pairs = self.pick("halves", "interleaved")
                return Part(f.rotate(a.expr, self._angle(side), pairs), 2 * a.bound, False)
            case "project":
                heads = ("head",) if self.chance(2) else ()
                matrix = leaves.parameter(f"m_{len(heads)}", per=(*heads, "channel", "channel"))
                bound = 2 * a.bound * self.sizes.D
                return self.tame(Part(f.project(a.expr, matrix), bound, a.exact))
            case "channel":
                weight = f.cos(leaves.channel * 0.7) + leaves.channel % 2
                return Part(a.expr * weight, 2 * a.bound, False)
            case "two":
                b = self.row(side, depth - 1)
                return self.tame(Part(a.expr - b.expr, a.bound + b.bound, a.exact and b.exact))
        return self._elementwise(a)

    def _row_leaf(self, side: str) -> Expr:
        weight = leaves.parameter("p_channel", per="channel")
        both = leaves.parameter("p_both", per=("head", "channel"))
        extra = {"i": leaves.query_vector("u"), "j": leaves.key_vector("x")}
        own = {"i": self.pair.q, "j": self.pair.k}
        # u and x have a width of their own, so they are brought to D.
        wide = extra[side][: self.sizes.D]
        return self.pick(own[side], own[side] * weight, own[side] + both, wide)

    def _angle(self, side: str) -> Any:
        position = {"i": self.pair.i, "j": self.pair.j}[side]
        feature = {"i": leaves.query_feature("fq"), "j": leaves.key_feature("fkey")}[side]
        speed = leaves.parameter("speed", per="channel")
        return self.pick(f.rotary(position), feature * speed, position * 0.3, feature)

    def _elementwise(self, a: Part) -> Part:
        name = self.pick("tanh", "relu", "abs", "sin", "sigmoid", "square")
        match name:
            case "relu" | "abs":
                x = self.off_kink(a)
                return Part(f.relu(x) if name == "relu" else abs(x), a.bound + 1, a.exact)
            case "square":
                return self.tame(Part(a.expr * a.expr, a.bound**2, a.exact))
        return Part(getattr(f, name)(a.expr), 1.0, False)

    # ── Weights ───────────────────────────────────────────────────────────────────────────────
    def term(self, depth: int) -> Expr:
        """Draw one term of weights."""
        where = self.condition("ij", depth) if self.chance(2) else None
        if self.chance(5):
            where = self._chosen(where)
        self.in_score = True
        made = self.pick("softmax", "softmax", "weigh", "ratio", "exponentials", "linear", "entmax")
        match made:
            case "weigh":
                term = w.weigh(self.number("ij", depth).expr, where)
            case "ratio":
                number = self.number("ij", depth, exact=True)
                # A sum that is negative or cancels to 0 has a meaning too.
                num = self.pick(abs(number.expr), f.relu(number.expr), number.expr)
                add = self.pick(0.0, 0.5, 1 + abs(self.number("i", 1, exact=True).expr))
                term = w.ratio(num, where=where, add=add)
            case "exponentials":
                term = self._exponentials(where, depth)
            case "entmax":
                # Below 2, where the derivative does not jump as a key enters.
                alpha = 1.15 + 0.8 * f.sigmoid(leaves.parameter("alpha", per="head"))
                alpha = self.pick(1.5, 1.25, alpha)
                term = w.entmax(self.number("ij", depth).expr, alpha, where)
            case "linear":
                u, x = self.row("i", depth), self.row("j", depth)
                positive = f.softplus(u.expr) + 0.1, f.sigmoid(x.expr) + 0.1
                term = w.linear(*positive, where=where)
            case _:
                term = self._softmax(where, depth)
        self.in_score = False
        return term

    def _chosen(self, where: Expr | None) -> Expr:
        """Draw a choice of keys, by scores whose ties fall alike everywhere."""
        score = self.number("ij", 1, exact=True).expr
        k = self.pick(3, 1, 6, f.floor(self.integer("i", 0)) + 2)
        chosen = w.topk(score, k, where)
        return chosen if self.chance(2) else chosen | (self.pair.j == self.pair.i)

    def _softmax(self, where: Expr | None, depth: int) -> Expr:
        score = self.number("ij", depth).expr
        if self.chance(4):
            score = f.where(self.condition("ij", 1), score, -math.inf)
        if self.chance(6):
            # Far from 0, where no exponential of it can be held.
            score = 200 * score + self.pick(0, 800, -800)
        sink = self.pick(None, None, 0.0, leaves.parameter("sink", per="head"), "row")
        if isinstance(sink, str):
            sink = self.number("i", 1).expr
        return w.softmax(score, where, sink)

    def _exponentials(self, where: Expr | None, depth: int) -> Expr:
        x, y = self.tame(self.number("ij", depth)).expr, self.number("ij", 1).expr
        if self.chance(3):
            x = x + self.pick(400, -400, 40)
        made = self.pick("exp", "softpick", "where", "sum")
        num = den = f.exp(x)
        if made == "softpick":
            # Off the kink: exp(x) = 1 is met by x = 0, exactly.
            num, den = f.relu(f.exp(x) - 0.913), abs(f.exp(x) - 0.913)
        elif made == "where":
            num = den = f.where(self.condition("ij", 1), f.exp(x), 0.5 * f.exp(y))
        elif made == "sum":
            num, den = f.exp(x) * (1 + f.sigmoid(y)), f.exp(x) + f.max(f.exp(y), 0.25)
        add, least = self.pick(0.0, 0.5, 2.0), self.pick(0.0, 1.0)
        return w.ratio(num, den, where, add=add, at_least=least, scaled=self.chance(3))

    def weights(self, depth: int) -> Expr:
        """Draw weights, of one term or several."""
        made = self.pick("term", "term", "gate", "sub", "add", "mul", "map", "dropout", "div")
        if depth == 0 or made == "term":
            return self.term(2)
        first = self.weights(depth - 1)
        match made:
            case "gate":
                return first * self.number("ij", 1).expr
            case "div":
                return -first / (1 + abs(self.number("i", 1, exact=True).expr))
            case "map":
                number = self.number("ij", 1).expr
                body = self.pick(
                    lambda a: f.clip(1.2 * a - 0.0437, 0, 1),
                    lambda a: f.tanh(a) + a * number,
                    lambda a: a * a + number,
                )
                return w.map(body, first)
            case "dropout":
                return w.dropout(first, self.pick(0.3, leaves.scalar("drop")))
        second = self.weights(depth - 1)
        return {"sub": first - second, "add": first + second, "mul": first * second}[made]

    def output(self) -> Expr:
        """Draw a whole program."""
        weights = self.weights(self.pick(0, 1, 1, 2))
        values, finish = None, None
        if self.chance(3):
            values = self._values()
        if self.chance(3):
            finish = self._finish()
        return weights if values is finish is None else w.output(weights, values, finish)

    def _values(self) -> Expr:
        v, number = self.pair.v, self.number("ij", 1).expr
        top = f.max_over_keys(v)
        rows = leaves.table("value_rows", per=(INDEX_ROWS, "channel"))
        return self.pick(
            v * number,
            v + rows[self.integer("ij", 1)],
            f.tanh(v) * leaves.parameter("v_gain", per="channel"),
            f.exp(v - top),
            self.pair.k * number,
            v + self.number("i", 1).expr,
        )

    def _finish(self) -> Callable[[Expr], Any]:
        number = self.number("i", 1).expr
        gain = leaves.parameter("gain", per="channel")
        return self.pick(
            lambda row: row * gain,
            lambda row: row / f.sqrt(f.sum(row * row) + 0.5),
            lambda row: f.tanh(row) + number,
            lambda row: f.sigmoid(number) * row + f.sum(row),
            lambda row: f.log(row * row + 1),
        )


def fits(axes: str, sides: str) -> bool:
    """Tell whether a draw's axes are among those allowed."""
    return all(axis in "bh" + sides for axis in axes)
