"""Which sweeps a gradient takes."""

import torch

import regard as rg


@rg.program
def difference(pair):
    score = rg.dot(pair.q, pair.k)
    return rg.softmax(score * 0.3) - 0.3 * rg.softmax(score * -0.7)


@rg.program
def product(pair):
    score = rg.dot(pair.q, pair.k)
    return rg.softmax(score * 0.3) * rg.softmax(score * -0.7, where=pair.j <= pair.i)


@rg.program
def sparse(pair):
    return rg.entmax(rg.dot(pair.q, pair.k), 1.5)


def sweeps(program):
    leaves = [torch.randn(1, 1, 20, 8, requires_grad=True) for _ in range(3)]
    return rg.explain(program, *leaves, backend="cpu").as_dict()["sweeps"]


def test_what_normalisers_receive_takes_no_sweep_where_parts_of_weights_are_powers_of_them():
    for program in (difference, product):
        assert sweeps(program) == ("row sums and output at once", "what every input receives")
    assert "what normalisers receive" in sweeps(sparse)


def test_gradient_without_that_sweep_is_that_of_the_reference():
    leaves = [torch.randn(1, 2, 70, 8, dtype=torch.float64).requires_grad_() for _ in range(3)]
    for program in (difference, product):
        found, expected = (
            torch.autograd.grad(rg.attend(program, *leaves, backend=name).square().sum(), leaves)
            for name in ("cpu", "reference")
        )
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_a_hidden_pair_whose_sum_over_channels_is_no_number_gives_its_rows_nothing():
    @rg.program
    def logarithmic(pair):
        units = rg.parameter("units", per="channel")
        far = rg.log(0.5 * (pair.i - pair.j) + 1)
        return rg.softmax(rg.sum(units * rg.relu(pair.q + far)), where=pair.j <= pair.i)

    leaves = [torch.randn(1, 2, 20, 8, dtype=torch.float64).requires_grad_() for _ in range(3)]
    units = torch.randn(8, dtype=torch.float64, requires_grad=True)
    found, expected = (
        torch.autograd.grad(
            rg.attend(logarithmic, *leaves, units=units, backend=name).square().sum(),
            [leaves[0], leaves[2], units],
        )
        for name in ("cpu", "reference")
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
