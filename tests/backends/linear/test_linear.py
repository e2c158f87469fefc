"""Linear attention by state is what the papers write, at every border of a chunk or part."""

import pytest
import torch

import regard as rg
from regard.backends.cpu.rowmap import RowMap
from regard.backends.linear import forward, sums
from regard.errors import UnsupportedError
from regard.testing.contract import run_both


def elu(x):
    return rg.relu(x) + rg.exp(rg.min(x, 0.0))


@rg.program
def katharopoulos(pair):
    return rg.linear(elu(pair.q), elu(pair.k), where=pair.j <= pair.i)


@rg.program
def every_key(pair):
    return rg.linear(elu(pair.q), elu(pair.k))


@rg.program
def retnet(pair):
    gamma = rg.parameter("gamma", per="head", init=rg.init.constant(0.9))
    decay = gamma ** (pair.i - pair.j)
    return rg.weigh(rg.dot(pair.q, pair.k) * decay, where=pair.j <= pair.i)


@rg.program
def forgetting(pair):
    kept = rg.exp(rg.query_feature("kept") - rg.key_feature("lost"))
    return rg.weigh(rg.dot(pair.q, pair.k) * kept, where=pair.j <= pair.i)


@rg.program
def forgetting_share(pair):
    kept = rg.exp(rg.query_feature("kept") - rg.key_feature("lost"))
    return rg.ratio(rg.dot(elu(pair.q), elu(pair.k)) * kept, where=pair.j <= pair.i)


def dense_katharopoulos(q, k, v):
    """Equation 8 with φ = elu + 1, causally: equation 9 without its state."""
    phi_q, phi_k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    weights = (phi_q @ phi_k.mT).tril()
    return weights @ v / weights.sum(-1, keepdim=True)


def dense_every_key(q, k, v):
    phi_q, phi_k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    weights = phi_q @ phi_k.mT
    return weights @ v / weights.sum(-1, keepdim=True)


def dense_retnet(q, k, v, gamma):
    """Equation 5: (Q Kᵀ ⊙ D) V with D = γ^(n - m) for n >= m."""
    at = torch.arange(q.shape[2])
    distance = (at[:, None] - at).clamp(min=0)
    return (q @ k.mT * gamma[:, None, None] ** distance).tril() @ v


def recurrent_forgetting(q, k, v, kept, lost):
    """Yang et al. 2024, equation 3, with one gate for all channels: S = α S + kᵀ v, o = q S."""
    state, rows, before = torch.zeros(*q.shape[:2], q.shape[3], v.shape[3]).to(q), [], 0.0
    for t in range(q.shape[2]):
        gate = (kept[:, :, t] - before).exp()
        before = lost[:, :, t]
        state = state * gate[..., None, None] + k[:, :, t, :, None] * v[:, :, t, None]
        rows.append(q[:, :, t, None] @ state)
    return torch.cat(rows, 2)


def dense_forgetting_share(q, k, v, kept, lost):
    phi_q, phi_k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    weights = (phi_q @ phi_k.mT * (kept[..., None] - lost[..., None, :]).tril().exp()).tril()
    return weights @ v / weights.sum(-1, keepdim=True)


ORACLES = {
    "katharopoulos": (katharopoulos, dense_katharopoulos),
    "every_key": (every_key, dense_every_key),
    "retnet": (retnet, dense_retnet),
    "forgetting": (forgetting, recurrent_forgetting),
    "forgetting_share": (forgetting_share, dense_forgetting_share),
}


def inputs_of(name, rows, dtype=torch.float64):
    found = {x: torch.randn(2, 2, rows, 3 + (x == "v"), dtype=dtype) for x in "qkv"}
    if name == "retnet":
        found["gamma"] = torch.tensor([0.7, 0.95], dtype=dtype)
    if name.startswith("forgetting"):
        gates = torch.nn.functional.logsigmoid(torch.randn(2, 2, rows, dtype=dtype)).cumsum(-1)
        found |= {"kept": gates, "lost": gates.clone()}
    return found


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("name", ORACLES)
def test_state_gives_what_the_paper_writes(name, rows, monkeypatch):
    check_against_oracle(name, rows, monkeypatch)


@pytest.mark.parametrize("name", ["katharopoulos", "every_key"])
def test_state_gives_it_without_a_compiler(name, monkeypatch):
    monkeypatch.setattr(sums, "has_states", lambda rows: False)
    monkeypatch.setattr(RowMap, "can_map", lambda self, rows: False)
    check_against_oracle(name, 130, monkeypatch)


