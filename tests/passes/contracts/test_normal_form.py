import pytest

import regard as rg
from regard.lang import tracer
from regard.lang.pair import Pair
from regard.passes.contracts.normal_form import NormalForms


def shifts(expression):
    """Tell whether the form of an expression stays when all positions rise."""
    with tracer.tracing():
        node = expression(Pair()).node
    forms = NormalForms()
    return forms.key(node) == forms.key(node, raised=True)


def turned(row, angle, pairs="halves"):
    return rg.rotate(row, angle, pairs=pairs)


@pytest.mark.parametrize(
    "expression",
    [
        lambda p: abs(p.i - p.j),
        lambda p: 3 * p.i - p.j - 2 * p.i,
        lambda p: (p.i - p.j) * (p.i + p.j) - p.i**2 + p.j**2,
        lambda p: p.j < p.i + 3,
        lambda p: p.i % 4 == p.j % 4,
        lambda p: p.j % 4 != p.i % 4,
        lambda p: (p.i - p.j) // 4,
        lambda p: p.i / 4 - p.j / 4,
        lambda p: rg.dot(turned(p.q, rg.rotary(p.i)), turned(p.k, rg.rotary(p.j))),
        lambda p: rg.dot(turned(p.k, 0.1 * p.j), turned(p.q, 0.1 * p.i)) * p.head,
        lambda p: rg.sum(0.5 * turned(p.q, 0.1 * p.i) * turned(p.k, 0.1 * p.j)),
    ],
)
def test_what_reads_differences_alone_stays(expression):
    assert shifts(expression)


@pytest.mark.parametrize(
    "expression",
    [
        lambda p: p.i + p.j,
        lambda p: p.j < 4,
        lambda p: p.i % 4 == p.j % 8,
        lambda p: p.i // 4 == p.j // 4,
        lambda p: p.i * p.j,
        lambda p: rg.dot(turned(p.q, 0.1 * p.i), p.k),
        lambda p: rg.dot(turned(p.q, 0.1 * p.i), turned(p.k, 0.2 * p.j)),
        lambda p: rg.dot(turned(p.q, 0.1 * p.i), turned(p.k, 0.1 * p.j, "interleaved")),
        # Weights of channels differ within a pair of channels, which the rotation mixes.
        lambda p: rg.sum(rg.channel * turned(p.q, 0.1 * p.i) * turned(p.k, 0.1 * p.j)),
    ],
)
def test_what_reads_positions_otherwise_does_not(expression):
    assert not shifts(expression)
