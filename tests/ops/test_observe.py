"""What is observed is what the dense weights say, on every backend that observes."""

from itertools import pairwise

import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile

N, M, CLASSES = 37, 70, 4
# The kernels of `cpu` are compiled for these programs alone.
BACKENDS = ("reference", "tiled", "cpu")
NAMES = ("mass", "distance", "variance", "mass:kind:4", "mass:real", "received", "top:3", "map:4x5")


@rg.program
def causal(pair):
    return rg.softmax(rg.dot(pair.q, pair.k) * 0.3, where=pair.j <= pair.i)


@rg.program
def difference(pair):
    score = rg.dot(pair.q, pair.k)
    near = rg.softmax(score * -0.7, where=abs(pair.i - pair.j) < 9)
    return rg.softmax(score * 0.3) - 0.3 * near


@rg.program
def dropped(pair):
    return rg.dropout(rg.softmax(rg.dot(pair.q, pair.k) * 0.3, where=pair.j <= pair.i), 0.4)


@rg.program
def sparse(pair):
    return rg.entmax(rg.dot(pair.q, pair.k) * 0.3, 1.5)


@rg.program
def positive(pair):
    return rg.ratio(rg.exp(rg.dot(pair.q, pair.k) * 0.3), where=pair.j <= pair.i, add=1)


@rg.program
def gated(pair):
    weights = rg.weigh(rg.sigmoid(rg.dot(pair.q, pair.k)), where=pair.j <= pair.i)
    return rg.output(weights, values=pair.v * rg.exp(-0.1 * abs(pair.i - pair.j)))


PROGRAMS = (causal, difference, dropped, sparse, positive, gated)


def cases(*backends, programs=PROGRAMS):
    """Every program on every backend; a kernel takes seconds to build, so cpu's are few."""
    quick = (causal, dropped)
    return [
        pytest.param(
            one, name, id=f"{one.name}-{name}",
            marks=[pytest.mark.slow] if name == "cpu" and one not in quick else [],
        )
        for one in programs
        for name in backends
    ]  # fmt: skip


def dense(program, weights, kind, real, lengths=None):
    """Everything in NAMES, from the weights and what the docs say."""
    i, j = torch.arange(N)[:, None], torch.arange(M)
    distance = (i - j).abs().to(weights.dtype)
    mass = weights.sum(-1)
    whole = torch.where(mass == 0, 1.0, mass)
    mean = (weights * distance).sum(-1) / whole
    onehot = torch.nn.functional.one_hot(kind, CLASSES).to(weights.dtype)
    bins = torch.nn.functional.one_hot(j * 5 // M, 5).to(weights.dtype)
    rows = torch.nn.functional.one_hot(torch.arange(N) * 4 // N, 4).to(weights.dtype)
    return {
        "mass": mass,
        "distance": mean,
        "variance": (weights * (distance - mean[..., None]) ** 2).sum(-1) / whole,
        "mass:kind:4": weights @ onehot,
        "mass:real": (weights * real[:, :, None]).sum(-1),
        "received": weights.sum(-2),
        "map:4x5": rows.mT @ weights @ bins / rows.sum(0)[:, None],
    }


def call(dtype=torch.float64):
    torch.manual_seed(3)
    q = torch.randn(2, 4, N, 8, dtype=dtype)
    k, v = torch.randn(2, 2, 2, M, 8, dtype=dtype)
    kind = torch.randint(0, CLASSES, (2, 1, M))
    real = torch.rand(2, 1, M) < 0.5
    return (q, k, v), {"kind": kind, "real": real}


def seeded(program):
    return {"seed": 5} if program is dropped else {}


@pytest.mark.parametrize(("program", "backend"), cases(*BACKENDS))
def test_what_is_observed_follows_from_the_weights(program, backend):
    tensors, named = call()
    drawn = seeded(program)
    _, whole = rg.attend(program, *tensors, observe=["weights"], backend="reference", **drawn)
    with force_tile(16, 16):
        _, seen = rg.attend(program, *tensors, observe=NAMES, backend=backend, **named, **drawn)
    expected = dense(program, whole["weights"], named["kind"], named["real"])
    for name, value in expected.items():
        torch.testing.assert_close(seen[name], value, rtol=1e-8, atol=1e-8)
    weights, keys = seen["top:3"]
    none = keys < 0
    found = whole["weights"].gather(-1, keys.clamp_min(0)).masked_fill(none, 0)
    torch.testing.assert_close(weights, found, rtol=1e-9, atol=1e-12)
    # Signed weights below 0 that are seen come before nothing.
    order = whole["weights"].masked_fill(whole["weights"] == 0, -torch.inf)
    largest = order.topk(3).values
    assert torch.allclose(weights[~none], largest[~none].nan_to_num(neginf=0.0), atol=1e-12)


# Each by itself: what normalisers receive is found in another way for each.
ALONE = ("top:3", "distance", "map:4x5")


@pytest.mark.parametrize(("program", "backend"), cases("tiled", "cpu"))
def test_gradients_of_what_is_observed_are_those_of_the_reference(program, backend):
    check_gradients(program, backend, NAMES)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.name)
@pytest.mark.parametrize("name", ALONE)
def test_gradients_of_one_observed_value_are_those_of_the_reference(program, name):
    check_gradients(program, "tiled", (name,))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.name)