def check_against_oracle(name, rows, monkeypatch):
    # Parts of two chunks, so that one call crosses both kinds of border.
    monkeypatch.setattr(forward, "_FEWEST", 128)
    monkeypatch.setattr(forward, "_NUMBERS", 1)
    program, oracle = ORACLES[name]
    inputs = inputs_of(name, rows)
    found = run_both(program, inputs, backend="linear")
    leaves = {x: tensor.clone().requires_grad_() for x, tensor in inputs.items()}
    exact = oracle(**leaves)
    torch.testing.assert_close(found["output"], exact.detach(), rtol=1e-9, atol=1e-11)
    weights = torch.randn(exact.shape, generator=torch.Generator().manual_seed(11))
    exact.backward(weights.to(torch.bfloat16).double())
    if name == "forgetting":
        # The recurrence names a token's gate once, where the program names it on both sides.
        found["grad of kept"] += found["grad of lost"]
        lost = leaves.pop("lost").grad
        leaves["kept"].grad += 0 if lost is None else lost
    for x, leaf in leaves.items():
        torch.testing.assert_close(found[f"grad of {x}"], leaf.grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ORACLES)
def test_lengths_and_grouped_heads_are_those_of_the_reference(name, monkeypatch):
    monkeypatch.setattr(forward, "_FEWEST", 64)
    monkeypatch.setattr(forward, "_NUMBERS", 1)
    inputs = inputs_of(name, 150)
    inputs |= {x: inputs[x][:, :1] for x in "kv"}
    lengths = {"key_lengths": torch.tensor([130, 0]), "query_lengths": torch.tensor([150, 70])}
    for x in "kv":
        inputs[x][0, :, 130:] = torch.nan
    found = run_both(ORACLES[name][0], inputs, backend="linear", **lengths)
    exact = run_both(ORACLES[name][0], inputs, backend="reference", **lengths)
    for what, value in exact.items():
        torch.testing.assert_close(found[what], value, rtol=1e-8, atol=1e-9)


def test_decay_far_from_the_start_is_as_exact_as_near_it():
    q, k, v = torch.randn(3, 1, 1, 20_000, 4)
    gamma = torch.tensor([0.5])
    far = rg.attend(retnet, q, k, v, gamma=gamma, backend="linear")[:, :, -64:]
    exact = dense_retnet(*(x[:, :, -128:].double() for x in (q, k, v)), gamma.double())
    torch.testing.assert_close(far, exact[:, :, -64:].float(), rtol=1e-4, atol=1e-5)


def test_gates_that_forget_everything_neither_overflow_nor_vanish():
    inputs = inputs_of("forgetting_share", 200, torch.float32)
    inputs["kept"] = inputs["lost"] = -1000.0 * torch.arange(200.0).expand(2, 2, 200)
    output = rg.attend(forgetting_share, **inputs, backend="linear")
    # What is left is the token itself.
    torch.testing.assert_close(output, inputs["v"])


def test_share_whose_gates_grow_does_not_overflow():
    inputs = inputs_of("forgetting_share", 200, torch.float32)
    inputs["kept"] = inputs["lost"] = 1000.0 * torch.arange(200.0).expand(2, 2, 200)
    output = rg.attend(forgetting_share, **inputs, backend="linear")
    torch.testing.assert_close(output, inputs["v"][:, :, :1].expand_as(output))


def test_large_calls_run_by_state_and_small_ones_do_not():
    assert rg.explain(katharopoulos, (1, 8, 2048, 64)).backend == "linear"
    found = rg.explain(katharopoulos, (1, 8, 64, 64))
    assert found.backend != "linear"
    assert found.otherwise["linear"] == f"'{found.backend}' comes first"


@pytest.fixture(autouse=True)
def _all_backends(monkeypatch):
    monkeypatch.setenv("REGARD_BACKENDS", "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"query_offset": 3}, "summed in the order of rows, and positions are moved"),
        ({"observe": ["weights"]}, "it keeps no weights, so it can observe nothing"),
    ],
)
def test_refusals_say_why(options, reason):
    q = torch.randn(1, 2, 5, 4)
    with pytest.raises(UnsupportedError, match=reason):
        rg.attend(katharopoulos, q, q, q, backend="linear", **options)


def test_infinite_key_is_refused_where_it_would_reach_rows_it_is_hidden_from():
    q = torch.randn(1, 2, 5, 4)
    bad = q.clone()
    bad[0, 0, 3] = torch.inf
    with pytest.raises(UnsupportedError, match="'k' holds NaN or infinity"):
        rg.attend(katharopoulos, q, bad, q, backend="linear")


def test_decay_without_a_logarithm_is_refused():
    q = torch.randn(1, 2, 5, 4)
    with pytest.raises(UnsupportedError, match="exponent of a decay is NaN or infinite"):
        rg.attend(retnet, q, q, q, gamma=torch.tensor([-0.5, 0.5]), backend="linear")
