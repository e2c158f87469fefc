"""Formulas as text: golden samples, and printed expressions that mean what the graph means."""

import math
import random
import re

import pytest

from regard.ir import nodes as n
from regard.ir.print_text import formula_text, text
from tests.ir import graphs
from tests.ir.golden import assert_golden
from tests.ir.graphs import KJ, QI, K, Q, V, call, dot, scaled_score

A, B, C = n.Scalar("u"), n.Scalar("y"), n.Scalar("z")
SCALARS = {"u": 1.75, "y": -0.625, "z": 3.5}


def test_formulas_of_all_samples_are_as_kept():
    formulas = [formula_text(name, root) for name, root in graphs.SAMPLES.items()]
    assert_golden("formulas.txt", "\n\n".join(formulas) + "\n")


def test_formula_names_the_parts_of_a_local_program():
    assert formula_text("local_alibi", graphs.local_alibi()).splitlines() == [
        "local_alibi",
        "  score_ij = q_i·k_j / √D − slope[h] |i − j|",
        "  seen_ij  = j ≤ i ∧ i − j < 256",
        "  w_ij     = softmax_j(score_ij | seen_ij)",
        "  out_i    = Σ_j w_ij v_j",
    ]


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (call("sub", A, call("sub", B, C)), "u − (y − z)"),
        (call("sub", call("sub", A, B), C), "u − y − z"),
        (call("add", A, call("neg", B)), "u − y"),
        (call("sub", A, call("neg", B)), "u − (−y)"),
        (call("mul", call("add", A, B), C), "(u + y) z"),
        (call("mul", A, call("add", B, C)), "u × (y + z)"),
        (call("mul", B, -2.0), "−2 y"),
        (call("mul", 2, 3), "2 × 3"),
        (call("div", A, call("div", B, C)), "u / (y / z)"),
        (call("div", call("div", A, B), C), "(u / y) / z"),
        (call("div", A, call("mul", B, C)), "u / (y z)"),
        (call("neg", call("div", A, B)), "−u / y"),
        (call("div", call("neg", call("div", A, B)), C), "(−u / y) / z"),
        (call("pow", call("neg", A), 2.0), "(−u)²"),
        (call("neg", call("mul", A, A)), "−u²"),
        (call("pow", A, call("add", B, C)), "u^(y + z)"),
        (call("pow", call("pow", A, 2), 3), "(u²)³"),
        (call("mod", QI, 7), "i mod 7"),
        (call("floordiv", QI, call("add", KJ, 1)), "⌊i / (j + 1)⌋"),
        (call("max", call("max", A, B), C), "max(u, y, z)"),
        (call("max", A, call("max", B, C)), "max(u, max(y, z))"),
        (call("not", call("le", QI, KJ)), "¬(i ≤ j)"),
        (call("or", call("and", call("lt", A, B), call("gt", A, C)), call("ne", B, C)),
         "u < y ∧ u > z ∨ y ≠ z"),
        (call("and", call("or", call("lt", A, B), call("gt", A, C)), call("ge", B, C)),
         "(u < y ∨ u > z) ∧ y ≥ z"),
        (call("where", call("lt", A, B), call("where", call("lt", B, C), A, B), C),
         "(u if y < z else y) if u < y else z"),
        (call("mul", call("where", call("lt", A, B), A, B), C), "(u if u < y else y) z"),
        (call("sqrt", call("add", A, B)), "√(u + y)"),
        (call("abs", call("sub", QI, KJ)), "|i − j|"),
        (n.Const(True), "true"),
        (n.Const(-math.inf), "−∞"),
        (n.Const(1e-6), "1e−6"),
        (n.Const(-0.0), "−0"),
        (n.Const(1e300), "1e300"),
        (n.Const(math.pi), "3.14159…"),
    ],
)  # fmt: skip
def test_operands_get_the_parentheses_they_need(node, written):
    assert text(node) == written


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (dot(Q, K), "q_i·k_j"),
        (call("div", A, dot(Q, K)), "u / (q_i·k_j)"),
        (dot(call("mul", A, Q), call("add", K, V)), "(u q_i)·(k_j + v_j)"),
        (dot(call("mul", Q, K), V), "Σ_c q_ic k_jc v_jc"),
        (dot(Q, n.Channel()), "Σ_c q_ic c"),
        (dot(Q, Q), "‖q_i‖²"),
        (n.Reduce(call("pow", call("sub", Q, K), 2), "c"), "‖q_i − k_j‖²"),
        (call("sqrt", dot(Q, Q)), "‖q_i‖"),
        (n.Reduce(call("abs", call("sub", Q, K)), "c"), "Σ_c |q_ic − k_jc|"),
        (call("mul", n.Reduce(call("abs", Q), "c"), A), "(Σ_c |q_ic|) u"),
        (n.Reduce(call("add", Q, K), "c"), "Σ_c (q_ic + k_jc)"),
        (call("mul", Q, K), "q_i ⊙ k_j"),
        (n.Slice(call("add", Q, V), 4, 8), "(q_i + v_j)[4:8]"),
        (n.Rotate(Q, call("mul", QI, n.Channel()), "interleaved"), "rotate(q_i, i c, interleaved)"),
        (n.Reduce(call("abs", n.Rotate(Q, QI, "halves")), "c"), "Σ_c |rotate(q_i, i)_c|"),
        (n.Project(Q, graphs.parameter("W", "channel", "channel"), None), "q_i W"),
        (n.Reduce(n.KeyMax(V), "c"), "Σ_c max_j(v_jc)"),
        (n.Running(A, None, False, False), "running_j(u)"),
        (n.Running(A, graphs.CAUSAL, True, True), "running_j(u, reverse, exclusive | j ≤ i)"),
    ],
)  # fmt: skip
def test_rows_and_sums_over_channels_read_well(node, written):
    assert text(node) == written


