"""Random programs: weights, their algebra, values and finish, of the parts of `random_programs`.

Leaves to others: numbers, conditions and rows (`random_programs`), calls (`random_calls`).
"""

import math
from collections.abc import Callable
from typing import Any

from regard.lang import functions as f
from regard.lang import pair as leaves
from regard.lang import weights as w
from regard.lang.trace import Expr
from regard.testing.random_programs import INDEX_ROWS, Maker


class ProgramMaker(Maker):
    """Draws whole programs."""

    def term(self, depth: int) -> Expr:
        """Draw one term of weights."""
        where = self.condition("ij", depth) if self.chance(2) else None
        if self.chance(5):
            where = self._chosen(where)
        self.in_score = True
        made = self.pick(
            "softmax", "softmax", "weigh", "ratio", "exponentials", "linear", "entmax", "sparsemax"
        )
        match made:
            case "weigh":
                term = w.weigh(self.number("ij", depth).expr, where)
            case "ratio":
                term = self._ratio(where, depth)
            case "exponentials":
                term = self._exponentials(where, depth)
            case "entmax":
                term = w.entmax(self.number("ij", depth).expr, self._alpha(), where)
            case "sparsemax":
                # Its derivative jumps where a threshold (Σ score - 1) / n lies on a score, which
                # whole parts of quarters times 0.3 never meet.
                term = w.sparsemax(0.3 * self.number("ij", depth, exact=True).expr, where)
            case "linear":
                u, x = self.row("i", depth), self.row("j", depth)
                positive = f.softplus(u.expr) + 0.1, f.sigmoid(x.expr) + 0.1
                term = w.linear(*positive, where=where)
            case _:
                term = self._softmax(where, depth)
        self.in_score = False
        return term

    def _ratio(self, where: Expr | None, depth: int) -> Expr:
        number = self.number("ij", depth, exact=True)
        # A sum that is negative or cancels to 0 has a meaning too.
        num = self.pick(abs(number.expr), f.relu(number.expr), number.expr)
        add = self.pick(0.0, 0.5, 1 + abs(self.number("i", 1, exact=True).expr))
        # No sum of quarters is the bound, where the derivative jumps.
        least = self.pick(0.0, 0.0, 1.0371)
        den = 0.25 + abs(self.number("ij", 1, exact=True).expr) if self.chance(3) else None
        return w.ratio(num, den, where, add=add, at_least=least)

    def _alpha(self) -> Any:
        """Draw an alpha below 2, where the derivative does not jump as a key enters."""
        learned = leaves.parameter("alpha", per="head")
        wild = self.pick(learned, self.number("i", 1).expr)
        return self.pick(1.5, 1.25, 1.15 + 0.8 * f.sigmoid(wild))

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
        made = self.pick(
            "term", "term", "gate", "sub", "add", "mul", "map", "dropout", "div", "square"
        )
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
            case "square":
                return first * first
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
        rows = leaves.table("value_rows", per=(INDEX_ROWS, "channel"))
        of_head = leaves.parameter("head_rows", per=("head", INDEX_ROWS, "channel"))
        matrix = leaves.parameter("m_values", per=("channel", "channel"))
        made: Callable[[], Expr] = self.pick(
            lambda: v * number,
            lambda: v + rows[self.index("ij")],
            lambda: number * (v - of_head[self.index("ij")]),
            lambda: f.tanh(v) * leaves.parameter("v_gain", per="channel"),
            lambda: f.exp(v - f.max_over_keys(v)),
            lambda: self.pair.k * number,
            lambda: v + self.number("i", 1).expr,
            lambda: f.rotate(self.pair.k, self._angle("j"), "interleaved") * number,
            lambda: leaves.key_vector("x") * number,
            lambda: f.project(v, matrix) + number,
        )
        return made()

    def _finish(self) -> Callable[[Expr], Any]:
        number = self.number("i", 1).expr
        gain = leaves.parameter("gain", per="channel")
        matrix = leaves.parameter("m_finish", per=("channel", "channel"))
        return self.pick(
            lambda row: row * gain,
            lambda row: row / f.sqrt(f.sum(row * row) + 0.5),
            lambda row: f.tanh(row) + number,
            lambda row: f.sigmoid(number) * row + f.sum(row),
            lambda row: f.log(row * row + 1),
            lambda row: f.project(row, matrix) * f.sigmoid(f.dot(self.pair.q, self.pair.q)),
            lambda row: f.sin(row) + f.sum(f.max_over_keys(self.pair.v)),
        )
