"""Attention mechanisms from the literature, each a program of a few lines, and two started better.

A layer projects its input before a program sees it: what papers write as W·x and U·y is pair.q and
pair.k here. Leaves to others: the model around them (`translator`).
"""

import math

import regard as rg


def product(pair):
    """Return the scaled dot product, the score of most of them."""
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


@rg.program
def plain(pair):
    """Softmax of scaled dot products (Vaswani et al. 2017)."""
    return rg.softmax(product(pair))


@rg.program
def additive(pair):
    """A score of sums, not of products (Bahdanau, Cho and Bengio 2014)."""
    units = rg.parameter("units", per=("head", "channel"), init=rg.init.normal(0.5))
    return rg.softmax(rg.sum(units * rg.tanh(pair.q + pair.k)))


@rg.program
def mlp(pair):
    """A score by a network with one hidden layer, of 32 units per head."""
    small = rg.init.normal(0.25)
    query = rg.parameter("query", per=("head", "channel", "channel"), init=small)
    key = rg.parameter("key", per=("head", "channel", "channel"), init=small)
    bias = rg.parameter("bias", per=("head", "channel"))
    units = rg.parameter("units", per=("head", "channel"), init=small)
    hidden = rg.project(pair.q, query, width=32) + rg.project(pair.k, key, width=32) + bias
    return rg.softmax(rg.sum(units * rg.relu(hidden)))


@rg.program
def entmax(pair):
    """1.5-entmax, many of whose weights are zero (Peters, Niculae and Martins 2019)."""
    return rg.entmax(product(pair), 1.5)


@rg.program
def sparsemax(pair):
    """The nearest point of the simplex (Martins and Astudillo 2016)."""
    return rg.sparsemax(product(pair))


@rg.program
def soft_sparsemax(pair):
    """The same, with scores that start small: at first every key has a weight, so a gradient."""
    sharpness = rg.parameter("sharpness", per="head", init=rg.init.constant(0.2))
    return rg.sparsemax(product(pair) * sharpness)


@rg.program
def sigmoid(pair):
    """A sigmoid per key, shifted by how many keys there are (Ramapuram et al. 2024)."""
    return rg.weigh(rg.sigmoid(product(pair) - rg.log(pair.visible)))


def normed(row, width, size=None):
    """Return a summed row of `width` channels divided by its root mean square, with a gain."""
    gain = rg.parameter("gain", per="channel", init=rg.init.ones)
    gain = gain if size is None else size * gain
    return gain * row / rg.sqrt(rg.sum(row * row) / width + 1e-5)


@rg.program
def normed_sigmoid(pair):
    """The same, with a norm for the summed row, which the sigmoids let be of any size."""
    weights = rg.weigh(rg.sigmoid(product(pair) - rg.log(pair.visible)))
    return rg.output(weights, finish=lambda row: normed(row, pair.width))


@rg.program
def softpick(pair):
    """A rectified softmax, which may look at nothing (Zuhri et al. 2025)."""
    grown = rg.exp(product(pair)) - 1
    return rg.ratio(rg.relu(grown), abs(grown), add=1e-6)


def differential(layer, width):
    """Return the difference of two softmaxes (Ye et al. 2024) for a layer, counted from 0.

    Each looks at half of a head's channels; `width` is how many a head has.
    """
    start, half = 0.8 - 0.6 * math.exp(-0.3 * layer), width // 2
    small = rg.init.normal(0.1)

    def agreement(which):
        query = rg.parameter(f"query{which}", per="channel", init=small)
        key = rg.parameter(f"key{which}", per="channel", init=small)
        return rg.exp(rg.sum(query * key))

    @rg.program
    def differential(pair):
        one = rg.dot(pair.q[:half], pair.k[:half]) / math.sqrt(half)
        other = rg.dot(pair.q[half:], pair.k[half:]) / math.sqrt(half)
        share = agreement(1) - agreement(2) + start
        weights = rg.softmax(one) - share * rg.softmax(other)
        return rg.output(weights, finish=lambda row: normed(row, width, 1 - start))

    return differential


def elu_plus_one(row):
    """Return what is positive everywhere, and linear above 0."""
    return rg.relu(row) + rg.exp(rg.min(row, 0.0))


@rg.program
def linear(pair):
    """Products of feature maps (Katharopoulos et al. 2020)."""
    return rg.linear(elu_plus_one(pair.q), elu_plus_one(pair.k))


@rg.program
def uniform(pair):
    """The mean of everything, so no attention at all: what the others are to be better than."""
    return rg.ratio(1.0)
