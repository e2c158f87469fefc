"""What is done to scores before they become weights.

Leaves to others: the other families.
"""

import math

from regard import lang as rg
from regard.catalogue.variant import variant


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


_ORDERLESS = ("permutation-equivariant", "never empty")
_CAUSAL = ("causal", "never empty")


@variant("Soft cap", "Gemma Team 2024", "2408.00118", (*_CAUSAL, "bounded <= 50"))
def soft_cap(pair, *, cap=50.0):
    """Press scores into -cap … cap by a hyperbolic tangent.

    For training without spikes of the scores, and needed by the weights of Gemma 2 and Grok-1
    (cap 30). It bounds how sharp a head can be and costs one hyperbolic tangent per pair; later
    models normalise queries and keys instead (`qk_rms_norm`), which fast kernels take.
    """
    return rg.softmax(cap * rg.tanh(_score(pair) / cap), where=pair.j <= pair.i)


@variant("Temperature", "Hinton et al. 2015", "1503.02531", ("permutation-equivariant",))
def temperature(pair):
    """Divide scores by a number given with each call.

    To look at a trained model with sharper or flatter heads, or to anneal from soft to hard in
    training. Below 1 sharpens, above 1 flattens, and 1 is plain attention; changing it rebuilds
    nothing.
    """
    return rg.softmax(_score(pair) / rg.scalar("temperature", default=1.0))


@variant("Log-length scaling", "Chiang & Cholak 2022", "2202.12172", _ORDERLESS)
def log_n(pair, *, trained=512):
    """Multiply scores by the logarithm of the number of keys, 1 at the trained length.

    Keeps weights as sharp in longer inputs as in those trained on, where a softmax would spread
    over the added keys. Nothing is learned, so it can be given to a trained encoder; for causal
    models, whose rows see different numbers of keys, take `scalable_softmax`.
    """
    return rg.softmax(_score(pair) * rg.log(pair.keys) / math.log(trained))


@variant("Scalable-Softmax (SSMax)", "Nakanishi 2025", "2501.19399", _CAUSAL)
def scalable_softmax(pair):
    """Multiply scores by a learned number times the logarithm of how many keys are seen.

    For language models that shall find a key among any number of others: the largest weight does
    not fade as the context grows. One number per head; train with it from the start, or put it in
    afterwards and fine-tune.
    """
    scale = rg.parameter("scale", per="head", init=rg.init.constant(0.43))
    return rg.softmax(scale * rg.log(pair.visible) * _score(pair), where=pair.j <= pair.i)


@variant("Forgetting Transformer (FoX)", "Lin et al. 2025", "2503.02130", _CAUSAL)
def forgetting(pair):
    """Add the logarithms of the forget gates of all tokens after the key.

    A softmax with the recency of a recurrent network, which the text decides: a gate near 0 cuts
    off all that came before it. It needs no positions and extrapolates well. The layer sums up
    the logarithms, so a pair costs one subtraction; see `forget_gate_online` for gates as such.
    """
    faded = rg.query_feature("total_q") - rg.key_feature("total_k")
    return rg.softmax(_score(pair) + faded, where=pair.j <= pair.i)


@variant("LASER", "Duvvuri & Dhillon 2024", "2411.03493", ("never empty",))
def laser(pair):
    """Average the exponentials of the values and take the logarithm.

    Lets larger gradients through to queries and keys when weights are small, as in long inputs;
    the paper gains about one percent on language models. Each channel leans towards its largest
    value. Values are shifted by their largest over all keys, also those to come, which no output
    depends on while a channel's values stay within about 80 of each other.
    """
    top = rg.max_over_keys(pair.v)
    weights = rg.softmax(_score(pair), where=pair.j <= pair.i)
    return rg.output(weights, values=rg.exp(pair.v - top), finish=lambda row: top + rg.log(row))


@variant("Clipped softmax", "Bondarenko et al. 2023", "2306.12929", _ORDERLESS)
def clipped_softmax(pair, *, low=-0.03, high=1.0):
    """Stretch the weights a little and cut them off at 0 and 1.

    A head can give a key exactly no weight without huge scores, so activations grow no outliers
    and 8-bit quantisation works. For encoders and vision models to be quantised; it costs one
    more pass over the keys, and weights of 0 pass no gradient.
    """
    weights = rg.softmax(_score(pair))
    return rg.map(lambda weight: rg.clip((high - low) * weight + low, 0, 1), weights)


@variant("Attention steering (PASTA)", "Zhang et al. 2023", "2311.02262", _ORDERLESS)
def steered(pair, *, alpha=0.01):
    """Multiply the weights of keys outside a chosen set by alpha, and normalise again.

    Makes a trained model heed what a person marked, such as an instruction, without changing a
    weight: mark tokens in `kept`, and steer some heads, as steering all costs fluency. For a
    share of the mass that is guaranteed, see `rg.guarantee_mass`.
    """
    return rg.softmax(_score(pair) + rg.where(rg.key_feature("kept"), 0.0, math.log(alpha)))
