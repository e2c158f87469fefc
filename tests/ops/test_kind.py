"""What is remembered between calls: one kind per signature, no tensor, never too many."""

import gc
import weakref

import pytest
import torch

import regard as rg
from regard.backends.base import registered
from regard.ops.bind import Options
from regard.ops.kind import kind_of
from regard.ops.prepare import prepare
from regard.testing.programs import PROGRAMS

CAUSAL = PROGRAMS["causal"]


def rows(*shape, **more):
    return torch.randn(*(shape or (1, 2, 5, 4)), **more)


def kind(q=None, program=CAUSAL, named=None, **options):
    q = rows() if q is None else q
    return prepare(program, q, q, q, named or {}, Options(**options))[0]


def test_calls_that_differ_in_numbers_alone_are_of_one_kind():
    assert kind() is kind()
    assert kind(query_offset=3, seed=1) is kind(query_offset=torch.tensor([4]), seed=2)
    assert kind(key_lengths=[3]) is kind(query_lengths=torch.tensor([2]))


@pytest.mark.parametrize(
    "options",
    [
        {"q": rows(1, 2, 6, 4)},
        {"q": rows(dtype=torch.float64)},
        {"q": rows(requires_grad=True)},
        {"program": PROGRAMS["alibi"]},
        {"observe": ["lse"]},
        {"backend": "tiled"},
        {"seed": 0},
        {"query_offset": 1},
        {"query_positions": torch.arange(5)},
        {"key_positions": torch.arange(5)},
        {"key_lengths": 3},
        {"query_lengths": 3},
        {"total_heads": 4},
        {"first_head": 1, "total_heads": 4},
        {"program": PROGRAMS["alibi"], "named": {"slope": torch.ones(2)}},
    ],
    ids=lambda given: ", ".join(given),
)
def test_calls_that_differ_in_anything_else_are_not(options):
    assert kind(**options) is not kind()


def test_no_gradient_is_wanted_where_autograd_is_off():
    q = rows(requires_grad=True)
    with torch.no_grad():
        assert kind(q) is kind(rows())
    assert kind(q).wanted == ("q", "k", "v")


def test_no_tensor_of_a_call_is_kept():
    q, slope = rows(1, 2, 7, 4, requires_grad=True), torch.ones(2, requires_grad=True)
    rg.attend(PROGRAMS["alibi"], q, q, q, slope=slope, key_lengths=[3], backend="tiled")
    gone = [weakref.ref(tensor) for tensor in (q, slope)]
    del q, slope
    gc.collect()
    assert [tensor() for tensor in gone] == [None, None]


def test_shapes_that_always_change_do_not_fill_memory():
    most = kind_of.cache_info().maxsize
    assert most is not None and most <= 1024


def test_mistakes_are_not_remembered():
    before = kind_of.cache_info().currsize
    for _ in range(2):
        with pytest.raises(rg.InputError, match="no 'quere'"):
            kind(named={"quere": rows()})
    assert kind_of.cache_info().currsize == before


def test_backend_is_compiled_only_when_its_turn_comes(monkeypatch):
    compiled = []
    for name, backend in registered().items():

        def compile(request, name=name, real=backend.compile):
            compiled.append(name)
            return real(request)

        monkeypatch.setattr(backend, "compile", compile, raising=False)
    q = rows(1, 2, 3, 11)
    rg.attend(CAUSAL, q, q, q)
    first, second = kind(q).plan.candidates[:2]
    assert compiled == [first] == ["sdpa"]
    q[0, 0, 2] = torch.nan
    rg.attend(CAUSAL, q, q, q)
    assert compiled == [first, second]
