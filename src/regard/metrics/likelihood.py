"""Language modelling: perplexity and bits per byte, from sums over texts or batches of any size."""

from typing import Any

import numpy as np

from regard.errors import DataError
from regard.metrics.check import as_numbers, check_paired
from regard.metrics.measure import Tally


def perplexity(losses: Any, tokens: Any) -> Tally:
    """Return exp of the negative log likelihood per token.

    A batch counts by its tokens, so uneven batches give what one batch of all would.

    Args:
        losses: (N,): for each text or batch, the negative log likelihood summed over its predicted
            tokens, in nats.
        tokens: (N,): how many tokens that were.

    Returns:
        The metric, from 1; lower is better.

    Raises:
        DataError: If the lists do not fit each other, or a number makes no sense.
    """
    rows = _rows(losses, tokens, "token count")
    return Tally("perplexity", rows, _perplexity, {"tokens": rows[:, 1].sum()}, larger_wins=False)


def bits_per_byte(losses: Any, sizes: Any) -> Tally:
    """Return the bits a byte of text costs, whatever its tokens are.

    Args:
        losses: (N,): for each text or batch, the summed negative log likelihood, in nats.
        sizes: (N,): how many bytes of UTF-8 that were.

    Returns:
        The metric, from 0; lower is better.

    Raises:
        DataError: If the lists do not fit each other, or a number makes no sense.
    """
    rows = _rows(losses, sizes, "byte count")
    return Tally("bits per byte", rows, _bits, {"bytes": rows[:, 1].sum()}, larger_wins=False)


def _rows(losses: Any, counts: Any, noun: str) -> np.ndarray:
    columns = (as_numbers(losses, "summed loss", 0.0), as_numbers(counts, noun, 0.0))
    check_paired(*columns, "summed losses")
    empty = (columns[1] == 0) & (columns[0] > 0)
    if empty.any():
        place = int(empty.argmax())
        raise DataError(f"{noun} {place + 1} is 0, but its loss is {columns[0][place]:g}")
    if not columns[1].sum():
        raise DataError(f"every {noun} is 0; there is nothing to score")
    return np.stack(columns, axis=1)


def _perplexity(sums: np.ndarray) -> np.ndarray:
    return np.exp(sums[..., 0] / sums[..., 1])


def _bits(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1] / np.log(2)