@pytest.mark.parametrize(
    ("weights", "written"),
    [
        (n.Ratio(A, A, None, n.Const(0.0), n.Const(0), False, "a"), "u / (Σ_j u)"),
        (n.Ratio(A, B, None, C, n.Const(0), True, "a"), "u / (Σ_j y + scaled(z))"),
        (n.Ratio(A, B, None, C, n.Const(2.0), False, "a"), "u / max(Σ_j y + z, 2)"),
        (n.Ratio(A, B, graphs.CAUSAL, n.Const(0), n.Const(0), False, "a"),
         "u / Σ_j(y | j ≤ i) if j ≤ i else 0"),
        (n.Entmax(A, B, None, "a"), "entmax_j(u, alpha = y)"),
        (n.Softmax(A, None, n.Const(0), "a"), "softmax_j(u, sink = 0)"),
        (n.Weigh(A, None, "a"), "u"),
        (n.TopK(A, n.Const(8), graphs.CAUSAL), "topk_j(u, 8 | j ≤ i)"),
        (n.Keep(A, "bh", 3), "keep_bh(u)"),
    ],
)  # fmt: skip
def test_weights_show_no_unused_default(weights, written):
    assert text(weights) == written


def test_draws_that_look_alike_show_their_numbers():
    both = call("and", n.Keep(A, "b", 0), n.Keep(A, "b", 1))
    assert text(both) == "keep_b(u, draw = 0) ∧ keep_b(u, draw = 1)"


def test_two_maps_say_what_they_are_applied_to():
    first, second = n.Weigh(A, None, "a"), n.Weigh(B, None, "b")
    body = call("exp", n.MAPPED)
    root = graphs.program(call("add", n.Map(first, body), n.Map(second, body)))
    assert formula_text("two", root).splitlines()[1:] == [
        "  w1_ij = u",
        "  w2_ij = y",
        "  w_ij  = map(exp(x), x = w1_ij) + map(exp(x), x = w2_ij)",
        "  out_i = Σ_j w_ij v_j",
    ]


def test_inputs_named_like_parts_of_formulas_are_told_apart():
    score = call("add", call("mul", n.Scalar("D"), n.Feature("key", "score")), scaled_score())
    root = graphs.program(n.Softmax(score, None, None, "a"))
    assert formula_text("named", root).splitlines()[1:3] == [
        "  score′_ij = D′ score_j + q_i·k_j / √D",
        "  w_ij      = softmax_j(score′_ij)",
    ]


def test_terms_keep_the_names_their_author_gave():
    lines = formula_text("x", graphs.everything_else()).splitlines()
    assert any(line.startswith("  local_ij  = sparsemax_j(") for line in lines)


def test_shared_parts_are_written_once_and_named():
    root = graphs.doubling(40)
    formula = formula_text("doubling", root)
    assert len(formula) < 10_000
    assert max(map(len, formula.splitlines())) < 400
    names = re.findall(r"^  (t\d+)_ij ", formula, re.MULTILINE)
    assert names == [f"t{number}" for number in range(1, len(names) + 1)]


def test_text_of_an_expression_names_shared_parts_after_where():
    part = call("tanh", call("add", dot(Q, K), call("abs", call("sub", QI, KJ))))
    assert text(call("div", part, call("add", part, 1))) == (
        "t1_ij / (t1_ij + 1) where t1_ij = tanh(q_i·k_j + |i − j|)"
    )


def test_parts_that_vary_over_heads_alone_say_so():
    slope = call("mul", graphs.parameter("a", "head"), A)
    factor = call("exp", call("sub", slope, call("mul", B, C)))
    factor = call("div", factor, call("add", factor, C))
    root = graphs.program(n.Softmax(call("mul", factor, scaled_score()), None, None, "a"))
    assert "  t1[h]    = exp(a[h] u − y z)" in formula_text("x", root).splitlines()


@pytest.mark.parametrize(
    ("size", "names"),
    [
        (2, ["w_ij", "row", "out_i"]),
        (10, ["w_ij", "value_j", "row", "out_i"]),
        (30, ["w_ij", "t1_j", "value_j", "row", "t2_i", "out_i"]),
    ],
)
def test_large_values_and_a_large_finish_get_lines_of_their_own(size, names):
    values, finish = V, n.SUMMED
    for number in range(size):
        values, finish = call("add", values, number), call("add", finish, number)
    root = graphs.program(n.Weigh(A, None, "a"), values, finish)
    lines = formula_text("x", root).splitlines()
    assert [line.split()[0] for line in lines[1:]] == names


