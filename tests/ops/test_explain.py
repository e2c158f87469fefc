"""explain says which backend would run a call, why no other, and what it costs."""

import json

import pytest
import torch

import regard as rg
from regard.errors import InputError, UnsupportedError
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

SHAPE = (2, 4, 300, 8)


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
        "term a: shifted by the row's largest exponent"
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
        "tile": [30, 30],
        "shifted": {"a": False},
        "sweeps": [],
        "pair_numbers": [7200, 7200],
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
