"""Formulas as LaTeX: golden samples, and every line is one that mathtext can set."""

import re

import pytest

from regard.ir import nodes as n
from regard.ir.print_latex import formula_latex, latex, latex_lines
from tests.ir import graphs
from tests.ir.golden import assert_golden
from tests.ir.graphs import KJ, QI, K, Q, call, dot

A, B = n.Scalar("tau"), n.Scalar("soft_cap")


def assert_mathtext_reads(line: str) -> None:
    """Fail unless matplotlib can set the line."""
    pytest.importorskip("matplotlib")
    from matplotlib.mathtext import MathTextParser

    MathTextParser("path").parse(f"${line}$")


def test_formulas_of_all_samples_are_as_kept():
    formulas = [formula_latex(name, root) for name, root in graphs.SAMPLES.items()]
    assert_golden("formulas.tex", "\n\n".join(formulas) + "\n")


@pytest.mark.parametrize("name", graphs.SAMPLES)
def test_mathtext_sets_every_line_of_every_sample(name):
    for line in latex_lines(graphs.SAMPLES[name]):
        assert_mathtext_reads(line)


def test_mathtext_check_notices_what_it_cannot_set():
    with pytest.raises(ValueError, match="bmod"):
        assert_mathtext_reads(r"i \bmod 2")


@pytest.mark.parametrize("name", graphs.SAMPLES)
def test_the_block_has_one_sign_of_alignment_a_line_and_closes_what_it_opens(name):
    block = formula_latex(name, graphs.SAMPLES[name])
    first, *lines, last = block.split("\n")
    assert (first, last) == (r"\begin{aligned}", r"\end{aligned}")
    assert [line.count("&") for line in lines] == [1] * len(lines)
    assert [line.endswith(r" \\") for line in lines] == [True] * (len(lines) - 1) + [False]
    bare = re.sub(r"\\[{}]", "", block)
    assert bare.count("{") == bare.count("}")
    assert bare.count(r"\left") == bare.count(r"\right")


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (A, r"\tau"),
        (B, r"\mathrm{soft\_cap}"),
        (n.Scalar("λ"), r"\lambda"),
        (n.Scalar("N"), "N'"),
        (n.Feature("query", "doc_id"), r"\mathrm{doc\_id}_{i}"),
        (call("mul", B, call("tanh", call("div", A, B))),
         r"\mathrm{soft\_cap} \, \tanh\left(\frac{\tau}{\mathrm{soft\_cap}}\right)"),
        (call("mul", 2, 3), r"2 \times 3"),
        (call("pow", call("div", A, B), 2), r"\left(\frac{\tau}{\mathrm{soft\_cap}}\right)^{2}"),
        (n.Const(2.5e-7), r"2.5 \times 10^{-7}"),
        (n.Const(-1e-7), "-10^{-7}"),
        (n.Const(0.1234567890123), r"0.123457\ldots"),
        (n.Const(float("inf")), r"\infty"),
        (call("eq", QI, KJ), r"i \equiv j"),
        (call("mod", QI, 4), r"i \;\mathrm{mod}\; 4"),
        (call("floordiv", QI, 4), r"\left\lfloor \frac{i}{4}\right\rfloor"),
        (call("not", call("le", QI, KJ)), r"\neg \left(i \leq j\right)"),
        (dot(Q, K), r"q_{i} \cdot k_{j}"),
        (n.Reduce(call("abs", call("sub", Q, K)), "c"), r"\sum_{c} \left|q_{ic} - k_{jc}\right|"),
        (n.Keep(A, "bh", 0), r"\operatorname{keep}_{bh}\left(\tau\right)"),
    ],
)  # fmt: skip
def test_expressions_are_set_as_a_mathematician_would(node, written):
    assert latex(node) == written
    assert_mathtext_reads(written)


def test_shared_parts_follow_after_where():
    part = call("tanh", call("add", dot(Q, K), call("abs", call("sub", QI, KJ))))
    written = latex(call("div", part, call("add", part, 1)))
    assert written.startswith(r"\frac{\mathrm{t1}_{ij}}{\mathrm{t1}_{ij} + 1} \quad\text{where}\; ")
    assert_mathtext_reads(written)


def test_a_shared_graph_does_not_explode():
    assert len(formula_latex("doubling", graphs.doubling(40))) < 20_000
