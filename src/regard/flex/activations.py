"""Activation functions of torch.nn.functional on traced values, beside those of the language.

Each is torch's formula. Leaves to others: all other functions (`functions`).
"""

import math
from typing import Any

from regard.flex.elementwise import compared, fused, number, where
from regard.flex.functions import offered
from regard.flex.traced import Traced


def _times(x: Any, y: Any) -> Traced:
    return fused("mul", x, y)


def _above(x: Any, bound: Any, yes: Any, no: Any) -> Traced:
    return where(compared("gt", x, bound), yes, no)


def _limited(x: Any, low: Any, high: Any) -> Traced:
    found = where(compared("lt", x, low), low, x)
    return where(compared("gt", found, high), high, found)


@offered("gelu")
def gelu(x: Any, approximate: str = "none") -> Traced:
    """Return x times the normal distribution at x, or its approximation by tanh."""
    half = _times(0.5, x)
    if approximate == "tanh":
        cube = _times(0.044715, _times(x, _times(x, x)))
        inner = _times(math.sqrt(2 / math.pi), fused("add", x, cube))
        return _times(half, fused("add", 1.0, fused("tanh", inner)))
    return _times(half, fused("add", 1.0, fused("erf", _times(x, math.sqrt(0.5)))))


@offered("silu", "swish")
def silu(x: Any) -> Traced:
    """Return x · sigmoid(x)."""
    return _times(x, fused("sigmoid", x))


@offered("softplus")
def softplus(x: Any, beta: Any = 1.0, threshold: Any = 20.0) -> Traced:
    """Return log(1 + exp(βx)) / β, and x itself where βx is above the threshold."""
    scaled = number(x) if beta == 1 else _times(x, beta)
    soft = fused("softplus", scaled)
    return _above(scaled, threshold, x, soft if beta == 1 else fused("div", soft, beta))


@offered("logsigmoid", "log_sigmoid")
def logsigmoid(x: Any) -> Traced:
    """Return log(sigmoid(x))."""
    return fused("neg", fused("softplus", fused("neg", x)))


def _below(x: Any, alpha: Any) -> Traced:
    return _times(alpha, fused("sub", fused("exp", fused("min", x, 0.0)), 1.0))


@offered("elu")
def elu(x: Any, alpha: Any = 1.0) -> Traced:
    """Return x above 0 and α (exp(x) - 1) below."""
    return _above(x, 0.0, x, _below(x, alpha))


@offered("celu")
def celu(x: Any, alpha: Any = 1.0) -> Traced:
    """Return x above 0 and α (exp(x / α) - 1) below."""
    return _above(x, 0.0, x, _below(fused("div", x, alpha), alpha))


@offered("selu")
def selu(x: Any) -> Traced:
    """Return elu with the slope and α that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _times(1.0507009873554805, elu(x, 1.6732632423543772))


@offered("leaky_relu")
def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Traced:
    """Return x above 0 and a part of it below."""
    return _above(x, 0.0, x, _times(negative_slope, x))


@offered("relu6")
def relu6(x: Any) -> Traced:
    """Return x limited to 0 … 6."""
    return _limited(x, 0.0, 6.0)


@offered("hardtanh")
def hardtanh(x: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Traced:
    """Return x limited to an interval."""
    return _limited(x, min_val, max_val)


@offered("hardsigmoid")
def hardsigmoid(x: Any) -> Traced:
    """Return x / 6 + 1/2 limited to 0 … 1."""
    return fused("div", _limited(fused("add", x, 3.0), 0.0, 6.0), 6.0)


@offered("hardswish")
def hardswish(x: Any) -> Traced:
    """Return x · hardsigmoid(x)."""
    return _times(x, hardsigmoid(x))


@offered("mish")
def mish(x: Any) -> Traced:
    """Return x · tanh(softplus(x))."""
    return _times(x, fused("tanh", fused("softplus", x)))


@offered("softsign")
def softsign(x: Any) -> Traced:
    """Return x / (1 + |x|)."""
    return fused("div", x, fused("add", 1.0, fused("abs", x)))


@offered("tanhshrink")
def tanhshrink(x: Any) -> Traced:
    """Return x - tanh(x)."""
    return fused("sub", x, fused("tanh", x))


@offered("threshold")
def threshold(x: Any, threshold: Any, value: Any) -> Traced:
    """Return x above a threshold and a value below."""
    return _above(x, threshold, x, value)
