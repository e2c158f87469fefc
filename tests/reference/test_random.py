"""Random booleans: what they depend on, how often they hold, and what is done with them."""

import pytest
import torch

from regard.ir import nodes as n
from regard.ir.random import draw_bits, keep_threshold
from tests.reference.builders import SCORE, c, close, inputs, out, run, softmax, weigh, weights_of

SEED = 12345678901234567


def keep(p=0.5, axes="bhij", place=3):
    return n.Keep(c(p), axes, place)


def kept(tensors, node, **options):
    return weights_of(weigh(1.0, where=node), tensors, **options) != 0


def test_a_draw_depends_on_its_coordinates_alone():
    tensors = inputs(queries=6, keys=7)
    found = kept(tensors, keep(), seed=SEED)
    sizes = (2, 2, 6, 7)
    places = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")
    threshold = keep_threshold(torch.tensor(0.5))
    assert torch.equal(found, draw_bits(SEED, 3, list(places)) >= threshold)


@pytest.mark.parametrize("axes", ["", "b", "h", "bh", "i", "j", "hij"])
def test_a_draw_is_shared_along_the_axes_it_lacks(axes):
    found = kept(inputs(batch=3, heads=4, queries=6, keys=7), keep(axes=axes), seed=7)
    first = found
    for dim, axis in enumerate("bhij"):
        if axis not in axes:
            first = first.narrow(dim, 0, 1)
    assert torch.equal(found, first.expand_as(found))
    assert not axes or found.any() != found.all()


def test_other_seeds_places_and_rows_draw_otherwise():
    tensors = inputs(queries=16, keys=16)
    one = kept(tensors, keep(), seed=1)
    assert torch.equal(one, kept(tensors, keep(), seed=1))
    for other in (kept(tensors, keep(), seed=2), kept(tensors, keep(place=4), seed=1)):
        assert 0.3 < (one == other).float().mean() < 0.7


def test_heads_draw_as_they_would_in_the_whole_layer():
    tensors = inputs(heads=4, queries=8, keys=8)
    upper = {name: tensor[:, 2:] for name, tensor in tensors.items()}
    whole = kept(tensors, keep(), seed=5)
    assert torch.equal(whole[:, 2:], kept(upper, keep(), seed=5, first_head=2, total_heads=4))


def test_positions_do_not_move_a_draw():
    tensors = inputs()
    moved = {"query_positions": torch.arange(4)[None] + 9}
    assert torch.equal(kept(tensors, keep(), seed=5), kept(tensors, keep(), seed=5, **moved))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_keep_drops_at_its_rate(p):
    tensors = inputs(queries=64, keys=64)
    found = kept(tensors, keep(p), seed=3).double().mean().item()
    # Five standard deviations of the mean of 16384 draws.
    assert abs(found - (1 - p)) <= 5 * (p * (1 - p) / 16384) ** 0.5


def test_without_a_seed_everything_is_kept():
    tensors = inputs()
    assert kept(tensors, keep(1.0)).all()
    plain = out(softmax(), tensors)
    assert torch.equal(out(n.Dropout(softmax(), c(0.5), 0), tensors), plain)


def test_a_probability_may_be_a_run_time_scalar():
    tensors = inputs(queries=32, keys=32) | {"p": torch.tensor(0.25)}
    assert torch.equal(
        kept(tensors, keep(n.Scalar("p")), seed=1), kept(tensors, keep(0.25), seed=1)
    )


def test_dropout_scales_what_it_keeps():
    tensors = inputs()
    dropped = n.Dropout(softmax(), c(0.25), 9)
    weights = weights_of(softmax(), tensors)
    expected = weights * kept(tensors, keep(0.25, place=9), seed=4) / 0.75
    close(out(dropped, tensors, seed=4), expected @ tensors["v"])


def test_dropout_of_everything_is_zero():
    tensors = inputs() | {"p": torch.tensor(1.0).double().requires_grad_()}
    tensors["q"].requires_grad_()
    result = out(n.Dropout(softmax(), n.Scalar("p"), 0), tensors, seed=4)
    assert not result.any()
    gradients = torch.autograd.grad(result.sum(), [tensors["q"], tensors["p"]])
    assert not any(gradient.any() for gradient in gradients)


def test_dropout_keeps_the_mean():
    tensors = inputs(batch=1, heads=1, queries=1, keys=4)
    program = n.Dropout(softmax(), c(0.5), 0)
    results = torch.stack([out(program, tensors, seed=seed) for seed in range(60)])
    error = results.std(0) / 60**0.5
    assert ((results.mean(0) - out(softmax(), tensors)).abs() < 4 * error).all()


def test_observed_weights_are_those_before_dropout():
    tensors = inputs()
    dropped = n.Call("mul", (n.Dropout(softmax(), c(0.5), 0), c(2.0)))
    found = run(dropped, tensors, ["weights"], seed=1)
    close(found["weights"], 2 * weights_of(softmax(), tensors))
    assert not torch.allclose(found["output"], found["weights"] @ tensors["v"])


def test_dropping_keys_comes_before_normalising():
    tensors = inputs()
    seen = keep(0.4, "bhj")
    mask = kept(tensors, seen, seed=2)
    masked = (tensors["q"] @ tensors["k"].mT).masked_fill(~mask, -float("inf"))
    expected = masked.softmax(-1).nan_to_num(0.0)
    close(weights_of(softmax(SCORE, where=seen), tensors, seed=2), expected)
