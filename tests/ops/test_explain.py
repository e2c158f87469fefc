"""explain says which backend would run a call, why no other, and what it costs."""

import json
from dataclasses import astuple

import pytest
import torch

import regard as rg
from regard.errors import InputError, UnsupportedError
from regard.ops import explain, imagine_call
from regard.ops.predict import Prices
from regard.passes.count_work import Work
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

SHAPE = (2, 4, 300, 8)
PRICES = Prices(1e-11, 1e-9, 1e-10, 0.0, 0.0, 5e-5, 1e-4)


@pytest.fixture(autouse=True)
def prices(monkeypatch):
    """What is known of this machine: nothing, until a test adds a backend's."""
    known: dict[str, Prices] = {}
    monkeypatch.setattr(explain, "known_prices", lambda name, dtype: known.get(name))
    return known


def test_explanation_reads_well():
    found = rg.explain(PROGRAMS["learned_sink"], SHAPE, (2, 2, 700, 8))
    assert str(found) == (
        "learned_sink\n"
        "  seen_ij = j ≤ i ∧ i − j < 8\n"
        "  w_ij    = softmax_j(q_i·k_j / √D, sink = sink[h] | seen_ij)\n"
        "  out_i   = Σ_j w_ij v_j\n"
        "runs on: tiled\n"
        "  not sdpa: torch's kernels have no sink\n"
        "  not reference: 'tiled' comes first\n"
        "sizes: B 2, H 4, G 2, N 300, M 700, D 8, E 8\n"
        "tiles: 256 queries x 512 keys, all heads at once\n"
        "numbers per pair-level value: 1,048,576 at once, 1,680,000 if it were dense\n"
        "term a: shifted by the row's largest exponent\n"
        "blocks: 4 of 256 queries x 512 keys: 2 empty, 0 full, 2 mixed; 50.0% are visited\n"
        "  ▒·\n"
        "  ▒·\n"
        "work: 20.2 M multiply-adds, 2.18 M exponentials, 9.24 M other operations, 0 bytes moved\n"
        "predicted: nothing before rg.measure_machine() has measured this machine"
    )