def test_text_of_a_whole_program_is_one_line():
    assert text(graphs.plain()) == "Σ_j w_ij v_j where w_ij = softmax_j(q_i·k_j / √D)"


def test_a_very_deep_expression_can_be_written():
    formula = formula_text("deep", graphs.deep(20_000))
    assert formula.count("−") == 20_000
    assert max(map(len, formula.splitlines())) < 400


# ── What is printed means what the graph means ───────────────────────────────────────────────
def _number(draw: random.Random, depth: int) -> n.Node:
    if depth == 0 or draw.random() < 0.15:
        return draw.choice([A, B, C, *map(n.Const, (0.5, 2.0, -3.0, 4, -1))])
    op = draw.choice(["add", "sub", "mul", "div", "min", "max", "neg", "square", "where"])
    x, y = _number(draw, depth - 1), _number(draw, depth - 1)
    if op == "where":
        return call("where", _condition(draw, 2), x, y)
    if op == "neg":
        return call("neg", x)
    return call("mul", x, x) if op == "square" else call(op, x, y)


def _condition(draw: random.Random, depth: int) -> n.Node:
    op = draw.choice(["lt", "ge", "ne", "and", "or", "not"] if depth else ["lt", "ge", "ne"])
    part = _condition if op in ("and", "or", "not") else _number
    x, y = part(draw, max(depth - 1, 0)), part(draw, max(depth - 1, 0))
    return call("not", x) if op == "not" else call(op, x, y)


def _divide(x: float, y: float) -> float:
    return x / y if y else math.nan


_MEANING = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "div": _divide, "min": min, "max": max, "neg": lambda x: -x, "lt": lambda x, y: x < y,
    "ge": lambda x, y: x >= y, "ne": lambda x, y: x != y, "and": lambda x, y: x and y,
    "or": lambda x, y: x or y, "not": lambda x: not x, "where": lambda c, x, y: x if c else y,
}  # fmt: skip


class _Number(float):
    """A number whose quotient by zero is NaN, as in the graph."""

    def __truediv__(self, other):
        return _Number(_divide(float(self), float(other)))

    def __pow__(self, other):
        return _Number(float(self) ** other)

    def __mul__(self, other):
        return _Number(float(self) * float(other))

    def __add__(self, other):
        return _Number(float(self) + float(other))

    def __sub__(self, other):
        return _Number(float(self) - float(other))

    def __neg__(self):
        return _Number(-float(self))


def _evaluate(node: n.Node) -> float:
    if isinstance(node, n.Const):
        return node.value
    if isinstance(node, n.Scalar):
        return SCALARS[node.name]
    assert isinstance(node, n.Call)
    return _MEANING[node.op](*map(_evaluate, node.args))


def _read_as_python(written: str, scope: dict[str, _Number]) -> float:
    """Read a formula as a reader would: factors side by side are multiplied."""
    signs = {"−": "-", "×": "*", "²": "**2", "≥": ">=", "≠": "!=", "∧": " and ", "∨": " or "}
    for sign, python in (signs | {"¬": " not "}).items():
        written = written.replace(sign, python)
    written = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)(?![\w.])", r"F(\1)", written)
    written = written.replace("**F(2)", "**2")
    keyword = "and|or|not|if|else"
    side_by_side = (
        rf"(?<=[\w)]) (?=[\w(])(?<!\b{keyword.replace('|', r' )(?<!')} )(?!(?:{keyword})\b)"
    )
    written = re.sub(side_by_side, " * ", written)
    return eval(written, {"F": _Number, "min": min, "max": max}, dict(scope))


@pytest.mark.parametrize("seed", range(20))
def test_a_printed_expression_means_what_the_graph_means(seed):
    draw = random.Random(seed)
    for _ in range(100):
        node = _number(draw, 4)
        result, _, where = text(node).partition(" where ")
        scope = {name: _Number(value) for name, value in SCALARS.items()}
        for name, definition in re.findall(r"(t\d+) = (.*?)(?=, t\d+ = |$)", where):
            scope[name] = _read_as_python(definition, scope)
        expected = pytest.approx(float(_evaluate(node)), nan_ok=True)
        assert _read_as_python(result, scope) == expected, text(node)


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (n.Hole("lse_a", "bhi"), "lse_a_i"),
        (n.Reduce(n.Reduce(call("mul", n.Hole("d", "bhij"), K), "j"), "c"), "Σ_c Σ_j d_ij k_jc"),
        (n.Reduce(call("mul", n.Widen(A, Q), Q), "c"), "u·q_i"),
        (n.Unproject(Q, graphs.parameter("W", "head", "channel", "channel")), "q_i W[h]ᵀ"),
        (n.Pad(Q, 4, V), "pad(q_i, 4, v_j)"),
        (n.Count(Q), "count(q_i)"),
        (n.Index("row_i"), "row_i"),
        (n.Array("table", "t", ("head", "rows")), "t[h, :]"),
    ],
)  # fmt: skip
def test_derived_expressions_can_be_written_too(node, written):
    assert text(node) == written
