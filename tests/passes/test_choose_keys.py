"""Choices of keys become holes, each after those it reads."""

import regard as rg
from regard.ir import nodes as n
from regard.ir.print_text import text
from regard.passes.build import call
from regard.passes.choose_keys import choose_keys
from regard.testing.programs import PROGRAMS


def test_choice_stands_beside_its_own_condition():
    root, (choice,) = choose_keys(PROGRAMS["best_keys"].root)
    (term,) = (node for node in n.walk(root) if isinstance(node, n.Softmax))
    causal = call("le", n.Index("j"), n.Index("i"))
    assert term.where is call("and", causal, choice.hole)
    assert choice.where is causal
    assert choice.score is term.score
    assert text(choice.k) == "5"
    assert choice.columns == "columns:0"


def test_choice_among_the_chosen_comes_second_and_reads_the_first():
    _, (some, few) = choose_keys(PROGRAMS["sparse_difference"].root)
    assert some.hole in n.walk(few.where)
    assert few.hole not in n.walk(some.where)


def test_choice_of_all_keys_has_no_condition():
    @rg.program
    def best(pair):
        score = rg.dot(pair.q, pair.k)
        return rg.softmax(score, where=rg.topk(score, 2))

    root, (choice,) = choose_keys(best.root)
    assert choice.where is None
    assert root.weights.where is choice.hole
