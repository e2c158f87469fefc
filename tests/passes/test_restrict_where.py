"""A finished program is restricted, or its weights dropped, from outside."""

import torch

import regard as rg
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.passes.restrict_where import drop_weights, restrict_where
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

CAUSAL = n.Call("le", (n.Index("j"), n.Index("i")))
MASK = n.PairInput("mask")


def test_condition_is_added_to_every_term_and_choice():
    # Before: softmax(score, j <= i).   After: softmax(score, (j <= i) & mask).
    root = rg.program(lambda p: rg.softmax(p.j, where=p.j <= p.i)).root
    assert restrict_where(root, MASK).weights.where is n.Call("and", (CAUSAL, MASK))
    free = rg.program(lambda p: rg.softmax(p.j) - rg.weigh(p.i + p.j)).root
    wheres = [t.where for t in n.walk(restrict_where(free, MASK)) if isinstance(t, n.Term)]
    assert wheres == [MASK, MASK]
    best = restrict_where(PROGRAMS["best_keys"].root, MASK)
    (choice,) = [node for node in n.walk(best) if isinstance(node, n.TopK)]
    assert choice.where is n.Call("and", (CAUSAL, MASK))


def test_restricted_program_means_the_mask():
    program = AttentionProgram(restrict_where(PROGRAMS["causal"].root, MASK), "restricted")
    inputs = make_inputs(program.root, Sizes(), torch.float64)
    shown = inputs["mask"]
    output, seen = rg.attend(program, **inputs, observe=["weights"])
    assert not seen["weights"][~shown.expand_as(seen["weights"])].any()
    del inputs["mask"]
    assert not torch.allclose(output, rg.attend(PROGRAMS["causal"], **inputs))


def test_drops_do_not_collide_with_those_of_the_program():
    root = drop_weights(PROGRAMS["dropped_out"].root, n.Const(0.1))
    places = [node.place for node in n.walk(root) if isinstance(node, n.Keep | n.Dropout)]
    assert len(set(places)) == len(places) == 3
    assert isinstance(root.weights, n.Dropout)
    plain = drop_weights(PROGRAMS["causal"].root, n.Const(0.1))
    assert plain.weights.place == 0