@pytest.mark.parametrize("name", ALONE)
def test_gradients_of_one_observed_value_are_those_of_the_reference_in_kernels(program, name):
    check_gradients(program, "cpu", (name,))


def check_gradients(program, backend, names):
    found = {}
    for one in ("reference", backend):
        tensors, named = call()
        named = {key: value for key, value in named.items() if names is NAMES}
        leaves = [tensor.requires_grad_() for tensor in tensors]
        with force_tile(16, 16):
            out, seen = rg.attend(
                program, *leaves, observe=names, backend=one, **named, **seeded(program)
            )
            loss = out.square().sum()
            for number, value in enumerate(seen.values()):
                value = value.weights if isinstance(value, tuple) else value
                weighing = torch.arange(value.numel()).view(value.shape).sin()
                loss = loss + (value * weighing).sum() * (1 + number)
            found[one] = torch.autograd.grad(loss, leaves)
    for expected, got in zip(found["reference"], found[backend], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_and_keys_that_do_not_exist_have_no_weight(backend):
    tensors, named = call()
    lengths = {"query_lengths": torch.tensor([N, 9]), "key_lengths": torch.tensor([20, M])}
    _, seen = rg.attend(causal, *tensors, observe=NAMES, backend=backend, **named, **lengths)
    assert not seen["mass"][1, :, 9:].any() and not seen["distance"][1, :, 9:].any()
    assert not seen["received"][0, :, 20:].any() and seen["received"][0, :, :20].any()
    assert (seen["top:3"].keys[1, :, 9:] == -1).all()
    assert (seen["top:3"].keys[0] < 20).all()
    # The mean is over the rows that exist: 9 of those of the first part, none of the last two.
    torch.testing.assert_close(
        seen["map:4x5"][1].sum(-1), torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand(4, 4)
    )


@pytest.mark.parametrize(("program", "backend"), cases(*BACKENDS, programs=(sparse, positive)))
def test_entropy_of_other_normalisers(program, backend):
    tensors, _ = call()
    leaves = [tensor.requires_grad_() for tensor in tensors]
    _, whole = rg.attend(program, *leaves, observe=["weights"], backend="reference")
    expected = -torch.special.xlogy(whole["weights"], whole["weights"]).sum(-1)
    _, seen = rg.attend(program, *leaves, observe=["entropy"], backend=backend)
    torch.testing.assert_close(seen["entropy"], expected, rtol=1e-9, atol=1e-9)
    weighing = torch.linspace(-1, 1, N, dtype=torch.float64)
    grads = [
        torch.autograd.grad((value * weighing).sum(), leaves[:2])
        for value in (expected, seen["entropy"])
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-8)


@rg.program
def product(pair):
    near = rg.entmax(rg.dot(pair.q, pair.k) * 0.3, 1.5, where=pair.i - pair.j < 5)
    return rg.entmax(rg.dot(pair.q, pair.k) * 0.2, 1.5) * near


def test_entropy_of_a_factor_counts_pairs_that_the_product_does_not_see():
    tensors, _ = call()
    leaves = [tensor.requires_grad_() for tensor in tensors]
    found = {}
    for backend in ("reference", "tiled"):
        _, seen = rg.attend(product, *leaves, observe=["entropy:b"], backend=backend)
        grads = torch.autograd.grad(seen["entropy:b"].square().sum(), leaves[:2])
        found[backend] = seen["entropy:b"], *grads
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", ("reference", "tiled", "cpu"))
def test_a_feature_that_is_nan_at_hidden_keys_spreads_nothing(backend):
    tensors, _ = call()
    real = torch.ones(M)
    real[N:] = torch.nan
    _, seen = rg.attend(causal, *tensors, observe=["mass:real"], backend=backend, real=real)
    torch.testing.assert_close(seen["mass:real"], torch.ones(2, 4, N, dtype=torch.float64))


@rg.program
def scored_by_values(pair):
    return rg.softmax(rg.dot(pair.q, pair.v) * 0.3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_equal_weights_the_first_key_leads(backend):
    torch.manual_seed(0)
    # Few scores, each of many keys; rows and keys enough for several tiles.
    q, k = (torch.randint(-1, 2, (1, 2, 300, 2)).double() for _ in range(2))
    dense = rg.attend(causal, q, k, q, observe=["weights"], backend="reference")[1]["weights"]
    weights, keys = dense.sort(dim=-1, descending=True, stable=True)
    _, seen = rg.attend(causal, q, k, q, observe=["top:6"], backend=backend)
    full = torch.arange(300) >= 5
    torch.testing.assert_close(seen["top:6"].weights, weights[..., :6])
    assert torch.equal(seen["top:6"].keys[:, :, full], keys[:, :, full, :6])


def test_classes_are_summed_where_scores_read_the_values_too():
    tensors, named = call()
    found = {
        backend: rg.attend(
            scored_by_values, *tensors, observe=["mass:kind:4"], kind=named["kind"], backend=backend
        )
        for backend in ("reference", "cpu")
    }
    torch.testing.assert_close(found["cpu"], found["reference"])


@pytest.mark.parametrize("backend", ("tiled", "cpu"))
def test_what_receives_nothing_leaves_the_gradient_as_it_is(backend):
    tensors, named = call(torch.float32)
    found = []
    for observe, inputs in ((NAMES, named), ((), {})):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        result = rg.attend(causal, *leaves, observe=observe, backend=backend, **inputs)
        out = result[0] if observe else result
        found.append(torch.autograd.grad(out.square().sum(), leaves))
    for with_names, without in zip(*found, strict=True):
        torch.testing.assert_close(with_names, without, rtol=1e-5, atol=1e-6)


def test_a_penalty_on_entropy_trains_through_the_kernel():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 64, 8)
    project = torch.nn.Parameter(torch.eye(8) * 0.5)
    optimiser = torch.optim.Adam([project], lr=0.05)
    found = []
    for _ in range(20):
        q = x @ project
        _, seen = rg.attend(causal, q, x, x, observe=["entropy"], backend="cpu")
        found.append(seen["entropy"].mean())
        optimiser.zero_grad()
        found[-1].backward()
        optimiser.step()
    assert found[-1] < 0.7 * found[0]


def test_an_observed_call_is_traced():
    tensors, named = call(torch.float32)
    names = ["distance", "top:3", "map:4x5", "mass:kind:4", "received"]
    kind = named["kind"]

    def attend(q, k, v):
        return rg.attend(causal, q, k, v, observe=names, kind=kind)

    _, seen = torch.compile(attend, fullgraph=True, backend="eager")(*tensors)
    _, expected = attend(*tensors)
    for name in names:
        torch.testing.assert_close(seen[name], expected[name])


def test_a_ragged_batch_is_observed_like_its_sequences():
    (q, k, v), named = call()
    starts = [0, 10, N]
    names = ["distance", "mass:kind:4", "top:3"]
    kind = named["kind"][:1, :, :N]
    packed = [tensor[0][:, :N] for tensor in (q, k, v)]
    _, seen = rg.attend_packed(causal, *packed, query_starts=starts, observe=names[::2])
    for start, end in pairwise(starts):
        rows = [tensor[None, :, start:end] for tensor in packed]
        one = kind[:, :, start:end]
        _, alone = rg.attend(causal, *rows, observe=names, kind=one)
        torch.testing.assert_close(seen["distance"][:, start:end], alone["distance"][0])
        torch.testing.assert_close(seen["top:3"].keys[:, start:end], alone["top:3"].keys[0])


def test_groups_of_heads_are_observed_together():
    layer = rg.nn.Attention((((0, 2), causal), ((2, 4), gated)), width=32, heads=4)
    x, kind = torch.randn(1, N, 32), torch.randint(0, 4, (1, 1, N))
    _, seen = layer(x, observe=["mass:kind:4", "top:3"], kind=kind)
    assert seen["mass:kind:4"].shape == (1, 4, N, 4)
    assert seen["top:3"].keys.shape == seen["top:3"].weights.shape == (1, 4, N, 3)
