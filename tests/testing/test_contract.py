"""Every registered backend does what the reference does, and refuses the rest with a reason."""

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import ClassVar

import pytest
import torch

from regard.backends.base import registered
from regard.backends.tiled.kernel import force_tile
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.ir.types import INDEX_AXES
from regard.ops.attend import attend
from regard.ops.reference_backend import ReferenceBackend
from regard.reference.evaluate import evaluate
from regard.testing.contract import (
    DTYPES,
    SEED,
    SETTINGS,
    Case,
    check_case,
    contract_cases,
    observed,
    run_both,
    run_case,
    sample,
)
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS
from tests.backends.cpu.ahead import build_ahead

RUN_BY_SDPA = {
    *("scaled_dot_product", "causal", "strictly_causal", "alibi", "fixed_slope", "t5_buckets"),
    *("window", "dilated", "prefix", "documents", "chosen_tokens", "indexed_by_pairs"),
}
RUN_BY_LINEAR = {"elu_features", "retention", "gated_linear", "unlike_sums"}
# Why a backend may refuse a program, in the words of its reason; every other one it must run.
REFUSED = {
    "reference": {},
    "tiled": {},
    "cpu": dict.fromkeys(
        ("stick_breaking", "contextual_positions", "forget_gate", "nested_sums"),
        "a running sum over keys needs ordered keys",
    ),
    # Torch's kernels run so few that each has its own reason, tested where they are.
    "sdpa": dict.fromkeys(PROGRAMS.keys() - RUN_BY_SDPA, ""),
    # What is no sum of products has its reasons tested with the pass that finds them.
    "linear": dict.fromkeys(PROGRAMS.keys() - RUN_BY_LINEAR, ""),
}


def sample_of_all_backends():
    """Pairs of backend and case, those of one case side by side: the reference runs once."""
    return [(name, case) for case in sample(contract_cases("tiled")) for name in registered()]


@pytest.fixture(scope="session")
def built(request):
    """The kernels of the cases that are to be run, built two at a time."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items]
    cases = [spec.params.get("case") for spec in chosen if spec and "cpu" in spec.params.values()]
    build_ahead(partial(build, case) for case in cases if isinstance(case, Case))


def build(case):
    """Run a case outside the contexts it has, for they belong to the process."""
    program, setting = PROGRAMS[case.program], SETTINGS[case.setting]
    inputs = make_inputs(program.root, setting.sizes, case.dtype, SEED, setting.total_heads)
    options = {**setting.options(), "backend": "cpu", "rows_alone": setting.rows_alone}
    run_both(program, inputs, observed("cpu", case), **options)


def check(backend, case):
    refused = REFUSED.get(backend, {})
    if case.program in refused:
        reason = check_case(backend, case)
        assert reason, f"{backend} runs {case} now; take it off REFUSED"
        assert refused[case.program] in reason
        return
    reason = check_case(backend, case)
    if reason is not None:
        refuses = {"sdpa": refused_for_its_setting, "linear": moved_or_observed}.get(backend)
        assert refuses, f"{backend} refused {case}: {reason}"
        assert refuses(case, reason), f"{backend} refused {case}: {reason}"


def moved_or_observed(case, reason):
    """States hold no weights, and are summed in the order of plain positions."""
    setting = SETTINGS[case.setting]
    if setting.observe:
        return "it can observe nothing" in reason
    moved = setting.query_offset != 0 or setting.left_padded is not None
    return moved and "positions are moved" in reason


def refused_for_its_setting(case, reason):
    """Torch's kernels return no statistics and give a learned bias no gradient."""
    setting = SETTINGS[case.setting]
    if setting.observe:
        return "return no row statistics" in reason
    return not setting.rows_alone and "needs a gradient" in reason


# ── The suite itself ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("backend", "case"), sample_of_all_backends(), ids=str)
def test_backend_does_what_the_reference_does_in_a_sample(backend, case, built):
    check(backend, case)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("backend", registered())
