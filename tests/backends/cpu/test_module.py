"""A sweep whose library cannot be built: what is said, and who runs the program instead."""

import pytest
import torch

import regard as rg
from regard.backends.cpu import module
from regard.backends.cpu.kernel import _compile
from regard.errors import UnsupportedError
from regard.ops import kind, plan, run
from tests.backends.cpu.programs import near, rows
from tests.backends.cpu.programs import run as attended

CACHES = (_compile, plan.make_plan, plan.compiled, kind.kind_of)


@pytest.fixture
def fresh():
    """Nothing compiled before the test, nor kept after it."""
    for cache in CACHES:
        cache.cache_clear()
    yield
    for cache in CACHES:
        cache.cache_clear()


@pytest.fixture
def broken(fresh, monkeypatch):
    """A machine whose compiler is found but builds nothing; how often it was asked."""
    asked = []

    def fail(source, name, defines):
        asked.append(name)
        raise UnsupportedError(f"{name}: g++ (gcc 0) does not compile its kernel")

    monkeypatch.setattr(module, "load_library", fail)
    monkeypatch.setenv(plan.ORDER_VARIABLE, "cpu,tiled")
    monkeypatch.setattr(run, "_warned", set())
    return asked


def test_program_runs_elsewhere_with_one_warning(broken):
    tensors = rows(n=5, m=7)
    expected = attended(near, tensors, backend="tiled")
    with pytest.warns(UserWarning, match="another backend, slower: .* does not compile") as said:
        found = attended(near, tensors)
    again = attended(near, tensors)
    assert len(said) == 1 and len(broken) == 1, "it is tried once, and said once"
    for name, value in expected.items():
        assert torch.equal(found[name], value) and torch.equal(again[name], value)


def test_named_backend_says_why_it_cannot(broken):
    with pytest.raises(UnsupportedError, match=r"backend 'cpu' declined .* does not compile"):
        attended(near, rows(n=5, m=7), backend="cpu")


def test_gradient_that_cannot_be_built_names_who_can(fresh, monkeypatch):
    real = module.Module._build

    def build(self, *kinds):
        if self.what == "backward":
            raise UnsupportedError("mine: it does not compile")
        return real(self, *kinds)

    monkeypatch.setattr(module.Module, "_build", build)
    leaf = torch.randn(3, 1, 2, 5, 4, requires_grad=True)
    output = rg.attend(near, *leaf.unbind(), backend="cpu")
    with pytest.raises(UnsupportedError, match=r'declined the gradients .* backend="tiled"'):
        output.sum().backward()
