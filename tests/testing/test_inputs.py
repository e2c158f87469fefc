"""Inputs are made for every leaf, in the shape, kind and dtype its use asks for."""

import pytest
import torch

import regard as rg
from regard.testing.inputs import TABLE_ROWS, Sizes, make_inputs
from regard.testing.programs import PROGRAMS


@rg.program
def reads_everything(pair):
    seen = rg.key_feature("real") & (rg.query_feature("group") == rg.key_feature("cluster"))
    bias = rg.parameter("bias", per=("head", 3))[rg.pair_input("edges")]
    extra = rg.dot(rg.query_vector("qx"), rg.key_vector("kx"))
    score = rg.dot(pair.q, pair.k) + extra + bias + rg.table("t")[pair.j] * rg.scalar("heat")
    return rg.softmax(score + rg.key_feature("weight"), where=seen)


def test_leaves_get_what_they_are_used_as():
    sizes = Sizes(B=2, H=4, G=2, N=5, M=7, D=6, E=4)
    made = make_inputs(reads_everything.root, sizes, torch.bfloat16)
    found = {name: (tuple(x.shape), x.dtype) for name, x in made.items()}
    assert found == {
        "q": ((2, 4, 5, 6), torch.bfloat16),
        "k": ((2, 2, 7, 6), torch.bfloat16),
        "v": ((2, 2, 7, 4), torch.bfloat16),
        "qx": ((2, 4, 5, 8), torch.bfloat16),
        "kx": ((2, 2, 7, 8), torch.bfloat16),
        "real": ((2, 1, 7), torch.bool),
        "group": ((2, 4, 5), torch.int64),
        "cluster": ((2, 2, 7), torch.int64),
        "edges": ((2, 4, 5, 7), torch.int64),
        "bias": ((4, 3), torch.float32),
        "t": ((TABLE_ROWS,), torch.float32),
        "heat": ((), torch.float32),
        "weight": ((2, 1, 7), torch.float32),
    }


def test_heads_of_the_whole_layer_shape_its_arrays():
    made = make_inputs(PROGRAMS["alibi"].root, Sizes(), total_heads=7)
    assert made["slope"].shape == (7,)


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_seed_makes_the_same_numbers_in_every_dtype(name):
    root = PROGRAMS[name].root
    wide, narrow = (
        make_inputs(root, Sizes(), torch.float64),
        make_inputs(root, Sizes(), torch.float32),
    )
    for key, value in wide.items():
        assert torch.equal(value.to(narrow[key].dtype), narrow[key])
        assert torch.equal(value, narrow[key].to(value.dtype)), "exact in float32"
    other = make_inputs(root, Sizes(), torch.float64, seed=1)
    assert not torch.equal(other["q"], wide["q"])


def test_halves_are_exact_in_halves():
    made = make_inputs(PROGRAMS["alibi"].root, Sizes(), torch.bfloat16)
    assert torch.equal(made["slope"], made["slope"].to(torch.bfloat16).float())
