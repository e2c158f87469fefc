"""Derivatives: the rule of every operator, what is chosen at kinks, and where hidden NaN stops."""

import math

import pytest
import torch

import regard as rg
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.passes.differentiate import Adjoint, differentiate
from regard.testing.contract import classes_of_keys, observable
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

G = n.Hole("g", "bhij")
GUARD = n.Hole("seen", "bhij", "bool")
KEY, HEAT = n.Feature("key", "f"), n.Scalar("heat")
BACKENDS = ["reference", "tiled"]


def call(op, *args):
    return n.Call(op, args)


# ── Before and after ──────────────────────────────────────────────────────────────────────────
def where_nonzero(condition, value):
    """What stands behind a sum over rows: 0 where the sum is 0, so that NaN meets no 0 later."""
    return call("where", call("ne", condition, n.Const(0)), value, n.Const(0.0))


def test_leaves_receive_what_is_added_up_to_their_own_axes():
    # Before: f_j · heat receives g_ij.
    # After: with s = Σ_i g, f receives s · heat and heat receives Σ_bhj s · f.
    gradient = differentiate({call("mul", KEY, HEAT): Adjoint(G)}, {KEY, HEAT})
    received = n.Reduce(G, "i")
    assert gradient.dense[KEY] is where_nonzero(received, call("mul", received, HEAT))
    total = n.Reduce(where_nonzero(received, call("mul", received, KEY)), "bhj")
    assert gradient.dense[HEAT] is where_nonzero(total, total)
    assert not gradient.indexed and not gradient.outer


def test_guard_is_applied_after_the_factors():
    # 0 · NaN is NaN, so the guard must stand outside the product.
    gradient = differentiate({call("exp", n.PairInput("p")): Adjoint(G, GUARD)}, {n.PairInput("p")})
    product = call("mul", G, call("exp", n.PairInput("p")))
    assert gradient.dense[n.PairInput("p")] is call("where", GUARD, product, n.Const(0.0))


def test_only_what_leads_to_a_wanted_leaf_is_visited():
    score = call("add", KEY, call("exp", HEAT))
    assert list(differentiate({score: Adjoint(G)}, {KEY}).dense) == [KEY]
    assert differentiate({score: Adjoint(G)}, set()).dense == {}


def test_both_sides_of_a_square_are_added_under_one_guard():
    gradient = differentiate({call("mul", KEY, KEY): Adjoint(G)}, {KEY})
    received = n.Reduce(G, "i")
    side = call("mul", received, KEY)
    assert gradient.dense[KEY] is where_nonzero(received, call("add", side, side))


def test_indexed_arrays_and_matrices_are_left_to_be_scattered():
    table = n.Array("parameter", "t", (5,), n.Init("zeros"))
    matrix = n.Array("parameter", "m", ("channel", "channel"), n.Init("zeros"))
    q = n.Vector("query", "q")
    row = n.Reduce(n.Project(q, matrix, None), "c")
    root = call("mul", n.Gather(table, (n.Index("j"),)), row)
    gradient = differentiate({root: Adjoint(G)}, {table, matrix})
    ((indices, _),) = gradient.indexed[table]
    assert indices == (n.Index("j"),)
    (outer,) = gradient.outer[matrix]
    assert outer.rows is q
    assert gradient.dense == {}
    assert len(gradient.expressions()) == 2


def test_gradients_add_up_leaf_by_leaf():
    one = differentiate({call("mul", KEY, HEAT): Adjoint(G)}, {KEY})
    other = differentiate({call("mul", KEY, HEAT): Adjoint(G)}, {KEY, HEAT})
    both = one.merge(other)
    assert both.dense[KEY] is call("add", one.dense[KEY], other.dense[KEY])
    assert both.dense[HEAT] is other.dense[HEAT]


