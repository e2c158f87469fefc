"""Programs as FlexAttention's functions give what the reference gives; others are refused.

On a CPU torch runs the functions without compiling them, and gives no gradients.
"""

import pytest
import torch

import regard as rg
from regard.backends.base import registered
from regard.backends.flex import FlexBackend
from regard.backends.flex.block_mask import _listed
from regard.backends.values.blocks import EMPTY, FULL, MIXED
from regard.errors import UnsupportedError
from regard.ops.bind import Options
from regard.ops.plan import _order
from regard.ops.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture
def flex(monkeypatch):
    """The backend, as if torch compiled FlexAttention for CPUs."""
    backend = FlexBackend()
    monkeypatch.setattr(backend, "device", "cpu")
    monkeypatch.setitem(registered(), "flex", backend)
    return backend


def rows(heads=4, groups=4, queries=300, keys=300, dtype=torch.float64):
    draw = torch.Generator().manual_seed(2)
    shapes = (2, heads, queries, 16), (2, groups, keys, 16), (2, groups, keys, 16)
    return [torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes]


def same(program, given=None, **named):
    """Check values against the reference, and return them."""
    given = rows() if given is None else given
    found = rg.attend(program, *given, backend="flex", **named)
    expected = rg.attend(program, *given, backend="reference", **named)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    return found


def score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


@rg.program
def everything(pair):
    """See all."""
    return rg.softmax(score(pair))


@rg.program
def alibi(pair):
    """Fall with the distance."""
    slope = rg.table("slope", per="head")
    return rg.softmax(score(pair) - slope * (pair.i - pair.j), where=pair.j <= pair.i)


@rg.program
def capped(pair):
    """Cap scores of another scale, in a window."""
    near = (pair.j <= pair.i) & (pair.i - pair.j < 50)
    return rg.softmax(5 * rg.tanh(rg.dot(pair.q, pair.k) * 0.3 / 5), where=near)


@rg.program
def documents(pair):
    """See the same document, at a temperature."""
    same = rg.query_feature("of_query") == rg.key_feature("of_key")
    return rg.softmax(score(pair) / rg.scalar("heat"), where=same)


@rg.program
def biased(pair):
    """Add a dense bias; some of what it hides is minus infinity."""
    return rg.softmax(score(pair) + rg.pair_input("bias"))


def kinds(queries=300):
    return torch.arange(queries).div(70, rounding_mode="floor").view(1, 1, -1)


CASES = {
    "everything": (everything, {}),
    "alibi": (alibi, {"slope": torch.tensor([0.5, 0.25, 0.1, 0.0])}),
    "capped": (capped, {}),
    "documents": (documents, {"of_query": kinds(), "of_key": kinds(), "heat": 1.5}),
    "biased": (biased, {"bias": torch.eye(300).view(1, 1, 300, 300).double()}),
}


SLOW = sorted(CASES.keys() - {"documents"})


@pytest.mark.parametrize(
    "name", ["documents", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_values_are_the_reference_s(flex, name):
    program, named = CASES[name]
    same(program, **named)


def test_heads_share_keys(flex):
    slope = {"slope": torch.tensor([0.5, 0.25, 0.1, 0.0])}
    same(alibi, rows(groups=2, queries=40, keys=200), **slope)


def test_halves_are_as_near_as_halves_are(flex):
    given = rows(dtype=torch.bfloat16)
    found = rg.attend(capped, *given, backend="flex")
    expected = rg.attend(capped, *(x.double() for x in given), backend="reference")
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=2e-2)


def test_rows_that_see_nothing_are_zero(flex):
    @rg.program
    def later(pair):
        """The first query sees nothing."""
        return rg.softmax(score(pair), where=pair.j < pair.i)

    assert bool((same(later)[:, :, 0] == 0).all())


def test_tensors_of_a_second_call_are_read(flex):
    slopes = [torch.full((4,), value) for value in (0.1, 0.9)]
    for slope in slopes:
        same(alibi, slope=slope)


def test_functions_of_two_calls_have_one_code(flex):
    codes = set()
    for slope in (torch.zeros(4), torch.ones(4)):
        kind, bound = prepare(alibi, *rows(), {"slope": slope}, Options())
        score_mod, mask_mod, scale = flex.compile(kind.request).functions(bound)
        codes.add((score_mod.__code__, mask_mod.__code__, scale))
    assert len(codes) == 1


def test_hidden_nan_is_left_to_others(flex):
    q, k, v = rows()
    k[:, :, -1] = torch.nan
    with pytest.raises(UnsupportedError, match=r"declined this call.*NaN"):
        rg.attend(capped, q, k, v, backend="flex")


def test_some_heads_of_a_layer_are_left_to_others(flex):
    with pytest.raises(UnsupportedError, match="some heads of a layer"):
        rg.attend(everything, *rows(), first_head=4, total_heads=8, backend="flex")


REFUSED = {
    "sink": (rg.catalogue.learned_sink(), {}, "has a sink"),
    "sigmoid": (rg.catalogue.sigmoid(), {}, "normalises by one softmax"),
    "lengths": (everything, {"key_lengths": torch.tensor([3, 4])}, "takes no lengths"),
    "moved": (everything, {"query_offset": 5}, "counts rows from 0"),
    "observed": (everything, {"observe": ["lse"]}, "nothing that is observed"),
    "learned": (rg.catalogue.alibi(), {"slope": torch.ones(4, requires_grad=True)}, "slope"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_flexattention_cannot_say_is_refused_with_its_reason(flex, name):
    program, options, why = REFUSED[name]
    with pytest.raises(UnsupportedError, match=f"backend 'flex' cannot run.*{why}"):
        rg.attend(program, *rows(), backend="flex", **options)


def test_three_heads_do_not_share_a_key_head(flex):
    with pytest.raises(UnsupportedError, match="among 3 heads"):
        rg.attend(everything, *rows(heads=3, groups=1), backend="flex")


def test_on_a_cpu_it_says_where_it_runs():
    q, k, v = rows()
    kind, _ = prepare(everything, q, k, v, {}, Options())
    assert "compiles FlexAttention for cuda, and q is on cpu" in FlexBackend().supports(
        kind.request
    )


def test_it_is_tried_behind_our_own_kernels_and_before_tiles(flex, monkeypatch):
    monkeypatch.delenv("REGARD_BACKENDS", raising=False)
    kind, _ = prepare(everything, *rows(heads=8, groups=8, queries=1024, keys=1024), {}, Options())
    known = {**registered(), "triton": flex}
    names = _order(kind.request, known)
    assert names.index("triton") < names.index("flex") < names.index("tiled")


def test_what_torch_does_not_compile_is_said(flex, monkeypatch):
    from regard.backends.flex.kernel import FlexKernel

    def fails(*given):
        raise RuntimeError("no such tile")

    monkeypatch.setattr(FlexKernel, "run", fails)
    with pytest.raises(UnsupportedError, match="does not compile FlexAttention here: no such tile"):
        rg.attend(everything, *rows(queries=17), backend="flex")


def test_blocks_are_listed_by_what_they_are():
    codes = torch.tensor([[[[MIXED, EMPTY, FULL], [FULL, FULL, FULL]]]], dtype=torch.int8)
    mixed, full = _listed(codes, (True, False))[:, 0, 0].tolist()
    # The last column reaches beyond the last key.
    assert mixed[0][0] == 2 and mixed[0][1:3] == [0, 2] and mixed[1][:2] == [1, 2]
    assert full[0][0] == 0 and full[1][:3] == [2, 0, 1]
