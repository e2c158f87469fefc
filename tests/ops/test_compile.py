"""attend inside torch.compile and torch.export: one operator, the same numbers and words."""

import re

import pytest
import torch

import regard as rg
from regard.errors import UnsupportedError
from regard.ops import compile as compile_module
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

BACKENDS = ["tiled", "reference", "sdpa", "auto"]


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()


def compiled(run, backend="aot_eager", **options):
    return torch.compile(run, fullgraph=True, backend=backend, **options)


def inputs_of(name, sizes=None):
    inputs = make_inputs(PROGRAMS[name].root, sizes or Sizes(), torch.float64)
    return {key: x.requires_grad_(x.is_floating_point()) for key, x in inputs.items()}


def both(run, inputs, program):
    """Return the values and the gradients of a function of the inputs."""
    found = run(program, inputs)
    output, seen = found if isinstance(found, tuple) else (found, {})
    values = {"output": output, **seen}
    total = sum(x.double().sin().sum() for x in values.values() if x.requires_grad)
    learned = [x for x in inputs.values() if x.requires_grad]
    grads = torch.autograd.grad(total, learned, allow_unused=True, materialize_grads=True)
    return values, dict(zip([k for k, x in inputs.items() if x.requires_grad], grads, strict=True))


def check(run, inputs, program, **options):
    made = compiled(run, **options)
    for one, other in zip(both(made, inputs, program), both(run, inputs, program), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-12)
            assert one[name].requires_grad == other[name].requires_grad, name
    return made