def test_backend_does_what_the_reference_does(backend, program):
    cases = [case for case in contract_cases(backend) if case.program == program]
    if backend == "cpu":
        # Narrow numbers are computed with in float32, by the same kernels.
        build_ahead(partial(build, case) for case in cases if case.dtype in DTYPES[:2])
    for case in cases:
        check(backend, case)


def runs(backend, program):
    case = Case(program, "rows alone", torch.float32)
    try:
        found = run_case(backend, case, case.dtype)
    except UnsupportedError as reason:
        assert str(reason).startswith(f"backend '{backend}' cannot run this program: ")
        return False
    return found["output"].isfinite().all()


# Backend "cpu" runs each program once in the sample, and fails there if it refuses one.
@pytest.mark.parametrize("backend", [name for name in registered() if name != "cpu"])
def test_backend_really_runs_the_programs_it_is_meant_to(backend):
    ran = {name for name in PROGRAMS if runs(backend, name)}
    assert ran == set(PROGRAMS) - REFUSED.get(backend, {}).keys()
    assert len(ran) >= {"reference": 50, "tiled": 50, "sdpa": 12, "linear": 4}.get(backend, 0)


# ── What the suite covers ─────────────────────────────────────────────────────────────────────
def nodes_of_all_programs():
    return n.walk(*(program.root for program in PROGRAMS.values()))


def test_programs_meet_every_node_operator_position_and_option():
    nodes = nodes_of_all_programs()
    kinds = Counter(type(node).__name__ for node in nodes)
    assert set(n.NODE_TYPES) - set(kinds) == set()
    assert set(OPERATORS) - {x.op for x in nodes if isinstance(x, n.Call)} == set()
    assert set(INDEX_AXES) - {x.name for x in nodes if isinstance(x, n.Index)} == {
        "row_i",
        "row_j",
    }, "rows are no position that a person can write"
    assert {x.pairs for x in nodes if isinstance(x, n.Rotate)} == {"halves", "interleaved"}
    assert {x.scaled for x in nodes if isinstance(x, n.Ratio)} == {True, False}
    axes = {x.axes for x in nodes if isinstance(x, n.Keep)}
    assert {"bhij", "bh", "j"} <= axes
    assert {x.side for x in nodes if isinstance(x, n.Feature)} == {"query", "key"}
    assert len(PROGRAMS) >= 32


def test_settings_meet_the_sizes_that_break_kernels():
    sizes = [setting.sizes for setting in SETTINGS.values()]
    assert {1, 17, 63, 128} == {s.N for s in sizes} == {s.M for s in sizes}
    assert any(s.N < s.M for s in sizes) and any(s.N > s.M for s in sizes)
    assert any(1 < s.G < s.H for s in sizes) and any(s.G == 1 < s.H for s in sizes)
    several = [s for s in SETTINGS.values() if s.tile and s.tile[1] < s.sizes.M]
    assert len(several) >= 5, "several tiles of keys"


def test_sample_meets_every_program_setting_and_dtype():
    for backend in registered():
        chosen = sample(contract_cases(backend))
        assert {case.program for case in chosen} == set(PROGRAMS)
        assert {case.setting for case in chosen} == set(SETTINGS)
        assert {case.dtype for case in chosen} == set(DTYPES)


def test_backend_that_is_not_registered_has_no_cases():
    with pytest.raises(ValueError, match="no backend 'tilled' is registered"):
        contract_cases("tilled")


