"""Dropout of weights: drawn per call, from torch's generator; gone in evaluation; the same back."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import regard as rg
from regard.errors import InputError
from tests.nn import programs as p


def make(program=p.relative, dropout=0.4, **options):
    return rg.nn.Attention(program, 32, 4, dropout=dropout, **options).double()


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_evaluation_drops_nothing():
    layer, x = make().eval(), rows(2, 7, 32)
    same = make(dropout=0.0)
    same.load_state_dict(layer.state_dict())
    state = torch.get_rng_state()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(layer(x), same.eval()(x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("program", [p.relative, p.drawing])
def test_every_call_draws_anew_and_a_seed_repeats_it(program):
    layer, x = make(program).train(), rows(2, 7, 32)
    torch.manual_seed(5)
    first, second = layer(x), layer(x)
    torch.manual_seed(5)
    again = layer(x), layer(x)
    assert not torch.allclose(first, second)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])


def test_a_seed_of_ones_own_leaves_torchs_generator_alone():
    layer, x = make().train(), rows(2, 7, 32)
    state = torch.get_rng_state()
    first = layer(x, seed=3)
    assert torch.equal(first, layer(x, seed=3)) and not torch.allclose(first, layer(x, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_dropped_one_by_one_and_the_rest_scaled():
    layer = make(p.plain, dropout=0.25, bias=False).train()
    with torch.no_grad():
        for linear in (layer.v, layer.o):
            linear.weight.copy_(torch.eye(32))
        layer.q.weight.zero_()
    # Uniform weights over 32 keys whose values are unit vectors: the output lists the weights.
    x = torch.eye(32, dtype=torch.float64).expand(16, 32, 32)
    found = layer(x) * 32
    kept = found > 0
    torch.testing.assert_close(found[kept], torch.full_like(found[kept], 1 / 0.75))
    assert 0.74 < kept.double().mean() < 0.76
    # Drawn apart for every row, query and head.
    for axis in (0, 1):
        assert not torch.equal(*kept.transpose(0, axis)[:2])
    assert not torch.equal(kept[:, :, :8].flatten(), kept[:, :, 8:16].flatten())


def test_dropout_keeps_the_expected_output():
    layer, x = make(p.causal).train(), rows(1, 7, 32)
    with torch.no_grad():
        # Every row of a batch draws for itself.
        mean = layer(x.expand(2000, 7, 32)).mean(0, keepdim=True)
        expected = layer.eval()(x)
    assert (mean - expected).abs().max() < 0.05 * expected.abs().max()


def test_backward_draws_what_forward_drew():
    layer, x = rg.nn.Attention(p.relative, 4, 2, dropout=0.5).double().train(), rows(1, 5, 4)

    def call(x, _):
        torch.manual_seed(7)
        return layer(x)

    bias = layer.programmed.groups[0].learned.bias
    assert torch.autograd.gradcheck(call, (x.requires_grad_(), bias))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("program", [p.relative, p.drawing])
def test_checkpointing_gives_the_same_gradients(reentrant, program):
    layer, x = make(program).train(), rows(2, 7, 32).requires_grad_()
    found = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=reentrant)):
        torch.manual_seed(11)
        leaves = [x, *layer.parameters()]
        for leaf in leaves:
            leaf.grad = None
        run(x).square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for plain, recomputed in zip(*found, strict=True):
        assert torch.equal(plain, recomputed)


def test_a_programs_own_draws_end_with_training():
    layer, x = make(p.drawing, dropout=0.0), rows(2, 7, 32)
    same = make(p.plain, dropout=0.0)
    same.load_state_dict(layer.state_dict())
    assert not torch.allclose(layer.train()(x), same.eval()(x))
    torch.testing.assert_close(layer.eval()(x), same(x), rtol=0, atol=1e-12)


def test_a_dropout_that_is_no_probability_is_refused():
    with pytest.raises(InputError, match="dropout nan is outside 0 … 1"):
        rg.nn.Attention(p.plain, 32, 4, dropout=float("nan"))
