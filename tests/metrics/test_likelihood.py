import math

import numpy as np
import pytest

from regard.errors import DataError
from regard.metrics import bits_per_byte, perplexity


def test_perplexity_of_uniform_guesses_is_their_number():
    found = perplexity([3 * math.log(50), 5 * math.log(50)], [3, 5]).score()
    assert found.value == pytest.approx(50) and not found.higher_is_better
    assert found.counts == {"examples": 2, "tokens": 8}


def test_uneven_batches_give_what_one_batch_of_all_would():
    losses, sizes = np.random.default_rng(0).uniform(0, 5, 1000), (1, 7, 400, 592)
    whole = perplexity([losses.sum()], [1000]).score().value
    starts = np.cumsum([0, *sizes[:-1]])
    parts = perplexity(np.add.reduceat(losses, starts), sizes).score().value
    assert parts == pytest.approx(whole, rel=1e-13)
    means = [losses[start : start + size].mean() for start, size in zip(starts, sizes, strict=True)]
    assert abs(math.exp(np.mean(means)) - whole) > 0.1


def test_bits_per_byte_of_coin_tosses_is_one_an_eighth_of_the_time():
    assert bits_per_byte([8 * math.log(2)], [8]).score().value == pytest.approx(1)
    assert bits_per_byte([math.log(2), 0], [4, 4]).score().value == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("losses", "counts", "message"),
    [
        ([1.0, float("nan")], [1, 1], r"^summed loss 2 is nan; finite numbers are needed$"),
        ([-3.0], [1], r"^summed loss 1 is -3; it cannot be below 0$"),
        ([1.0], [1, 2], r"^there are 1 summed losses and 2 references; each needs the other$"),
        ([1.0], [0], r"^token count 1 is 0, but its loss is 1$"),
        ([0.0], [0], r"^every token count is 0; there is nothing to score$"),
        ([], [], r"^there are no summed losses to score; at least one is needed$"),
        (["a"], [1], r"^each summed loss should be a number$"),
        (
            [[1.0]],
            [1],
            r"^one summed loss for each example is needed, found an array of shape \(1, 1\)$",
        ),
    ],
)
def test_unusable_sums_are_refused(losses, counts, message):
    with pytest.raises(DataError, match=message):
        perplexity(losses, counts)
