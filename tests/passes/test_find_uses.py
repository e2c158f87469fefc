"""Inputs that are conditions or indices are told from those that are any number."""

import regard as rg
from regard.passes.find_uses import find_uses


def test_conditions_and_indices_are_found():
    # Before: softmax(q·k + table[kind], where = real).   After: {real} and {kind}.
    def weights(p):
        score = rg.dot(p.q, p.k) + rg.table("table", per=("rows",))[rg.query_feature("kind")]
        return rg.softmax(score * rg.key_feature("heat"), where=rg.key_feature("real"))

    assert names(weights) == ({"real"}, {"kind"})


def test_choices_and_tables_of_conditions_count():
    def weights(p):
        allowed = rg.table("allowed", per=("rows",))[p.i] & rg.pair_input("near")
        return rg.softmax(rg.where(rg.query_feature("loud"), 1.0, 2.0), where=allowed)

    assert names(weights)[0] >= {"allowed", "near", "loud"}


def names(weights):
    conditions, indices = find_uses(rg.program(weights).root)
    return tuple(
        {leaf.name for leaf in found if hasattr(leaf, "name")} for found in (conditions, indices)
    )