def calls_in_graph(run, *inputs):
    """Return how many operators of Regard a traced function holds."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    torch.compile(run, fullgraph=True, backend=keep)(*inputs)
    (graph,) = graphs
    return len(re.findall(r"torch\.ops\.regard\.attend\(", graph.code))


# ── The same numbers ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_call_gives_the_same_values_and_gradients(backend):
    def run(program, inputs):
        return rg.attend(program, **inputs, backend=backend) * 2

    check(run, inputs_of("causal"), PROGRAMS["causal"])


@pytest.mark.parametrize("name", ["alibi", "t5_buckets", "further_rows", "softmax_one"])
def test_parameters_and_tables_get_their_gradients_and_widths_follow_the_program(name):
    def run(program, inputs):
        return rg.attend(program, **inputs, backend="tiled").sin()

    check(run, inputs_of(name), PROGRAMS[name])


def test_what_is_observed_is_returned_and_the_largest_score_has_no_gradient():
    def run(program, inputs):
        found = rg.attend(
            program, **inputs, backend="tiled", observe=["weights", "max", "lse", "entropy"]
        )
        return found[0] + 1, found[1]

    check(run, inputs_of("alibi"), PROGRAMS["alibi"])


def test_options_reach_the_call():
    lengths, starts = torch.tensor([9, 4]), torch.tensor([3, 0])

    def run(program, inputs):
        return rg.attend(
            program, **inputs, query_offset=starts, key_lengths=lengths, query_lengths=[5, 2],
            first_head=1, total_heads=9, seed=7, backend="tiled",
        )  # fmt: skip

    inputs = inputs_of("dropped_out")
    check(run, inputs, PROGRAMS["dropped_out"])
    before = run(PROGRAMS["dropped_out"], inputs)
    lengths[1] = 8
    assert not torch.equal(compiled(run)(PROGRAMS["dropped_out"], inputs), before)


def test_numbers_may_stand_for_run_time_scalars():
    program = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) * rg.scalar("heat"), p.j <= p.i))
    x = torch.randn(1, 2, 5, 4)
    run = compiled(lambda heat: rg.attend(program, x, x, x, heat=heat, seed=3))
    for heat in (0.5, 2.0):
        torch.testing.assert_close(run(heat), rg.attend(program, x, x, x, heat=heat))


def test_seed_may_be_drawn_in_the_trace():
    inputs = make_inputs(PROGRAMS["dropped_out"].root, Sizes(), torch.float32)

    def run(inputs):
        seed = int(torch.randint(0, 2**63 - 1, ()).item())
        return rg.attend(PROGRAMS["dropped_out"], **inputs, seed=seed, backend="tiled")

    made, found = compiled(run), []
    for one in (run, made, made):
        torch.manual_seed(len(found) // 2)
        found.append(one(inputs))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


def test_dynamic_shapes_are_compiled_once():
    traced = []

    def count(graph, _):
        traced.append(graph)
        return graph

    def run(q, k, v):
        return rg.attend(PROGRAMS["causal"], q, k, v, backend="tiled")

    made = torch.compile(run, fullgraph=True, backend=count, dynamic=True)
    for batch, rows, keys in ((3, 5, 7), (6, 9, 11), (5, 12, 13)):
        q = torch.randn(batch, 4, rows, 8, dtype=torch.float64, requires_grad=True)
        k, v = torch.randn(2, batch, 2, keys, 8, dtype=torch.float64)
        output = made(q, k, v)
        torch.testing.assert_close(output, run(q, k, v))
        (found,) = torch.autograd.grad(output.sin().sum(), q)
        torch.testing.assert_close(found, torch.autograd.grad(run(q, k, v).sin().sum(), q)[0])
    assert len(traced) == 1


def test_dynamic_shapes_go_through_aot_autograd():
    def run(program, inputs):
        return rg.attend(program, **inputs, backend="tiled")

    made = check(run, inputs_of("alibi"), PROGRAMS["alibi"], dynamic=True)
    other = inputs_of("alibi", Sizes(N=9, M=12))
    expected = both(run, other, PROGRAMS["alibi"])[1]
    for name, found in both(made, other, PROGRAMS["alibi"])[1].items():
        torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_autocast_makes_no_score_narrower_and_keeps_the_dtype_of_q(dtype):
    q, k, v = torch.randn(3, 2, 2, 9, 8, dtype=dtype)

    def run(q):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return rg.attend(PROGRAMS["causal"], q, k, v, backend="tiled", observe=["lse"])

    output, seen = compiled(run)(q)
    assert output.dtype == dtype and seen["lse"].dtype == torch.float32
    expected, other = rg.attend(PROGRAMS["causal"], q, k, v, backend="tiled", observe=["lse"])
    assert torch.equal(output, expected) and torch.equal(seen["lse"], other["lse"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning")
def test_inductor_gives_the_same_values_and_gradients():
    def run(program, inputs):
        return rg.attend(program, **inputs, backend="tiled").sin() * 2

    check(run, inputs_of("alibi"), PROGRAMS["alibi"], backend="inductor")
    check(run, inputs_of("causal"), PROGRAMS["causal"], backend="inductor", dynamic=True)


# ── The graph ─────────────────────────────────────────────────────────────────────────────────
def test_graph_holds_one_operator_per_call_and_is_not_broken():
    q = torch.randn(1, 2, 5, 4)

    def run(q):
        return rg.attend(PROGRAMS["causal"], rg.attend(PROGRAMS["alibi"], q, q, q), q, q)

    assert calls_in_graph(run, q) == 2


def test_two_programs_do_not_share_a_graph():
    x = torch.randn(1, 2, 6, 4)

    def run(program, x):
        return rg.attend(program, x, x, x)

    made = compiled(run)
    plain = rg.program(lambda pair: rg.softmax(rg.dot(pair.q, pair.k)))
    for program in (PROGRAMS["causal"], plain, PROGRAMS["causal"]):
        torch.testing.assert_close(made(program, x), run(program, x))


def test_operator_keeps_torch_rules():
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64, requires_grad=True).unbind()
    key = compile_module._remember(
        PROGRAMS["causal"], ("q", "k", "v"), ("first_head", "total_heads"), ("lse",), "tiled"
    )
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    torch.library.opcheck(torch.ops.regard.attend.default, (leaves, [0, 0], key))


def test_export_keeps_the_operator():
    class Layer(torch.nn.Module):
        def forward(self, q):
            return rg.attend(PROGRAMS["causal"], q, q, q)

    q = torch.randn(1, 2, 5, 4)
    exported = torch.export.export(Layer(), (q,))
    names = [str(node.target) for node in exported.graph.nodes]
    assert names.count("regard.attend.default") == 1
    torch.testing.assert_close(exported.module()(q), Layer()(q))


def test_eager_calls_do_not_go_through_the_operator(monkeypatch):
    monkeypatch.setattr(compile_module, "_recall", lambda key: pytest.fail(key))
    x = torch.randn(1, 2, 5, 4, requires_grad=True)
    rg.attend(PROGRAMS["causal"], x, x, x).sum().backward()


# ── Errors ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"quere": torch.zeros(1)}, "the program reads no 'quere'"),
        ({"observe": ["lsee"]}, "'lsee' cannot be observed; did you mean 'lse'?"),
        ({"backend": "tilde"}, "there is no backend 'tilde'; did you mean 'tiled'?"),
        ({"v": torch.zeros(1, 2, 3, 4)}, "need the same batch, heads and keys"),
        ({"query_lengths": [9]}, "query_lengths holds 9 or a negative number; there are 5 rows"),
    ],
)
def test_mistake_in_a_compiled_call_is_told_in_the_same_words(given, message):
    x = torch.randn(1, 2, 5, 4)
    options = {"q": x, "k": x, "v": x, **given}
    # Torch wraps what is raised while it traces.
    with pytest.raises(Exception, match=re.escape(message)):
        compiled(lambda: rg.attend(PROGRAMS["causal"], **options))()


def test_graph_from_another_process_is_refused():
    x = torch.randn(1, 2, 5, 4)
    with pytest.raises(UnsupportedError) as caught:
        torch.ops.regard.attend([x, x, x], [0, 0], "from elsewhere")
    assert str(caught.value) == (
        "this graph of rg.attend was traced in another process; trace it again in this one"
    )