# ── Kinks ─────────────────────────────────────────────────────────────────────────────────────
def derivatives(function, values, backend, second=None):
    """Return the derivatives of a function of the key features f and g, one per key."""

    @rg.program
    def weighed(pair):
        return rg.weigh(function(rg.key_feature("f"), rg.key_feature("g")) + 0 * pair.j)

    f = torch.tensor(values, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    g = torch.tensor(second or values, dtype=torch.float64).view(1, 1, -1).requires_grad_()
    rows = torch.ones(1, 1, len(values), 1, dtype=torch.float64)
    inputs = {leaf.name: {"f": f, "g": g}.get(leaf.name) for leaf in weighed.inputs}
    named = {name: value for name, value in inputs.items() if value is not None}
    output = rg.attend(weighed, rows[:, :, :1], rows, rows, backend=backend, **named)
    found = torch.autograd.grad(output.sum(), [f, g], allow_unused=True)
    return [None if grad is None else grad.flatten().tolist() for grad in found]


AROUND = [-1.0, -0.0, 0.0, 2.0]
KINKS = {
    "abs is 0 at 0": (lambda x, y: abs(x), AROUND, [-1, 0, 0, 1]),
    "relu is 0 at 0": (lambda x, y: rg.relu(x), AROUND, [0, 0, 0, 1]),
    "max with a number shares a tie": (lambda x, y: rg.max(x, 0), AROUND, [0, 0.5, 0.5, 1]),
    "min with a number shares a tie": (lambda x, y: rg.min(x, 0), AROUND, [1, 0.5, 0.5, 0]),
    "clip shares at an end": (lambda x, y: rg.clip(x, -1, 2), [-2, -1, 0, 2], [0, 0.5, 1, 0.5]),
    "max of a value and itself gives it all": (lambda x, y: rg.max(x, x), AROUND, [1] * 4),
    "sign has none": (lambda x, y: rg.sign(x) + 0 * x, AROUND, [0] * 4),
    "floor has none": (lambda x, y: rg.floor(x) * 1.0 + 0 * x, [0.5, 1.0], [0, 0]),
    "a comparison has none": (lambda x, y: rg.where(x > 0, 1.0, 2.0) + 0 * x, AROUND, [0] * 4),
    "where gives to its choice": (lambda x, y: rg.where(x > 0, 3 * x, x), AROUND, [1, 1, 1, 3]),
    "// has none": (lambda x, y: x // 2 + 0 * x, [1.0, 2.0], [0, 0]),
    "% gives all to its left": (lambda x, y: x % 2, [1.0, 2.0, 5.0], [1, 1, 1]),
    "0 to a power above 1": (lambda x, y: x**2.0, AROUND, [-2, 0, 0, 4]),
    "a power of 0": (lambda x, y: x**0.0, AROUND, [0, 0, 0, 0]),
    "root away from 0": (lambda x, y: rg.sqrt(x), [0.25, 4.0], [1, 0.25]),
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", KINKS)
def test_derivative_at_a_kink(name, backend):
    function, values, expected = KINKS[name]
    assert derivatives(function, values, backend)[0] == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_of_two_values_share_equally(backend):
    f, g = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
    assert derivatives(rg.max, f, backend, g) == [[0, 0.5, 1], [1, 0.5, 0]]
    assert derivatives(rg.min, f, backend, g) == [[1, 0.5, 0], [0, 0.5, 1]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_index_has_no_derivative(backend):
    def looked_up(f, g):
        return rg.table("t", per=(3,))[rg.floor(f)] + g

    @rg.program
    def weighed(pair):
        return rg.weigh(looked_up(rg.key_feature("f"), rg.key_feature("g")))

    f, g = (torch.tensor([[[0.5, 1.5]]], requires_grad=True) for _ in "fg")
    table = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    rows = torch.ones(1, 1, 2, 1)
    rg.attend(weighed, rows, rows, rows, backend=backend, f=f, g=g, t=table).sum().backward()
    assert f.grad is None or not f.grad.any()
    assert g.grad.flatten().tolist() == [2, 2]
    assert table.grad.tolist() == [2, 2, 0]


SMOOTH = [name for name, op in OPERATORS.items() if op.gives in ("float", "join") and op.arity < 3]
NAMED = {"neg": lambda x: -x, "abs": abs}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SMOOTH)
def test_rule_of_every_operator_is_its_difference_quotient(name, backend):
    operator = OPERATORS[name]
    values = [0.3, 0.7, 1.9]
    seconds = [1.1, 0.4, 2.3]
    python = {
        "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b, "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b,
        "pow": lambda a, b: a**b, **NAMED,
    }  # fmt: skip
    apply = python.get(name) or getattr(rg, name)

    def function(x, y):
        return (apply(x) if operator.arity == 1 else apply(x, y)) + 0 * y + 0 * x

    def plain(x, y):
        args = [torch.tensor(v, dtype=torch.float64) for v in (x, y)[: operator.arity]]
        return getattr(torch if name != "softplus" else torch.nn.functional, operator.torch)(*args)

    step = 1e-6
    for place, found in enumerate(derivatives(function, values, backend, seconds)):
        for x, y, slope in zip(values, seconds, found, strict=True):
            up, down = (plain(x + s * (1 - place), y + s * place).item() for s in (step, -step))
            # The quotient errs by the third derivative times step², and by rounding over step.
            assert math.isclose(slope, (up - down) / (2 * step), rel_tol=1e-7, abs_tol=1e-8)


# ── Whole programs ────────────────────────────────────────────────────────────────────────────
# A change of a score by one step may change which keys are chosen.
CHECKED = [name for name in PROGRAMS if name not in ("best_keys", "sparse_difference")]
TINY = Sizes(B=1, H=2, G=1, N=2, M=3, D=6, E=2)
# Too many numbers for the quick suite; the contract compares them with the reference anyway.
QUICK = ["alibi", "shaw_relative", "query_sink", "mlp", "rotary_interleaved", "softpick", "gated"]


def check_gradients(name):
    program = PROGRAMS[name]
    inputs = make_inputs(program.root, TINY, torch.float64, seed=8)
    learned = {k: x.requires_grad_() for k, x in inputs.items() if x.is_floating_point()}
    observe = tuple(what for what in observable(program) if not what.startswith("max"))

    def run(*tensors):
        named = {**inputs, **dict(zip(learned, tensors, strict=True))}
        named |= classes_of_keys(inputs["k"], observe)
        output, seen = rg.attend(
            program, **named, backend="tiled", observe=observe, seed=3, query_offset=1
        )
        values = [value[0] if isinstance(value, tuple) else value for value in seen.values()]
        rows = [torch.where(value.isinf(), 0.0, value) for value in values]
        return (output, *rows)

    assert torch.autograd.gradcheck(run, tuple(learned.values()), fast_mode=True)


@pytest.mark.parametrize("name", QUICK)
def test_derived_gradient_is_the_difference_quotient(name):
    check_gradients(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_derived_gradient_of_every_program_is_the_difference_quotient(name):
    check_gradients(name)


# ── Hidden NaN ────────────────────────────────────────────────────────────────────────────────
HIDDEN = {
    "a choice": lambda pair: rg.where(pair.j % 2 == 0, rg.dot(pair.q, pair.k), -1.0),
    "a relu": lambda pair: rg.sum(rg.relu(pair.q + pair.k)),
    "a rotation by data": lambda pair: rg.dot(
        pair.q, rg.rotate(pair.k, rg.key_feature("angle") * rg.parameter("speed", per="channel"))
    ),
    "a norm": lambda pair: rg.dot(pair.q, pair.k / rg.sqrt(rg.dot(pair.k, pair.k))),
    "a projection": lambda pair: rg.dot(
        pair.q, rg.project(pair.k, rg.parameter("m", per=("channel", "channel")))
    ),
    "a slice": lambda pair: rg.dot(pair.q[:2], pair.k[2:]),
    "a shift": lambda pair: rg.dot(pair.q, pair.k - rg.max_over_keys(pair.k)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_nan_reaches_no_gradient_through(name, backend):
    program = rg.program(lambda pair: rg.softmax(HIDDEN[name](pair), where=pair.j < 3))
    inputs = make_inputs(program.root, Sizes(D=4, N=3, M=5), torch.float64)
    for key in {"k", "v", "angle"} & inputs.keys():
        inputs[key][:, :, 3:] = torch.nan
    learned = [x.requires_grad_() for x in inputs.values()]
    output = rg.attend(program, **inputs, backend=backend)
    for grad in torch.autograd.grad(output.sum(), learned):
        assert grad.isfinite().all()
