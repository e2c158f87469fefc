"""torch.func, forward-mode autograd and batched gradients: a result or a reason, never a riddle."""

import pytest
import torch
from torch.autograd import forward_ad

import regard as rg
from regard.backends.base import registered
from regard.errors import UnsupportedError
from regard.testing.programs import PROGRAMS

CAUSAL = PROGRAMS["causal"]
# Torch's own forward mode meets a deprecated part of torch when it is first used.
FORWARD = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
MAPPED = (
    "torch.vmap cannot map over rg.attend; make the mapped axis part of B, the batch rows of q, "
    "k and v"
)


def rows():
    return torch.randn(1, 2, 5, 4, dtype=torch.float64)


def attended(x, backend):
    return rg.attend(CAUSAL, x, x, x, backend=backend).sin().sum()


@pytest.mark.parametrize("backend", ["tiled", "reference", "sdpa", "auto", "cpu"])
def test_vmap_is_refused_with_what_to_do(backend):
    with pytest.raises(UnsupportedError) as caught:
        torch.func.vmap(attended, in_dims=(0, None))(rows()[None], backend)
    assert str(caught.value) == MAPPED


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
def test_torch_func_is_refused_by_tiled_with_what_to_do(transform):
    with pytest.raises(UnsupportedError) as caught:
        transform(attended)(rows(), "tiled")
    assert str(caught.value) == (
        "backend 'tiled' declined this call: torch.func cannot see its derivatives; "
        'use torch.autograd, or backend="reference"'
    )


@pytest.mark.parametrize("backend", ["reference", "sdpa", "auto"])
def test_torch_func_grad_goes_through_backends_that_torch_differentiates(backend):
    x = rows()
    found = torch.func.grad(attended)(x, backend)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(attended(x, "tiled"), x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_auto_finds_a_backend_that_torch_func_can_look_through():
    program, x = PROGRAMS["softmax_one"], rows()
    assert not registered()[rg.explain(program, x).backend].differentiable
    torch.func.grad(lambda x: rg.attend(program, x, x, x).sum())(x)


@FORWARD
def test_torch_func_jvp_goes_through_reference():
    x, way = rows(), rows()
    _, found = torch.func.jvp(lambda x: attended(x, "reference"), (x,), (way,))
    x.requires_grad_()
    (grad,) = torch.autograd.grad(attended(x, "tiled"), x)
    torch.testing.assert_close(found, (grad * way).sum(), rtol=1e-12, atol=1e-12)


@FORWARD
def test_forward_mode_is_refused_by_tiled_and_only_for_inputs_that_have_a_tangent():
    x = rows()
    with forward_ad.dual_level():
        attended(x, "tiled")
        dual = forward_ad.make_dual(x, rows())
        with pytest.raises(UnsupportedError) as caught:
            attended(dual, "tiled")
        assert forward_ad.unpack_dual(attended(dual, "reference")).tangent is not None
    assert str(caught.value) == (
        "backend 'tiled' declined this call: it has no forward-mode derivatives; "
        'use torch.autograd, or backend="reference"'
    )


def test_backward_of_many_gradients_at_once_is_refused_with_what_to_do():
    x = rows()
    plain = torch.autograd.functional.jacobian(lambda x: rg.attend(CAUSAL, x, x, x), x)
    assert plain.isfinite().all()
    with pytest.raises(UnsupportedError) as caught:
        torch.autograd.functional.jacobian(
            lambda x: rg.attend(CAUSAL, x, x, x, backend="tiled"), x, vectorize=True
        )
    assert str(caught.value) == (
        "the backward of rg.attend takes one gradient at a time; "
        'leave out vectorize=True or is_grads_batched=True, or use backend="reference"'
    )