def test_explanation_is_plain_data_as_well():
    found = rg.explain(PROGRAMS["softplus_share"], (2, 4, 30, 8)).as_dict()
    assert json.loads(json.dumps(found)) == {
        "program": "softplus_share",
        "backend": "tiled",
        "otherwise": {
            "sdpa": "its weights are not one softmax",
            "reference": "'tiled' comes first",
        },
        "sizes": {"B": 2, "H": 4, "G": 4, "N": 30, "M": 30, "D": 8, "E": 8},
        "imagined": [],
        "gathered": None,
        "tile": [30, 30],
        "shifted": {"a": False},
        "sweeps": [],
        "tile_heads": 8,
        "pair_numbers": [7200, 7200],
        "plan": None,
        # A pair: two products of 8 channels, a softplus and its share, three operators.
        "work": {
            "products": 16 * 7200,
            "functions": 2.5 * 7200,
            "operations": 3 * 7200,
            "bytes": 0,
            "pieces": 7,
            "calls": 1,
            "gradients": 0,
        },
        "predicted_ms": {},
        "prices": {},
        "routed_ms": {},
        "measured_ms": None,
        "formula": PROGRAMS["softplus_share"].formula(),
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_missing_inputs_of_every_program_are_imagined(name):
    assert rg.explain(PROGRAMS[name], (2, 4, 5, 8)).program == name


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_explained_backend_is_the_one_that_runs(name, training, monkeypatch):
    inputs = make_inputs(PROGRAMS[name].root, Sizes(), torch.float32)
    if training:
        inputs = {k: x.requires_grad_(x.is_floating_point()) for k, x in inputs.items()}
    chosen = rg.explain(PROGRAMS[name], **inputs).backend
    ran = []
    for one, backend in rg.ops.plan.registered().items():

        def forward(kernel, bound, one=one, real=backend.forward):
            ran.append(one)
            return real(kernel, bound)

        monkeypatch.setattr(backend, "forward", forward, raising=False)
    rg.attend(PROGRAMS[name], **inputs)
    assert ran == [chosen]


def test_training_counts_the_gradients_of_parameters():
    assert rg.explain(PROGRAMS["alibi"], SHAPE).backend == "sdpa"
    found = rg.explain(PROGRAMS["alibi"], SHAPE, training=True)
    assert found.backend == "tiled"
    assert found.otherwise["sdpa"].startswith("its bias or scale needs a gradient (slope)")


def test_parameters_whose_width_nothing_decides_are_imagined():
    @rg.program
    def hidden(pair):
        units = rg.parameter("units", per="channel")
        out = rg.parameter("out", per=("head", "channel"))
        return rg.softmax(rg.sum(out * rg.relu(units * (pair.i - pair.j))))

    assert set(rg.explain(hidden, (1, 2, 8, 4)).imagined) == {"units", "out"}
    told = rg.explain(hidden, (1, 2, 8, 4), units=torch.zeros(5), training=True).imagined
    assert told == ("out",)


def test_named_backend_is_explained_or_refused():
    assert rg.explain(PROGRAMS["causal"], SHAPE, backend="reference").backend == "reference"
    with pytest.raises(UnsupportedError, match=r"^backend 'sdpa' cannot run this program: torch's"):
        rg.explain(PROGRAMS["learned_sink"], SHAPE, backend="sdpa")


def test_large_masks_are_left_to_the_tiles():
    window = PROGRAMS["window"]
    assert rg.explain(window, (1, 1, 4096, 8)).backend == "sdpa"
    found = rg.explain(window, (1, 1, 4097, 8))
    assert found.backend == "tiled"
    assert found.otherwise["sdpa"] == (
        "its mask or bias would have to be dense, and is too large for that"
    )
    assert rg.explain(PROGRAMS["causal"], (1, 1, 100_000, 8)).backend == "sdpa"


def test_heads_of_the_whole_layer_are_imagined():
    found = rg.explain(PROGRAMS["shaw_relative"], (1, 2, 5, 8), first_head=2, total_heads=6)
    assert found.sizes["H"] == 2


def test_what_is_no_shape_is_refused():
    with pytest.raises(InputError) as caught:
        rg.explain(PROGRAMS["causal"], "wide")
    assert str(caught.value) == "q must be a tensor or a shape such as (2, 8, 128, 64), not 'wide'"


def test_blocks_are_counted_and_drawn():
    found = rg.explain(PROGRAMS["causal"], (1, 2, 1024, 8), backend="cpu").plan
    # 16 steps of keys for 32 of queries: both rows of blocks of a step have a mixed one.
    assert (found.rows, found.keys) == (32, 64)
    assert (found.empty, found.full, found.mixed) == (240, 240, 32)
    assert found.visited == pytest.approx(272 / 512)
    assert found.picture[0] == "▒" + 15 * "·"
    assert found.picture[-1] == 15 * "█" + "▒"
    assert all(len(row) == 16 for row in found.picture) and len(found.picture) == 16


def test_picture_of_many_blocks_stays_small():
    found = rg.explain(PROGRAMS["window"], (1, 1, 20_000, 8), backend="cpu").plan
    assert len(found.picture) <= 24
    assert {len(row) for row in found.picture} <= set(range(24, 49))


def test_plans_that_differ_say_along_what():
    lengths = torch.tensor([100, 1000])
    found = rg.explain(PROGRAMS["causal"], (2, 2, 1024, 8), backend="cpu", key_lengths=lengths)
    assert found.plan.differs == ("batch rows",)
    assert "drawn: the first of batch rows" in str(found)


def test_prediction_is_work_times_prices(prices):
    assert rg.explain(PROGRAMS["causal"], SHAPE).predicted_ms == {}
    prices["sdpa"], prices["tiled"] = PRICES, Prices(*(3 * x for x in astuple(PRICES)))
    found = rg.explain(PROGRAMS["causal"], SHAPE)
    work = Work(**found.work)
    assert list(found.predicted_ms) == ["sdpa", "tiled"]
    assert found.predicted_ms["sdpa"] == pytest.approx(1e3 * PRICES.seconds(work))
    lines = str(found).splitlines()
    assert lines[-2].startswith("predicted: ") and "GFLOP/s of products" in lines[-2]
    assert lines[-1].startswith("  tiled: ")


def test_call_is_run_where_its_time_is_asked_for(prices, monkeypatch):
    asked = []
    monkeypatch.setattr(explain, "measure_machine", lambda *names: asked.append(names))
    prices["tiled"] = PRICES
    found = rg.explain(PROGRAMS["alibi"], SHAPE, training=True, measure=True)
    assert asked == [(("tiled", "reference"), torch.float32)]
    assert found.measured_ms > 0
    assert str(found).splitlines()[-1].endswith("of the prediction")


def test_keys_that_are_gathered_are_told():
    kept = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k), where=rg.key_feature("keep")))
    keep = torch.arange(2048) % 5 == 0
    found = rg.explain(kept, (1, 2, 2048, 8), backend="tiled", keep=keep)
    assert (found.sizes["M"], found.gathered) == (2048, 448)
    assert "keys: 448 are gathered; the others no query sees" in str(found)
    full = rg.explain(kept, (1, 2, 2048, 8), backend="tiled", keep=torch.ones(2048).bool())
    assert full.gathered is None
    assert found.work["products"] < full.work["products"] / 4


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (((8, 1024, 64),), {}, r"q must be a tensor or a shape .* not \(8, 1024, 64\)"),
        (((1, 8, 9, 8), (8, 9, 8)), {}, r"k must be a tensor or a shape"),
        (((1, 8, 9, 8),), {"nope": 3}, "the program reads no 'nope'"),
        (((1, 8, 9, 8),), {"observe": "lse"}, "observe takes a list of names"),
        (((1, 8, 9, 8),), {"seed": "x"}, "seed must be a whole number"),
    ],
)
def test_calls_that_cannot_be_are_refused_as_by_attend(arguments, options, said):
    with pytest.raises(InputError, match=f"^{said}"):
        rg.explain(PROGRAMS["causal"], *arguments, **options)


