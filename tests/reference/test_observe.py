"""What a call returns beside its output."""

import pytest
import torch

from regard.errors import InputError
from regard.ir import nodes as n
from tests.reference.builders import (
    CAUSAL,
    SCORE,
    I,
    J,
    call,
    close,
    entmax,
    inputs,
    minus,
    ratio,
    run,
    softmax,
    times,
    weigh,
)


def scores(tensors):
    return tensors["q"] @ tensors["k"].mT


def test_statistics_of_a_softmax():
    tensors = inputs()
    found = run(softmax(), tensors, ["lse", "max", "entropy"])
    s = scores(tensors)
    close(found["lse"], s.logsumexp(-1))
    close(found["max"], s.amax(-1))
    close(found["entropy"], torch.distributions.Categorical(logits=s).entropy())


def test_statistics_count_the_sink():
    tensors = inputs()
    found = run(softmax(sink=0.7), tensors, ["lse", "max", "entropy", "sink"])
    s = scores(tensors)
    logits = torch.cat([s, torch.full_like(s[..., :1], 0.7)], -1)
    close(found["lse"], logits.logsumexp(-1))
    close(found["max"], logits.amax(-1))
    close(found["entropy"], torch.distributions.Categorical(logits=logits).entropy())
    close(found["sink"], logits.softmax(-1)[..., -1])


def test_a_row_that_sees_nothing_has_an_lse_of_minus_infinity():
    tensors = inputs(queries=2, keys=2)
    tensors["q"].requires_grad_()
    found = run(softmax(where=call("lt", J, I)), tensors, ["lse", "max", "entropy"])
    assert (found["lse"][:, :, 0] == -torch.inf).all()
    assert (found["max"][:, :, 0] == -torch.inf).all()
    assert not found["entropy"][:, :, 0].any()
    (gradient,) = torch.autograd.grad(found["lse"][:, :, 1].sum(), tensors["q"])
    assert gradient.isfinite().all() and not gradient[:, :, 0].any()


def test_a_row_beyond_its_length_is_observed_as_empty():
    found = run(softmax(sink=0.0), inputs(), ["lse", "sink"], query_lengths=[4, 1])
    assert (found["lse"][1, :, 1:] == -torch.inf).all()
    assert not found["sink"][1, :, 1:].any()


def test_entropy_of_underflowing_weights_has_a_gradient():
    tensors = inputs(queries=1, keys=2, dtype=torch.float32)
    tensors["bias"] = torch.tensor([[[[0.0, -1e4]]]])
    tensors["q"].requires_grad_()
    program = softmax(call("add", SCORE, n.PairInput("bias")))
    entropy = run(program, tensors, ["entropy"])["entropy"]
    assert not entropy.any()
    assert torch.autograd.grad(entropy.sum(), tensors["q"])[0].isfinite().all()


def test_entropy_of_a_ratio():
    tensors = inputs()
    found = run(ratio(call("exp", SCORE)), tensors, ["entropy"])
    expected = torch.distributions.Categorical(logits=scores(tensors)).entropy()
    close(found["entropy"], expected)


def test_several_terms_are_told_apart_by_name():
    tensors = inputs()
    program = minus(softmax(name="one"), softmax(times(SCORE, 2.0), name="two"))
    found = run(program, tensors, ["lse:one", "lse:two"])
    close(found["lse:one"], scores(tensors).logsumexp(-1))
    close(found["lse:two"], (2 * scores(tensors)).logsumexp(-1))
    with pytest.raises(InputError, match=r"2 terms have 'lse'; name one: lse:one, lse:two"):
        run(program, tensors, ["lse"])


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(
        InputError, match=r"'entrop' cannot be observed here; did you mean 'entropy'"
    ):
        run(softmax(), inputs(), ["entrop"])
    with pytest.raises(InputError, match=r"'lse' cannot be observed here; known: weights"):
        run(weigh(SCORE), inputs(), ["lse"])
    with pytest.raises(InputError, match="'sink' cannot be observed here"):
        run(softmax(), inputs(), ["sink"])
    with pytest.raises(InputError, match="'max' cannot be observed here"):
        run(entmax(), inputs(), ["max"])


def test_observed_weights_are_signed_and_zero_where_hidden():
    tensors = inputs(queries=5)
    program = minus(softmax(where=CAUSAL), weigh(1.0, where=call("gt", J, I)))
    found = run(program, tensors, ["weights"])["weights"]
    later = torch.ones(5, 5).triu(1).bool()
    close(found[..., later], -1.0)
    close(found.masked_fill(later, 0).sum(-1), 1.0)


def test_observed_values_are_differentiable():
    tensors = inputs(batch=1, heads=1, queries=2, keys=3)
    names = ["lse", "entropy", "sink", "weights"]

    def observed(q):
        found = run(softmax(sink=0.3), tensors | {"q": q}, names)
        return tuple(found[name] for name in names)

    q = tensors["q"].requires_grad_()
    assert torch.autograd.gradcheck(observed, q)
    assert torch.autograd.gradgradcheck(observed, q, fast_mode=True)


def test_the_largest_score_is_observed_without_gradient():
    tensors = inputs()
    tensors["q"].requires_grad_()
    assert not run(softmax(sink=0.3), tensors, ["max"])["max"].requires_grad
