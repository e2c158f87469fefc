"""Programs as values: equality, copies, what they read, and how they show themselves."""

import copy
import dataclasses
import pickle

import pytest

from regard.errors import InputError, ProgramError
from regard.ir import nodes as n
from regard.ir.json_file import program_hash
from regard.ir.program import AttentionProgram
from tests.ir import graphs


def local(name: str = "local_alibi", doc: str = "Looks back a little.") -> AttentionProgram:
    return AttentionProgram(graphs.local_alibi(), name, doc, ("causal",))


def test_programs_are_equal_if_their_graphs_are():
    assert local() == local("other", "Another text.")
    assert hash(local()) == hash(local("other"))
    assert local() != AttentionProgram(graphs.plain(), "local_alibi")
    assert local() != "local_alibi"
    assert {local(): 1}[local("other")] == 1


def test_the_hash_is_that_of_the_graph():
    assert local().hash == program_hash(graphs.local_alibi())
    assert len(local().hash) == 64


def test_programs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        local().name = "other"  # type: ignore[misc]


def test_a_graph_without_meaning_is_no_program():
    weights = n.Softmax(n.Scalar("q"), None, None, "a")
    with pytest.raises(ProgramError, match="'q' already names the q of attention"):
        AttentionProgram(n.Output(weights, graphs.V, None), "x")


def test_copies_are_the_program_itself():
    program = local()
    assert copy.copy(program) is program
    assert copy.deepcopy([program])[0] is program


def test_a_pickle_brings_everything_back():
    again = pickle.loads(pickle.dumps(local()))
    assert again == local()
    assert (again.root, again.name, again.doc, again.contracts) == (
        graphs.local_alibi(), "local_alibi", "Looks back a little.", ("causal",),
    )  # fmt: skip


def test_a_very_deep_program_pickles():
    program = AttentionProgram(graphs.deep(15_000), "deep")
    assert pickle.loads(pickle.dumps(program)) == program


def test_inputs_come_in_the_order_of_first_appearance():
    names = [leaf.name for leaf in local().inputs]
    assert names == ["q", "k", "slope", "v"]
    rest = AttentionProgram(graphs.everything_else(), "rest")
    assert [leaf.name for leaf in rest.inputs] == [
        "q", "k", "bias_map", "doc_q", "doc_k", "share", "alpha", "v",
    ]  # fmt: skip


def test_parameters_are_the_learned_arrays():
    assert [array.name for array in local().parameters] == ["slope"]
    assert AttentionProgram(graphs.relative_keys(), "x").parameters == ()


def test_a_program_shows_itself():
    program = local()
    assert repr(program) == f"<AttentionProgram local_alibi(q, k, slope, v) {program.hash[:8]}>"
    assert str(program) == program.formula() == program.formula("text")
    assert str(program).startswith("local_alibi\n  score_ij = q_i·k_j / √D")
    assert program.formula("latex").startswith("\\begin{aligned}\n\\mathbf{local\\_alibi}")


def test_a_program_shows_itself_in_a_notebook():
    program = local()
    shown = program._repr_latex_()
    assert shown == f"$$\n{program.formula('latex')}\n$$"
    assert program._repr_markdown_() == f"Looks back a little.\n\n{shown}"
    assert local(doc="")._repr_markdown_() == shown


def test_an_unknown_style_is_refused():
    with pytest.raises(InputError, match="style='tex' of formula: did you mean 'text'"):
        local().formula("tex")  # type: ignore[arg-type]