def test_what_is_no_program_is_refused():
    with pytest.raises(InputError, match=r"^attend runs a program"):
        rg.explain(lambda pair: 1, SHAPE)


def test_what_is_imagined_is_like_what_is_given_and_told():
    q = torch.zeros(1, 2, 64, 16, dtype=torch.bfloat16)
    kept = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k), where=rg.key_feature("keep")))
    found = rg.explain(kept, q, (1, 2, 32, 16))
    assert found.sizes["M"] == 32
    assert "not given, so zeros here: keep" in str(found)
    assert rg.explain(kept, q, keep=torch.ones(64).bool()).imagined == ()


def test_calls_are_measured_where_nobody_wants_gradients(prices, monkeypatch):
    monkeypatch.setattr(explain, "measure_machine", lambda *names: None)
    with torch.no_grad():
        assert rg.explain(PROGRAMS["alibi"], SHAPE, training=True, measure=True).measured_ms > 0
    with torch.inference_mode():
        assert rg.explain(PROGRAMS["causal"], SHAPE, training=True, measure=True).measured_ms > 0


def test_backend_that_nobody_counts_says_so():
    found = rg.explain(PROGRAMS["causal"], SHAPE, backend="reference")
    assert str(found).endswith("what backend 'reference' computes is not counted")


def test_memory_that_runs_out_is_an_error_of_ours(monkeypatch):
    def fail(calls, seconds):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(explain, "measure_machine", lambda *names: None)
    monkeypatch.setattr(imagine_call, "time_calls", fail)
    with pytest.raises(UnsupportedError, match="more memory than there is on backend 'sdpa'"):
        rg.explain(PROGRAMS["causal"], SHAPE, measure=True)
