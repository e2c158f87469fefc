"""How much a contender gains on a baseline, and how sure that is, over test rows and seeds alike.

A score of one training on one test set varies with both (Reimers & Gurevych 2017, "Reporting Score
Distributions Makes a Difference"; Dror et al. 2018, "The Hitchhiker's Guide to Testing Statistical
Significance in NLP"). Each seed trains both systems and all are asked the same rows, so gains are a
table of seeds × rows with two crossed random effects, a paired comparison. Its grand mean varies
by the seeds (variance A, S − 1 degrees of freedom) and by the rows (variance B); the interval
mean ± √(t²_{S−1}·A + t²_{N−1}·B) is never too short for normal effects (Banerjee 1960, Sankhyā 22).
The percentile bootstrap over rows and seeds is: with 5 seeds it calls up to one in six systems
different that are alike.

Any metric becomes one number a row by the jackknife (Tukey 1958); of a mean, the row's own.
Leaves to others: what is compared (`judge`), the metrics (`metrics`).
"""

from dataclasses import dataclass

import numpy as np

from regard.errors import DataError
from regard.metrics.measure import Measure
from regard.metrics.need import need

# Bisections of p, and the smallest p that is told from 0.
_HALVINGS, _LEAST = 60, 1e-12
# How often seeds agree more closely by chance than they are taken to.
_AGREEING = 0.1


@dataclass(frozen=True)
class Gain:
    """How much better a contender is than a baseline, in the unit of the metric.

    Attributes:
        value: The mean over seeds and rows; above 0 is better, whatever the metric.
        low: The lower end of its interval.
        high: The upper end.
        level: Of the interval.
        p: How probable so large a gain or loss is if there is none.
        by_seeds: The share of the variance that comes of the seeds, from 0 to 1.
    """

    value: float
    low: float
    high: float
    level: float
    p: float
    by_seeds: float


def row_values(measure: Measure) -> np.ndarray:
    """Return what each test row adds to a metric, such that their mean is the metric.

    Args:
        measure: The metric of one system, over at least two rows.

    Returns:
        float64 (N,): jackknife pseudo-values, centred on the metric.

    Raises:
        DataError: If the metric is undefined, or would be without one of the rows.
    """
    value, without = measure.score().value, measure.left_out()
    if not np.isfinite(without).all():
        row = int(np.flatnonzero(~np.isfinite(without))[0]) + 1
        raise DataError(
            f"{measure.name} is undefined without test row {row}, so how it varies with the rows "
            "is unknown; hold out more rows, or judge by another metric"
        )
    return value + (len(without) - 1) * (without.mean() - without)


def gain_of(table: np.ndarray, level: float) -> Gain:
    """Return the gain that a table of gains shows.

    Args:
        table: float64 (S, N): for each seed and row the contender's value less the baseline's,
            the sign such that more is better; at least two of both.
        level: Of the interval.

    Returns:
        The gain.
    """
    value, seeds, rows = parts_of(table)
    half = half_width(seeds, rows, table.shape, 1 - level)
    both = float(seeds + rows)
    return Gain(
        value=float(value),
        low=float(value - half),
        high=float(value + half),
        level=level,
        p=float(p_value(value, seeds, rows, table.shape)),
        by_seeds=float(seeds) / both if both else 0.0,
    )


def parts_of(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of a table and the two parts of the variance of that mean.

    With effects a of seeds, b of rows and e of both together, the means of seeds vary by
    var a + var e / N and those of rows by var b + var e / S. What of e is in the mean is counted
    once, with the seeds.

    Args:
        table: (…, S, N).

    Returns:
        The mean (…); its variance by the seeds, (var a + var e / N) / S, no smaller than e alone
        makes it nine times of ten; its variance by the rows, var b / N, no smaller than 0.
    """
    seeds, rows = table.shape[-2:]
    by_seeds = table.mean(-1).var(-1, ddof=1) / seeds
    by_rows = table.mean(-2).var(-1, ddof=1) / rows
    within = table.var(-1, ddof=1).mean(-1) / rows
    noise = np.maximum(within - by_rows, 0) / (seeds - 1)
    # Few seeds whose rows are right or wrong may agree to the last row, and are not certain then.
    least = noise * need("scipy.stats").chi2.ppf(_AGREEING, seeds - 1) / (seeds - 1)
    return table.mean((-1, -2)), np.maximum(by_seeds, least), np.maximum(by_rows - noise, 0)


def half_width(
    seeds: np.ndarray | float,
    rows: np.ndarray | float,
    shape: tuple[int, ...],
    alpha: np.ndarray | float,
) -> np.ndarray:
    """Return half the length of an interval.

    Args:
        seeds: Variance by the seeds.
        rows: Variance by the rows.
        shape: Of the table, (…, S, N).
        alpha: One less the level.

    Returns:
        Half its length, in the unit of the table.
    """
    t = need("scipy.stats").t
    of_seeds, of_rows = (t.isf(alpha / 2, count - 1) for count in shape[-2:])
    return np.sqrt(of_seeds**2 * seeds + of_rows**2 * rows)


def p_value(
    value: np.ndarray | float,
    seeds: np.ndarray | float,
    rows: np.ndarray | float,
    shape: tuple[int, ...],
) -> np.ndarray:
    """Return the α at which the interval just reaches 0.

    Args:
        value: The mean.
        seeds: Its variance by the seeds.
        rows: Its variance by the rows.
        shape: Of the table, (…, S, N).

    Returns:
        p, two-sided; 1 for a mean of 0.
    """
    size = np.abs(np.asarray(value, np.float64))
    low, high = np.full(size.shape, np.log(_LEAST)), np.zeros(size.shape)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reaches = half_width(seeds, rows, shape, np.exp(middle)) >= size
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    return np.where(size > 0, np.exp(high), 1.0)
