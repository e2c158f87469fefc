import itertools
import math

import pytest
import torch

from regard.hf.cheaper.choose import error_of, path_of, predicted_ms
from regard.hf.cheaper.layers import runs
from regard.hf.cheaper.look import Look
from regard.hf.cheaper.price import Prices

CALLS = (1, 1)


def look_of(*units):
    """What each unit errs by with the candidates beside plain."""
    error = torch.tensor([[0.0] * len(units), *zip(*units, strict=True)], dtype=torch.float64)
    return Look(error, torch.ones_like(error))


# A run of one or two units: plain costs 4 each, the candidates 2 and 1; a call costs 0.5.
PRICES = Prices([[[0.0, 4.5, 8.5], [0.0, 2.5, 4.5], [0.0, 1.5, 2.5]]], [0, 0])
LOOKS = (look_of((0.1, 0.9), (0.2, 0.3)), look_of((0.01, 0.5), (0.6, 0.7)))


def test_neighbours_that_run_the_same_are_one_call():
    assert runs((1, 1, 0, 2)) == [(0, 2), (2, 3), (3, 4)]
    assert PRICES.layer(0, (1, 1)) == 4.5 and PRICES.layer(0, (1, 2)) == 4.0


def test_every_step_saves_time():
    path = path_of(LOOKS, PRICES, CALLS)
    times = [predicted_ms(state, PRICES, CALLS) for state in path]
    assert path[0] == ((0, 0), (0, 0)) and times[0] == 17.0
    assert all(one > two for one, two in itertools.pairwise(times))
    assert path[-1] == ((2, 2), (2, 2))


def test_the_first_step_saves_most_for_what_it_loses():
    assert path_of(LOOKS, PRICES, CALLS)[1] == ((0, 0), (1, 0))
    assert error_of(((0, 0), (1, 0)), LOOKS) == pytest.approx(0.01)


def test_states_of_the_path_are_near_the_best_there_are():
    path = path_of(LOOKS, PRICES, CALLS)
    every = [(one, two) for one in itertools.product(range(3), repeat=2)
             for two in itertools.product(range(3), repeat=2)]  # fmt: skip
    for state in path:
        error = error_of(state, LOOKS)
        best = min(
            predicted_ms(one, PRICES, CALLS) for one in every if error_of(one, LOOKS) <= error
        )
        assert predicted_ms(state, PRICES, CALLS) <= best + 2.0


def test_a_layer_that_is_called_more_often_counts_more():
    assert path_of((LOOKS[0], LOOKS[0]), PRICES, (1, 5))[1][0] == (0, 0)


def test_nothing_is_changed_that_saves_no_time():
    dear = Prices([[[0.0, 1.0, 1.5], [0.0, 1.0, 2.0], [0.0, 3.0, math.inf]]], [0, 0])
    assert len(path_of(LOOKS, dear, CALLS)) == 1