# ── The suite rejects wrong backends ──────────────────────────────────────────────────────────
class Wrong(ReferenceBackend):
    """A reference that errs in one way."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def forward(self, kernel, bound):
        return evaluate(kernel.written, bound, kernel.observe), None


class WrongOutput(Wrong):
    def forward(self, kernel, bound):
        found = evaluate(kernel.written, bound, kernel.observe)
        return {**found, "output": self.change(found["output"])}, None


class WrongInput(Wrong):
    def forward(self, kernel, bound):
        return evaluate(kernel.written, self.change(bound), kernel.observe), None


class Scaled(torch.autograd.Function):
    """Right forward, wrong backward."""

    factor: ClassVar[float] = 1.25

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * Scaled.factor


def replaced(bound, **changes):
    return bound.with_tensors({name: f(bound.tensors[name]) for name, f in changes.items()})


def without_last_key(bound):
    lengths = torch.full((bound.batch,), bound.keys - 1)
    return replace(bound, key_lengths=lengths)


WRONG = {
    "sign": WrongOutput("wrong sign", lambda out: -out),
    "scale": WrongInput("wrong scale", lambda bound: replaced(bound, q=lambda q: 2 * q)),
    "last key": WrongInput("wrong last key", without_last_key),
    "NaN": WrongOutput("wrong NaN", lambda out: out.masked_fill(out == out.max(), torch.nan)),
    "gradient of q": WrongInput("wrong grad", lambda bound: replaced(bound, q=Scaled.apply)),
    "gradient of slope": WrongInput(
        "wrong slope", lambda bound: replaced(bound, slope=Scaled.apply)
    ),
    "positions": WrongInput(
        "wrong corner", lambda b: replace(b, query_positions=b.query_positions + b.keys - b.queries)
    ),
    "lost gradient": WrongInput("lost grad", lambda bound: replaced(bound, v=torch.Tensor.detach)),
    "wrong group": WrongInput("wrong group", lambda bound: replaced(bound, k=lambda k: k.flip(1))),
    "wrong head": WrongInput(
        "wrong head", lambda bound: replaced(bound, slope=lambda s: s.flip(0))
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_backend_is_rejected(monkeypatch, name, dtype):
    backend = WRONG[name]
    monkeypatch.setitem(registered(), backend.name, backend)
    with pytest.raises(AssertionError, match=r"error \S+ exceeds"):
        check_case(backend.name, Case("alibi", "tall", dtype))


def test_right_backend_under_another_name_is_accepted(monkeypatch):
    monkeypatch.setitem(registered(), "another", Wrong("another", None))
    assert check_case("another", Case("alibi", "tall", torch.float32)) is None


# ── What no comparison of two calls shows ─────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["drop_key", "drop_head", "dropped_out"])
def test_draws_are_the_same_in_tiles_of_every_size(name):
    inputs = make_inputs(PROGRAMS[name].root, Sizes(), torch.float64, seed=5)
    found = []
    for tile in ((1, 1), (3, 7), (17, 19)):
        with force_tile(*tile):
            found.append(run_both(PROGRAMS[name], inputs, backend="tiled"))
    for other in found[1:]:
        for key, value in found[0].items():
            torch.testing.assert_close(other[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_another_seed_draws_otherwise_and_no_seed_drops_nothing(backend):
    program = PROGRAMS["drop_key"]
    inputs = make_inputs(program.root, Sizes(), torch.float64)
    one, again, other, none = (
        attend(program, **inputs, seed=seed, backend=backend) for seed in (1, 1, 2, None)
    )
    plain = {name: inputs[name] for name in "qkv"}
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)
    torch.testing.assert_close(none, attend(PROGRAMS["causal"], **plain), rtol=1e-12, atol=1e-12)


def test_auto_gives_hidden_nan_to_a_backend_that_keeps_it_hidden():
    inputs = make_inputs(PROGRAMS["causal"].root, Sizes(N=4, M=6), torch.float64)
    clean = run_both(PROGRAMS["causal"], inputs)
    for name in "kv":
        inputs[name][:, :, 4:] = torch.nan
    dirty = run_both(PROGRAMS["causal"], inputs)
    for name, value in clean.items():
        torch.testing.assert_close(dirty[name], value, rtol=1e-12, atol=1e-12)
