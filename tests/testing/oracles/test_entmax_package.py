"""Every backend's entmax is that of the `entmax` package, by the people who published it.

The package (Peters, Niculae and Martins 2019, arXiv 1905.05702; learned α, Correia, Niculae and
Martins 2019, arXiv 1909.00015) normalises dense scores, by sorting or by halving, and brings a
backward pass of its own.
"""

from functools import partial

import entmax
import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile
from regard.testing.accuracy import largest, worst_error

BACKENDS = ("reference", "tiled", "cpu")
QUERIES, KEYS, WIDTH = 33, 300, 8
# Halving stops at 2^-50 of an interval of length 1, and powers of what is left lose some digits.
TOLERANCE = 1e-10


def qkv():
    shapes = [(2, 2, rows, WIDTH) for rows in (QUERIES, KEYS, KEYS)]
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def by_package(normalise, scores, seen, v):
    """Weigh by the package; what it makes of rows that see nothing is replaced by 0."""
    some = seen.any(-1, keepdim=True)
    # Such rows get all keys, so that no NaN arises that gradients could meet.
    weights = normalise(scores.masked_fill(~seen & some, -torch.inf))
    return torch.where(some, weights, 0.0) @ v


def with_gradients(run, given, received):
    """Return the output and the gradients of everything given, by name."""
    leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
    output = run(**leaves)
    slopes = torch.autograd.grad(
        output, list(leaves.values()), received, allow_unused=True, materialize_grads=True
    )
    return {"output": output, **dict(zip(leaves, slopes, strict=True))}


def compare(backend, program, dense, given):
    """Fail unless values and gradients are those of the dense function."""
    received = torch.randn(2, 2, QUERIES, WIDTH, dtype=torch.float64)
    with force_tile(7, 64):
        found = with_gradients(partial(rg.attend, program, backend=backend), given, received)
    for name, value in with_gradients(dense, given, received).items():
        error = worst_error(found[name], value)
        assert error <= TOLERANCE * max(1.0, largest(value)), f"{name}: differs by {error:.1e}"


NORMALISERS = {
    "entmax15": (lambda s, where: rg.entmax(s, 1.5, where), entmax.entmax15),
    "sparsemax": (rg.sparsemax, entmax.sparsemax),
    "alpha 1.3": (
        lambda s, where: rg.entmax(s, 1.3, where),
        lambda x: entmax.entmax_bisect(x, alpha=1.3),
    ),
    "alpha 1.7": (
        lambda s, where: rg.entmax(s, 1.7, where),
        lambda x: entmax.entmax_bisect(x, alpha=1.7),
    ),
}


def quick_and_slow(names, quick):
    """Pair backends with names; of kernels, which are built for each, the quick tests take one."""
    return [
        pytest.param(
            backend, name, marks=[pytest.mark.slow] if backend == "cpu" and name != quick else []
        )
        for backend in BACKENDS
        for name in names
    ]


ROWS = torch.arange(QUERIES)[:, None]
COLUMNS = torch.arange(KEYS)
# Each mask as a program says it and as a dense one; under the last, the first row sees nothing.
MASKS = {
    "all keys": (lambda pair: None, torch.ones(QUERIES, KEYS, dtype=torch.bool)),
    "causal": (lambda pair: pair.j <= pair.i, COLUMNS <= ROWS),
    "not itself": (lambda pair: pair.j % 40 < pair.i, COLUMNS % 40 < ROWS),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("backend", "name"), quick_and_slow(NORMALISERS, "entmax15"))
def test_fixed_alpha_is_the_packages(backend, name, mask):
    (ours, theirs), (where, seen) = NORMALISERS[name], MASKS[mask]

    @rg.program
    def sparse(pair):
        return ours(score(pair), where(pair))

    def dense(q, k, v):
        return by_package(theirs, q @ k.mT / WIDTH**0.5, seen, v)

    compare(backend, sparse, dense, dict(zip("qkv", qkv(), strict=True)))


@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_learned_alpha_receives_the_gradient_of_correia_and_others(backend, spread):
    @rg.program
    def learned(pair):
        alpha = 1 + rg.sigmoid(rg.parameter("alpha", per="head"))
        return rg.entmax(score(pair), alpha, where=pair.j <= pair.i + 200)

    def dense(q, k, v, alpha):
        scores = q @ k.mT / WIDTH**0.5
        each = (1 + torch.sigmoid(alpha))[None, :, None, None].expand(2, 2, QUERIES, 1)
        seen = COLUMNS <= ROWS + 200
        return by_package(lambda x: entmax.entmax_bisect(x, each), scores, seen, v)

    q, k, v = qkv()
    # Without any spread all scores are equal, and α changes nothing.
    given = {"q": q * spread, "k": k, "v": v, "alpha": torch.tensor([-1.0, 0.7]).double()}
    compare(backend, learned, dense, given)


@pytest.mark.parametrize(("backend", "name"), quick_and_slow(NORMALISERS, "sparsemax"))
def test_tied_scores_share_as_the_package_shares(backend, name):
    ours, theirs = NORMALISERS[name]

    @rg.program
    def tied(pair):
        return ours(0.3 * rg.dot(pair.q, pair.k), pair.j != 7)

    def dense(q, k, v):
        return by_package(theirs, 0.3 * (q @ k.mT), (COLUMNS != 7).expand(QUERIES, KEYS), v)

    # Whole products tie often. Sparsemax has the threshold (0.3 n - 1) / k for whole n and k, which
    # lies on no key's score, where its derivative jumps, as 1 is no multiple of 0.3.
    given = {name: x if name == "v" else x.round() for name, x in zip("qkv", qkv(), strict=True)}
    compare(backend, tied, dense, given)


def test_a_wrong_normaliser_is_rejected():
    program = rg.program(lambda pair: rg.entmax(score(pair), 1.51))

    def dense(q, k, v):
        return entmax.entmax15(q @ k.mT / WIDTH**0.5) @ v

    with pytest.raises(AssertionError, match="output: differs by"):
        compare("reference", program, dense, dict(zip("qkv", qkv(), strict=True)))
