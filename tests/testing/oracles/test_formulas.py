"""The reference says what the papers say: programs against dense formulas, values and gradients."""

import math

import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile
from regard.testing.accuracy import largest, worst_error
from regard.testing.contract import run_both
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS
from tests.testing.oracles import formulas

# Recurrences need as many queries as keys; two heads that share nothing need no grouping.
SIZES = Sizes(B=2, H=2, G=2, N=9, M=9, D=8, E=6)
CASES = {}


def case(name: str):
    """Add a program and the formula it must agree with, by the formula's name."""

    def add(fn):
        CASES[fn.__name__] = (rg.program(fn), getattr(formulas, name))
        return fn

    return add


def score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def unit(row):
    return row / rg.sqrt(rg.sum(row * row))


@case("sigmoid")
def sigmoid_everywhere(pair):
    return rg.weigh(rg.sigmoid(score(pair) - rg.log(pair.keys)))


@case("learned_sink")
def sink_per_head(pair):
    sink = rg.parameter("sink", per="head")
    return rg.softmax(score(pair), where=pair.j <= pair.i, sink=sink)


@case("differential")
def differential_with_norm(pair):
    seen = pair.j <= pair.i
    other = rg.dot(rg.query_vector("q2"), rg.key_vector("k2")) / math.sqrt(SIZES.D + 2)
    weights = rg.softmax(score(pair), where=seen) - rg.scalar("share") * rg.softmax(other, seen)

    def finish(row):
        return 0.8 * row / rg.sqrt(rg.sum(row * row) / SIZES.E + 1e-5)

    return rg.output(weights, finish=finish)


@case("rotary")
def rotary_neighbours(pair):
    query = rg.rotate(pair.q, rg.rotary(pair.i), pairs="interleaved")
    key = rg.rotate(pair.k, rg.rotary(pair.j), pairs="interleaved")
    return rg.softmax(rg.dot(query, key) / rg.sqrt(pair.width))


@case("rotary_halves")
def rotary_far_pairs(pair):
    query, key = rg.rotate(pair.q, rg.rotary(pair.i)), rg.rotate(pair.k, rg.rotary(pair.j))
    return rg.softmax(rg.dot(query, key) / rg.sqrt(pair.width))


@case("query_key_norm")
def normed_queries_and_keys(pair):
    gain = rg.parameter("gain", init=rg.init.ones)
    return rg.softmax(gain * rg.dot(unit(pair.q), unit(pair.k)))


@case("euclidean")
def squared_distance(pair):
    difference = pair.q - pair.k
    return rg.softmax(-rg.sum(difference * difference) / rg.sqrt(pair.width))


@case("scaled_cosine")
def cosine_with_heat(pair):
    heat = rg.max(rg.parameter("heat", per="head"), 0.01)
    return rg.softmax(rg.dot(unit(pair.q), unit(pair.k)) / heat + rg.pair_input("bias"))


@case("soft_cap")
def capped(pair):
    return rg.softmax(5 * rg.tanh(score(pair) / 5), where=pair.j <= pair.i)


@case("laser")
def log_of_exponentials(pair):
    top = rg.max_over_keys(pair.v)
    weights = rg.softmax(score(pair))
    return rg.output(weights, values=rg.exp(pair.v - top), finish=lambda row: top + rg.log(row))


@case("rectified")
def rectified_with_norm(pair):
    gain = rg.parameter("gain", per="channel")
    weights = rg.weigh(rg.relu(score(pair)))

    def finish(row):
        return gain * row / rg.sqrt(rg.sum(row * row) / SIZES.E + 1e-6)

    return rg.output(weights, finish=finish)


@case("relu_by_length")
def relu_over_length(pair):
    return rg.weigh(rg.relu(score(pair)) / pair.keys)


@case("scalable")
def scaled_by_what_is_visible(pair):
    scale = rg.parameter("scale", per="head")
    return rg.softmax(scale * rg.log(pair.visible) * score(pair), where=pair.j <= pair.i)


@case("retention")
def retained(pair):
    decay = rg.sigmoid(rg.parameter("decay", per="head")) ** (pair.i - pair.j)
    return rg.weigh(rg.dot(pair.q, pair.k) * decay, where=pair.j <= pair.i)


@case("sparsemax")
def projected_on_the_simplex(pair):
    return rg.sparsemax(score(pair))


@case("cosine_reweighted")
def reweighted_by_cosine(pair):
    turn = rg.cos(math.pi / 2 * (pair.i - pair.j) / pair.keys)
    return rg.ratio(rg.dot(rg.relu(pair.q), rg.relu(pair.k)) * turn)


@case("gaussian")
def gaussian_kernel(pair):
    difference = pair.q - pair.k
    return rg.weigh(rg.exp(-rg.sum(difference * difference) / (2 * rg.sqrt(pair.width))))


