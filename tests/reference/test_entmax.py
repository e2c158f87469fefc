"""Entmax against bisection in NumPy, its derivatives, and the sparsemax limit."""

import numpy as np
import pytest
import torch

from regard.ir import nodes as n
from tests.reference.builders import (
    SCORE,
    J,
    Q,
    call,
    close,
    dot,
    entmax,
    inputs,
    out,
    parameter,
    run,
    score_table,
    weights_of,
)


def by_bisection(scores: np.ndarray, alpha: float) -> np.ndarray:
    """Normalise one row by halving the interval of the threshold, in the paper's own scale."""
    low, high = (alpha - 1) * scores.max() - 1, (alpha - 1) * scores.max()
    for _ in range(200):
        middle = (low + high) / 2
        weights = np.maximum((alpha - 1) * scores - middle, 0) ** (1 / (alpha - 1))
        low, high = (middle, high) if weights.sum() > 1 else (low, middle)
    return weights


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0, 2.5, 4.0])
def test_every_alpha_agrees_with_bisection(alpha):
    scores = np.random.randn(6, 9) * 2
    expected = np.stack([by_bisection(row, alpha) for row in scores])
    found = weights_of(entmax(alpha=alpha), score_table(scores.tolist()))
    close(found, torch.tensor(expected), rtol=1e-9)
    close(found.sum(-1), 1.0)


def test_alpha_may_differ_per_head_and_query():
    alpha = torch.tensor([[[1.2, 1.5], [2.0, 3.0]]]).double()
    tensors = inputs(batch=1, queries=2) | {"alpha": alpha}
    scores = (tensors["q"] @ tensors["k"].mT).numpy()
    found = weights_of(entmax(alpha=n.Feature("query", "alpha")), tensors)
    for head in range(2):
        for query in range(2):
            expected = by_bisection(scores[0, head, query], alpha[0, head, query].item())
            close(found[0, head, query], torch.tensor(expected), rtol=1e-9)


def test_where_comes_before_the_threshold():
    tensors = score_table([[5.0, 0.3, 0.1]])
    found = weights_of(entmax(alpha=2, where=call("ge", J, 1)), tensors)
    close(found, [0.0, 0.6, 0.4])


def test_hidden_scores_take_nothing_and_empty_rows_are_zero():
    tensors = score_table([[5.0, 0.3]])
    close(weights_of(entmax(where=call("lt", J, 0)), tensors), 0.0)
    close(out(entmax(n.Const(-float("inf"))), tensors), 0.0)


def test_equal_scores_share_equally_at_a_large_alpha():
    tensors = score_table([[2.0] * 64])
    close(weights_of(entmax(alpha=10.0), tensors), 1 / 64)


def test_huge_scores_choose_one_key_and_stay_finite():
    tensors = score_table([[3e4, -3e4, 0.0]], torch.float32)
    tensors["q"].requires_grad_()
    result = weights_of(entmax(), tensors)
    close(result, [1.0, 0.0, 0.0])
    (gradient,) = torch.autograd.grad(result[..., 0].sum(), tensors["q"])
    assert not gradient.any()


@pytest.mark.parametrize("alpha", [1.3, 2.0, 2.6])
def test_gradients_of_scores_and_alpha_are_exact(alpha):
    tensors = inputs(batch=1, heads=2, queries=2, keys=4) | {"alpha": torch.full((2,), alpha)}
    tensors["alpha"] = tensors["alpha"].double()
    program = entmax(alpha=parameter("alpha", "head"))

    def weights(q, alpha):
        return weights_of(program, tensors | {"q": q, "alpha": alpha})

    leaves = (tensors["q"].requires_grad_(), tensors["alpha"].requires_grad_())
    assert torch.autograd.gradcheck(weights, leaves)
    assert torch.autograd.gradgradcheck(weights, leaves, fast_mode=True)


def test_an_alpha_may_be_computed_from_the_query():
    tensors = inputs()
    alpha = call("add", call("softplus", dot(Q, Q)), 1.0)
    scores = (tensors["q"] @ tensors["k"].mT).numpy()
    found = weights_of(entmax(alpha=alpha), tensors)
    squares = tensors["q"].square().sum(-1)
    own = 1 + torch.log1p(squares[1, 0, 2].exp()).item()
    close(found[1, 0, 2], torch.tensor(by_bisection(scores[1, 0, 2], own)), rtol=1e-9)


def test_entropy_counts_an_exact_zero_as_nothing():
    tensors = score_table([[0.0, 0.0, -9.0]])
    tensors["q"].requires_grad_()
    entropy = run(entmax(SCORE), tensors, ["entropy"])["entropy"]
    close(entropy, torch.tensor(2.0).double().log())
    assert torch.autograd.grad(entropy.sum(), tensors["q"])[0].isfinite().all()


def test_a_score_one_rounding_above_the_threshold_stays_finite():
    # 1.03125 times the second score is the float just above -1, the threshold of one score alone.
    tensors = score_table([[0.0, (-1 + 2**-53) / 1.03125]])
    tensors["q"].requires_grad_()
    result = weights_of(entmax(alpha=2.03125), tensors)
    close(result, [1.0, 0.0], atol=1e-7)
    (gradient,) = torch.autograd.grad(result[..., 0].sum(), tensors["q"])
    assert gradient.isfinite().all()
