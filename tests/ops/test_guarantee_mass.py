import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import regard as rg
from regard.errors import InputError


def score_of(pair, cap=5.0):
    return cap * rg.tanh(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width))


@rg.program(contracts=["causal", "bounded <= 5"])
def causal(pair):
    return rg.softmax(score_of(pair), where=pair.j <= pair.i)


@rg.program
def with_sink(pair):
    sink = 3 * rg.tanh(rg.parameter("sink", per="head"))
    return rg.softmax(score_of(pair), where=pair.j <= pair.i, sink=sink)


@rg.program
def local(pair):
    seen = (pair.j < 2) | (abs(pair.i - pair.j) < 4)
    return rg.softmax(score_of(pair), where=seen)


def mass_of(guarantee, chosen, q, k, **inputs):
    _, found = rg.attend(guarantee.program, q, k, k, observe=["weights"], **inputs)
    return (found["weights"] * chosen).sum(-1)


def adversarial(rows, keys, chosen):
    """Queries and keys whose chosen scores are as low as they can be, all others as high."""
    q = torch.full((1, 2, rows, 4), 100.0)
    k = torch.where(chosen[:, None], -100.0, 100.0).expand(1, 2, keys, 4).clone()
    return q, k


@given(
    eps=st.floats(1e-4, 0.9),
    rows=st.integers(1, 9),
    more=st.integers(0, 9),
    program=st.sampled_from([causal, with_sink, local]),
    first=st.integers(1, 3),
)
def test_chosen_keys_have_their_mass_in_the_worst_case(eps, rows, more, program, first):
    guarantee = rg.guarantee_mass(program, lambda pair: pair.j < first, eps)
    chosen = torch.arange(rows + more) < first
    q, k = adversarial(rows, rows + more, chosen)
    inputs = {"sink": torch.full((2,), 100.0)} if program is with_sink else {}
    mass = mass_of(guarantee, chosen, q, k, **inputs)
    assert (mass >= 1 - eps).all()
    # Worst case and bound meet up to the margin for rounding: nothing is pushed for nothing. A sink
    # counts as another key, though it may be lower than scores can be.
    if program is causal and first == 1 and rows + more > 2 and eps < 0.5:
        last = mass[:, :, -1] if rows > 2 else torch.tensor(1 - eps)
        assert (last <= 1 - 0.99 * eps + 1e-6).all()