@case("xpos")
def extrapolating(pair):
    zeta = (2 * (rg.channel // 2) / pair.width + 0.4) / 1.4
    query = rg.rotate(pair.q, rg.rotary(pair.i), pairs="interleaved") * zeta ** (pair.i / 512)
    key = rg.rotate(pair.k, rg.rotary(pair.j), pairs="interleaved") * zeta ** (-pair.j / 512)
    return rg.softmax(rg.dot(query, key) / rg.sqrt(pair.width), where=pair.j <= pair.i)


@case("contextual_positions")
def positions_by_gates(pair):
    seen = pair.j <= pair.i
    place = rg.running_sum(rg.sigmoid(score(pair)), where=seen, reverse=True)
    place = rg.min(place, 4)
    row, places = rg.floor(place), rg.table("places", per=(5, "channel"))
    low, high = rg.dot(pair.q, places[row]), rg.dot(pair.q, places[rg.min(row + 1, 4)])
    part = place - row
    return rg.softmax(score(pair) + (1 - part) * low + part * high, where=seen)


for _name, _formula in {
    "scaled_dot_product": formulas.scaled_dot_product,
    "alibi": formulas.alibi,
    "t5_buckets": formulas.t5,
    "shaw_relative": formulas.shaw,
    "transformer_xl": formulas.transformer_xl,
    "disentangled": formulas.disentangled,
    "additive": formulas.additive,
    "softmax_one": formulas.softmax_one,
    "softpick": formulas.softpick,
    "elu_features": formulas.elu_features,
    "stick_breaking": formulas.stick_breaking,
    "forget_gate": formulas.forgetting,
}.items():
    CASES[f"contract {_name}"] = (PROGRAMS[_name], _formula)


def from_formula(formula, inputs, transform):
    """Run a formula as `run_both` runs a program: with the same weights of its output."""
    leaves = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in inputs.items()}
    output = formula(**{name: transform.get(name, lambda x: x)(x) for name, x in leaves.items()})
    drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(11))
    learned = {name: x for name, x in leaves.items() if x.requires_grad}
    weights = drawn.to(torch.bfloat16).to(output.dtype)
    grads = torch.autograd.grad(
        output, list(learned.values()), weights, allow_unused=True, materialize_grads=True
    )
    found = {f"grad of {name}": grad for name, grad in zip(learned, grads, strict=True)}
    return {"output": output.detach(), **found}


# What the formula writes as the base of a power, the program learns through a sigmoid.
TRANSFORMS = {"retention": {"decay": torch.sigmoid}}


# Programs whose rows pairs choose: kernels sum them up in another way than any other backend.
CHOSEN = [f"contract {name}" for name in ("shaw_relative", "transformer_xl", "disentangled")]
# Sums over ordered keys, which no kernel has.
ORDERED = {"contract stick_breaking", "contract forget_gate", "positions_by_gates"}
RUNS = [(name, backend) for name in CASES for backend in ("reference", "tiled")]
RUNS += [(name, "cpu") for name in CHOSEN]
RUNS += [
    pytest.param(name, "cpu", marks=pytest.mark.slow)
    for name in CASES
    if name not in ORDERED and name not in CHOSEN
]


@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_program_says_what_the_paper_says(name, backend):
    check_formula(name, backend)


@pytest.mark.parametrize("tile", [(4, 2), (3, 5), (9, 4)])
@pytest.mark.parametrize("name", sorted(ORDERED))
def test_program_over_ordered_keys_says_so_in_small_tiles(name, tile):
    with force_tile(*tile):
        check_formula(name, "tiled")


def check_formula(name, backend):
    program, formula = CASES[name]
    inputs = make_inputs(program.root, SIZES, torch.float64, seed=3)
    inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    found = run_both(program, inputs, backend=backend)
    expected = from_formula(formula, inputs, TRANSFORMS.get(formula.__name__, {}))
    assert found.keys() == expected.keys()
    # Both are float64 and differ by the order of operations; formulas such as cdist and powers of
    # counts lose some digits more. A wrong formula is off by far more than a millionth.
    scale = max(1.0, *map(largest, expected.values()))
    for key, value in expected.items():
        error = worst_error(found[key], value)
        assert error <= 2e-11 * scale, f"{key}: differs by {error:.1e}"


def test_buckets_of_t5_begin_where_the_logarithm_says():
    # One distance each up to 7, then from 8 · 16^(n / 8) on, rounded up; all beyond 91 together.
    starts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
    for distance in range(201):
        expected = sum(start <= distance for start in starts) - 1
        assert formulas.t5_bucket(-distance) == expected
        assert formulas.t5_bucket(distance) == (expected + 16 if distance else 0)
