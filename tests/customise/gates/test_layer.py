"""A layer with gates: shares, their gradients, and that a settled layer is the chosen one."""

import pytest
import torch

import regard as rg
from regard.customise.gates.layer import Gated, Offer
from regard.errors import InputError
from regard.nn.programmed import Programmed

HEADS, WIDTH = 4, 3
PLAIN = rg.catalogue.scaled_dot_product.program
READER = rg.modes.find("reader")("encoder", buckets=4).assignments[0].program
NEAR = rg.modes.find("local")("encoder", window=1).assignments[0].program


@rg.program
def sharp(pair):
    return rg.softmax(rg.scalar("sharpness") * rg.dot(pair.q, pair.k))


def make(groups):
    return Programmed(groups, HEADS, WIDTH)


def gated(*programs, gates=HEADS):
    size = HEADS // gates
    names = {f"p{number}": one for number, one in enumerate(programs)}
    spans = [(at, at + size) for at in range(0, HEADS, size)]
    return Gated([Offer(span, names) for span in spans], make, HEADS)


def rows(dtype=torch.float32):
    return [torch.randn(2, HEADS, 5, WIDTH, dtype=dtype) for _ in range(3)]


def test_gates_begin_with_equal_shares_of_what_they_are_offered():
    offers = [Offer((0, 3), {"a": PLAIN, "b": NEAR}), Offer((3, 4), {"b": NEAR, "c": READER})]
    layer = Gated(offers, make, HEADS)
    assert layer.choices == (PLAIN, NEAR, READER)
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    assert torch.equal(layer.shares(), expected)
    # What is not offered does not win, whatever its logit.
    layer.logits.data[1, 0] = 9.0
    assert layer.winners() == [PLAIN, NEAR]


def test_a_layer_is_the_sum_of_its_programs_in_their_shares():
    layer, (q, k, v) = gated(PLAIN, NEAR, gates=2), rows()
    layer.logits.data = torch.tensor([[0.3, -0.2], [1.0, 0.0]])
    shares = layer.shares()
    outputs = [rg.attend(one, q, k, v) for one in (PLAIN, NEAR)]
    for head in range(HEADS):
        share = shares[head // 2]
        expected = share[0] * outputs[0][:, head] + share[1] * outputs[1][:, head]
        torch.testing.assert_close(layer(q, k, v)[:, head], expected)


def test_the_gradient_of_gates_is_that_of_finite_differences():
    layer = gated(PLAIN, NEAR, READER).double()
    layer.temperature = 0.7
    q, k, v = rows(torch.float64)
    logits = torch.randn(HEADS, 3, dtype=torch.float64, requires_grad=True)

    def run(values):
        return torch.func.functional_call(layer, {"logits": values}, (q, k, v))

    assert torch.autograd.gradcheck(run, (logits,))


def test_evidence_that_agrees_outweighs_noise_of_any_scale():
    layer = gated(PLAIN, NEAR, gates=2)
    for step in range(100):
        # The first gate is told the same each time, the second now this, now that.
        sign = -1.0 if step % 2 else 1.0
        layer.logits.grad = torch.tensor([[1e-9, -1e-9], [1e3 * sign, -1e3 * sign]])
        layer.learn()
    (plain, near), noise = layer.logits.detach()
    # -Σ g / √Σ |g|²: 100 · 1e-9 / √(100 · 2e-18).
    assert near.item() == pytest.approx(50**0.5, rel=1e-5) and plain == -near
    torch.testing.assert_close(noise, torch.zeros(2))


def test_evidence_counts_alike_at_any_temperature():
    found = []
    for temperature in (1.0, 0.1):
        layer = gated(PLAIN, NEAR, gates=1)
        torch.manual_seed(3)
        q, k, v = rows()
        layer.logits.requires_grad_(True)
        layer.temperature = temperature
        layer(q, k, v)[..., 0].sum().backward()
        layer.learn()
        found.append(layer.total)
    torch.testing.assert_close(found[0], found[1])


def test_gates_that_no_loss_depends_on_stay_equal():
    layer = gated(PLAIN, NEAR)
    layer.learn()
    layer.logits.grad = torch.zeros(HEADS, 2)
    layer.learn()
    assert torch.equal(layer.logits, torch.zeros(HEADS, 2))


def test_the_colder_the_nearer_to_one():
    layer = gated(PLAIN, NEAR, READER)
    layer.logits.data = torch.randn(HEADS, 3)
    largest = []
    for layer.temperature in (10.0, 1.0, 0.5, 0.001):
        largest.append(layer.shares().amax(-1))
    assert (largest[0] < largest[1]).all() and (largest[1] < largest[2]).all()
    torch.testing.assert_close(largest[-1], torch.ones(HEADS))


@pytest.mark.parametrize("winners", [[0, 1, 2, 0], [2, 2, 1, 2], [1, 1, 1, 1]])
def test_a_settled_layer_is_the_layer_of_its_winners(winners):
    layer, (q, k, v) = gated(PLAIN, NEAR, READER), rows()
    for one in layer.programs[2].parameters():
        torch.nn.init.normal_(one)
    layer.logits.data = 5.0 * torch.nn.functional.one_hot(torch.tensor(winners), 3).float()
    layer.temperature = 0.01
    annealed = layer(q, k, v)
    programs = layer.winners()
    layer.settle(make([((at, at + 1), one) for at, one in enumerate(programs)]))
    torch.testing.assert_close(layer(q, k, v), annealed)
    # It learns in the same parameters, and no gate learns any more.
    layer(q, k, v.requires_grad_()).square().sum().backward()
    learned = [one.grad for one in layer.programs[2].parameters()]
    assert all((one is not None) == (2 in winners) for one in learned)
    assert layer.logits.grad is None
    alone = [head for head in range(HEADS) if winners[head] != 2]
    assert all(one is None or not one[alone].any() for one in learned)


def test_what_one_program_reads_is_given_to_it_alone():
    layer, (q, k, v) = gated(PLAIN, sharp), rows()
    assert layer.reads == {"sharpness"}
    expected = (rg.attend(PLAIN, q, k, v) + rg.attend(sharp, q, k, v, sharpness=2.0)) / 2
    torch.testing.assert_close(layer(q, k, v, sharpness=2.0), expected)
    layer.settle(make(PLAIN))
    torch.testing.assert_close(layer(q, k, v, sharpness=2.0), rg.attend(PLAIN, q, k, v))


def test_nothing_is_observed_before_it_is_settled():
    layer, (q, k, v) = gated(PLAIN, NEAR), rows()
    with pytest.raises(InputError, match="'entropy' cannot be observed while gates are learned"):
        layer(q, k, v, observe=["entropy"])
    layer.settle(make(NEAR))
    assert layer(q, k, v, observe=["entropy"])[1]["entropy"].shape == (2, HEADS, 5)