@given(lengths=st.lists(st.integers(1, 8), min_size=2, max_size=2), seed=st.integers(0, 99))
def test_rows_of_every_length_have_their_mass(lengths, seed):
    guarantee = rg.guarantee_mass(causal, lambda pair: pair.j == pair.i, 0.05)
    random = torch.Generator().manual_seed(seed)
    q, k = (30 * torch.randn(2, 2, 8, 4, generator=random) for _ in range(2))
    mass = mass_of(guarantee, torch.eye(8), q, k, key_lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        assert (mass[row, :, :length] >= 0.95).all()


@given(seed=st.integers(0, 99), eps=st.floats(0.001, 0.5), seen=st.integers(1, 3))
def test_promised_feature_has_its_mass(seed, eps, seen):
    guarantee = rg.guarantee_mass(causal, "anchor", eps, seen=seen)
    anchor = torch.zeros(9, dtype=torch.bool)
    anchor[:seen] = True
    anchor |= torch.rand(9, generator=torch.Generator().manual_seed(seed)) < 0.3
    q, k = adversarial(9, 9, anchor)
    mass = mass_of(guarantee, anchor, q, k, anchor=anchor)
    assert (mass[:, :, seen - 1 :] >= 1 - eps).all()


def test_more_promised_keys_need_less():
    few, many = (rg.guarantee_mass(causal, "anchor", 0.1, seen=seen) for seen in (1, 4))
    anchor = torch.arange(12) < 4
    q, k = adversarial(12, 12, anchor)
    masses = [mass_of(one, anchor, q, k, anchor=anchor)[0, 0, -1] for one in (few, many)]
    assert masses[0] > masses[1] >= 0.9


def test_a_sink_takes_part():
    """Without the sink in the proof its mass would break the guarantee."""
    guarantee = rg.guarantee_mass(with_sink, lambda pair: pair.j == pair.i, 0.01)
    q, k = torch.full((1, 2, 1, 4), 100.0), torch.full((1, 2, 1, 4), -100.0)
    high = mass_of(guarantee, torch.ones(1), q, k, sink=torch.full((2,), 100.0))
    assert (0.99 <= high).all() and (high < 1).all()


def test_bias_is_the_formulas():
    guarantee = rg.guarantee_mass(causal, lambda pair: pair.j == 0, 0.1)
    q, k = adversarial(4, 4, torch.arange(4) < 1)
    mass = mass_of(guarantee, torch.arange(4) < 1, q, k)[0, 0, 3].item()
    bias = 2 * 5 + math.log(0.9 / 0.1 * 3) + 1e-3
    expected = 1 / (1 + 3 * math.exp(10 - bias))
    assert mass == pytest.approx(expected, rel=1e-5)


def test_contracts_travel_but_for_the_bound():
    guarantee = rg.guarantee_mass(causal, lambda pair: pair.j < 4, 0.1)
    assert guarantee.program.contracts == ("causal",)
    assert guarantee.program.name == "causal_steered"


def test_a_contract_that_steering_breaks_is_refused():
    even = rg.program(contracts=["permutation-equivariant"])(lambda p: rg.softmax(score_of(p)))
    with pytest.raises(InputError, match="with these keys, <lambda>_steered declares 'permutation"):
        rg.guarantee_mass(even, lambda pair: pair.j == 0, 0.1)


def test_proof_prints_well():
    text = str(rg.guarantee_mass(with_sink, lambda pair: pair.j < 4, 0.1))
    assert text.splitlines() == [
        "with_sink_steered: mass of the chosen keys >= 0.9 in every row",
        "  scores and sink lie in -5 … 5",
        "  a row sees n keys, s >= 1 of them chosen; the others are n - s and a sink",
        "  their mass is at most others · exp(highest),",
        "  that of the chosen keys at least s · exp(lowest + b), and",
        "  b >= highest - lowest + ln((1 - eps)/eps · others/s)",
        "  if no score is NaN",
        "  if the mass is that before any dropout added later",
        "  if every query stands at the position of a key: 0 <= i < pair.keys",
    ]
    promised = rg.guarantee_mass(causal, "anchor", 0.1, seen=2)
    assert promised.assumes[-1] == "every row sees at least 2 of the keys, as promised"
    assert "mass of keys with 'anchor'" in str(promised)


def first(pair):
    return pair.j == 0


def made(fn):
    return rg.program(fn)


PLAIN = made(lambda p: rg.softmax(rg.dot(p.q, p.k)))
HIDING = made(lambda p: rg.softmax(rg.where(p.j <= p.i, score_of(p), -math.inf)))
WINDOW = made(lambda p: rg.softmax(score_of(p), where=abs(p.i - p.j) < 4))
DROPPED = made(lambda p: rg.softmax(score_of(p), where=rg.keep(0.1) & (p.j <= p.i)))
SINK = made(lambda p: rg.softmax(score_of(p), sink=rg.parameter("sink")))
LARGE = made(lambda p: rg.softmax(score_of(p, 1e4)))
TWO = made(lambda p: rg.softmax(score_of(p)) + rg.softmax(score_of(p), where=p.j <= p.i))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((causal.root, first, 0.1), "guarantee_mass takes a program"),
        ((causal, first, 0.0), "eps=0.0 must be a number above 0 and below 1"),
        ((causal, first, 1), "eps=1 must be"),
        ((causal, first, True), "eps=True must be"),
        ((causal, first, "few"), "eps='few' must be"),
        ((causal, 3, 0.1), "keys takes the name of a key feature or a function of the pair"),
        ((causal, lambda p: p.i - p.j, 0.1), "keys chooses by a condition such as pair.j < 4"),
        ((causal, lambda p: True, 0.1), "keys chooses by a condition such as pair.j < 4"),
        ((PLAIN, first, 0.1), "nothing bounds it, and no bias outweighs it"),
        ((HIDING, first, 0.1), "hide pairs with `where`"),
        ((LARGE, first, 0.1), "single precision cannot hold a bias that outweighs more than 1000"),
        ((SINK, first, 0.1), "nothing bounds the sink from above"),
        ((TWO, first, 0.1), "mass is guaranteed in one softmax; the weights of this are call"),
        ((WINDOW, first, 0.1), "a row may see none of the keys"),
        ((causal, lambda p: p.j == p.i + 1, 0.1), "a row may see none of the keys"),
        ((DROPPED, first, 0.1), "a row may see none of the keys"),
        ((causal, "anchor", 0.1), "promise with seen=1 that every row of every call sees one"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        rg.guarantee_mass(*given)


def test_a_promise_is_a_number_of_keys():
    with pytest.raises(InputError, match="seen=0 must be a whole number from 1 on, or None"):
        rg.guarantee_mass(causal, "anchor", 0.1, seen=0)
