"""How pictures look: colours that keep their order in greyscale, sizes in inches, text in points.

Leaves to others: what is drawn. Nothing here is set globally; every artist is given its style.
"""

import math
from functools import partial

import numpy as np
from matplotlib.colors import Colormap, FuncNorm, LinearSegmentedColormap, Normalize, PowerNorm

INK = "#1f2933"
QUIET = "#66707c"
LINE = "#9aa3ad"
HIDDEN_FACE = "#f3f4f6"
HIDDEN_LINE = "#d3d7dd"
SEEN = "#2f5d8a"

NAME, HEADING, TEXT, SMALL = 12.0, 8.5, 7.5, 6.5
FORMULA, SMALLEST_FORMULA = 10.0, 7.0
MATH_FONT = "stix"
DPI = 200

# Lightness falls from white to navy, so greyscale shows the same order.
_WEIGHTS = ("#ffffff", "#d9e6f2", "#9fc0dd", "#5a93c2", "#2f679b", "#17406b", "#0a2140")
# Lightness rises all the way from navy through grey to pale yellow: the sign survives greyscale.
_BIAS = (
    "#10214d", "#2c4a86", "#5b7db4", "#92a6c6", "#c6cacf",
    "#dad09c", "#ecd877", "#f9e671", "#fff39f",
)  # fmt: skip

WEIGHTS_MAP: Colormap = LinearSegmentedColormap.from_list("regard.weights", _WEIGHTS)
BIAS_MAP: Colormap = LinearSegmentedColormap.from_list("regard.bias", _BIAS)


def weights_norm(high: float, mean: float) -> Normalize:
    """Return a scale from 0 on which the mean weight has about a quarter of the shade.

    On a linear scale one key that takes everything would leave all others white.

    Args:
        high: The largest weight.
        mean: The mean weight of the pairs that are seen.

    Returns:
        The scale.
    """
    return PowerNorm(_power(high, mean, 0.25), vmin=0.0, vmax=high or 1.0)


def signed_norm(reach: float, mean: float) -> Normalize:
    """Return a scale with 0 in the middle, on both sides of which the shade grows alike.

    Args:
        reach: The largest size of a value.
        mean: The mean size; a small one makes the shade grow faster near 0.

    Returns:
        The scale.
    """
    power = _power(reach, mean, 0.5)
    reach = reach or 1.0
    return FuncNorm((partial(_raise, power=power), partial(_raise, power=1 / power)), -reach, reach)


def colours(low: float, high: float, mean: float) -> tuple[Colormap, Normalize]:
    """Return the colours of weights: from white, or with 0 in the middle if some are negative.

    Args:
        low: The smallest weight.
        high: The largest.
        mean: The mean size.

    Returns:
        Colours and scale.
    """
    if low < 0:
        return BIAS_MAP, signed_norm(max(high, -low), mean)
    return WEIGHTS_MAP, weights_norm(high, mean)


def _power(high: float, mean: float, least: float) -> float:
    """Return the exponent that takes mean / high to 1/4, from `least` to 1."""
    if not 0 < mean < high:
        return 1.0
    return min(max(math.log(0.25) / math.log(mean / high), least), 1.0)


def _raise(x: np.ndarray, power: float) -> np.ndarray:
    return np.sign(x) * np.abs(x) ** power


def round_ticks(norm: Normalize, low: float, high: float) -> list[float]:
    """Return 0 and round numbers between low and high that stand apart on a scale.

    Args:
        norm: The scale.
        low: The lower end, 0 or below.
        high: The upper end, 0 or above.

    Returns:
        Ascending numbers.
    """
    apart = 0.15 * (float(norm(high)) - float(norm(low)))
    found, places = [0.0], [float(norm(0.0))]
    for number in _round_numbers(low, high):
        place = float(norm(number))
        if all(abs(place - other) >= apart for other in places):
            found.append(number)
            places.append(place)
    return sorted(found)


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1 to 5 times powers of ten, of either sign, within bounds, the largest first."""
    reach = max(high, -low)
    if not reach > 0:
        return []
    top = math.floor(math.log10(reach))
    sizes = [float(f"{digit}e{top - down}") for down in range(3) for digit in (5, 4, 3, 2, 1)]
    slack = 1e-6 * reach
    return [s for size in sizes for s in (size, -size) if low - slack <= s <= high + slack]
