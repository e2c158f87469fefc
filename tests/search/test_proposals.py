"""Proposals: good ones become modes, others are answered in place; nothing is ever executed."""

import contextlib
import json
import sys

import jsonschema
import pytest
from typer.testing import CliRunner

import regard as rg
from regard.cli.main import app
from regard.errors import FileError
from regard.ir import nodes as n
from regard.ir.json_fields import FIELDS
from regard.ir.operators import OPERATORS
from regard.modes.collection import READY
from regard.search import (
    Children,
    Layers,
    Space,
    find_mode_faults,
    mode_schema,
    parse_proposals,
    read_proposals,
    write_grammar,
    write_guide,
)
from regard.search.grammar import SORTS
from regard.search.guide import example
from regard.search.proposals import EVERYWHERE, offered
from regard.search.read_program import fields_of, read_graph, write_nested
from tests.search.hostile import hostile_texts
from tests.search.sound import check_sound

# What a text must never lead to, by the names of Python's audit events.
FORBIDDEN = (
    "exec", "compile", "import", "open", "os.", "subprocess.", "socket.", "shutil.", "ctypes.",
    "pickle.", "marshal.", "code.", "builtins.input", "urllib.", "tempfile.", "glob.",
)  # fmt: skip
_watching: list[list[str]] = []


def _is_our_own_source(event, args):
    """An error shows the line of code that met it, which Python reads from the file that runs."""
    running = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return event == "open" and args[0] in running and args[1] == "r"


def _hook(event, args):
    if _watching and event.startswith(FORBIDDEN) and not _is_our_own_source(event, args):
        _watching[-1].append(f"{event} {str(args)[:200]}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def nothing_runs():
    """Fail if anything is executed, imported, opened or started inside."""
    _watching.append([])
    try:
        yield
    finally:
        events = _watching.pop()
    assert events == []


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """Trace and import what the first proposal needs: later ones need nothing."""
    hostile_texts(30, seed=99)
    for text in [json.dumps(example()), *hostile_texts(30, seed=99)]:
        parse_proposals(text)


def answered(text):
    with nothing_runs():
        found = parse_proposals(text, most_seconds=20)
    assert found.modes or found.refusals, "no answer"
    for one in found.refusals:
        assert one.problem and len(str(one)) < 20_000
        json.dumps(one.as_dict())
    for mode in found.modes.values():
        assert not find_mode_faults(mode, EVERYWHERE)
    return found


def check_hostile(texts):
    accepted, refused = [], 0
    for text in texts:
        found = answered(text)
        accepted += found.modes.values()
        refused += bool(found.refusals)
    assert refused > 0.7 * len(texts)
    for mode in accepted:
        for one in mode.assignments:
            check_sound(one.program, one.role, causal=one.role == "decoder")


def test_a_hundred_hostile_proposals_are_answered_and_none_runs():
    check_hostile(hostile_texts(100))


@pytest.mark.slow
def test_a_thousand_hostile_proposals_are_answered_and_none_runs():
    check_hostile(hostile_texts(1000, seed=1))


def test_the_watch_sees_what_is_executed():
    for act in (lambda: eval("1"), lambda: open("/dev/null").close(), lambda: __import__("zipapp")):
        with pytest.raises(AssertionError), nothing_runs():
            act()


def test_saved_modes_and_children_are_proposals(tmp_path):
    path = tmp_path / "mode.json"
    space = Space({"encoder": Layers(4, 8, 2, 2), "cross": Layers(2, 4)})
    for mode in Children(space, 1).draw(Children(space).starts(), 8):
        rg.save(mode, path)
        found = read_proposals(path, space)
        assert not found.refusals and [one.hash for one in found.modes.values()] == [mode.hash]
        jsonschema.validate(json.loads(path.read_text()), mode_schema())


def test_the_example_of_the_guide_is_accepted_and_follows_the_schema():
    space = Space({"encoder": Layers(4, 4)})
    found = parse_proposals(json.dumps({"proposals": [example()]}), space)
    (mode,) = found.modes.values()
    assert list(found.modes) == ["/proposals/0"] and not found.refusals
    assert mode.at("encoder", 0, 4)[0][1].name == "near" and mode.at("encoder", 2, 4) == [
        ((0, 4), rg.modes.find("focused")("encoder").assignments[0].program)
    ]
    for value in (example(), [example()], {"proposals": [example()]}):
        jsonschema.validate(value, mode_schema())
    for part in example().values():
        assert json.dumps(part, ensure_ascii=False) in write_guide()


def test_the_schema_is_one_and_knows_the_forms():
    jsonschema.Draft202012Validator.check_schema(mode_schema())
    valid = jsonschema.Draft202012Validator(mode_schema())
    for value in ({}, {"name": "x"}, {**example(), "evil": 1}, {**example(), "programs": {}}, 3):
        assert not valid.is_valid(value)
    wrong = example()
    wrong["programs"]["near"]["output"]["weights"]["node"] = "Eval"
    assert not valid.is_valid(wrong)


@pytest.mark.parametrize("name", [name for name in READY if name != "structured"])
def test_programs_survive_being_written_inside_each_other(name):
    for program in READY[name].programs.values():
        again = read_graph({"output": write_nested(program.root)}, "", 10_000)
        assert again is program.root


def test_the_grammar_names_every_node_field_and_operator():
    text = write_grammar()
    for name, kind in n.NODE_TYPES.items():
        assert f"\n{name}(" in text
        parts = {
            one
            for one, type_ in fields_of(kind).items()
            if "Node" in str(type_) or type_ is n.Array
        }
        assert parts == set(SORTS.get(name, {}))
    assert all(f"{name}" in text for name in (*OPERATORS, *n.INITIALISERS))
    assert {type_ for kind in n.NODE_TYPES.values() for type_ in fields_of(kind).values()} == set(
        FIELDS
    )


def const(value):
    return {"node": "Const", "value": value}


def changed(**programs):
    return {**example(), "programs": {**example()["programs"], **programs}}


def graph(score, **fields):
    weights = {"node": "Softmax", "score": score, **fields}
    return {"output": {"node": "Output", "weights": weights, "values": VALUES}}


VALUES = {"node": "Vector", "side": "key", "name": "v"}
J = {"node": "Index", "name": "j"}
OWN = "/programs/near"
WRONG = [
    ("{", "", "line 1 column 2: expecting property name enclosed in double quotes", "write strict"),
    ("[]", "", "no proposal", "write one mode"),
    ("7", "", "an object belongs here, not 7", "with keys name, assignments, programs"),
    ('{"name": 1, "name": 2}', "", 'line 1: key "name" is given twice', "write strict JSON"),
    ({"name": "x"}, "", 'the key "assignments" is missing', 'add "assignments"'),
    ({**example(), "evil": 1}, "/evil", '"evil" is no key here', "known: assignments"),
    ({**example(), "name": "a\u0000"}, "/name", '"a\\u0000" holds characters that cannot be', ""),
    ({**example(), "programs": []}, "/programs", "these are no programs", "an object of 1 … 32"),
    (changed(near=[]), OWN, "an object belongs here, not a list", 'write {"output"'),
    (changed(near={"nodes": []}), OWN, 'the key "output" is missing', 'add "output"'),
    (changed(near=graph(5)), OWN + "/output/weights/score",
     '5 is no earlier item of the list "nodes"', '"value": 5}'),
    (changed(near=graph(0.5)), OWN + "/output/weights/score", "a node belongs here, not 0.5",
     'write {"node": "Const", "value": 0.5}'),
    (changed(near=graph({"node": "Exec"})), OWN + "/output/weights/score/node", '"Exec" is no node',
     "known: Array"),
    (changed(near=graph({"node": "Call", "op": "multiply", "args": []})),
     OWN + "/output/weights/score/op", '"multiply" is no operator', "known: abs"),
    (changed(near=graph({"node": "Call", "op": "add", "args": [J]})), OWN + "/output/weights/score",
     "'add' takes 2 arguments, not 1", ""),
    (changed(near=graph({**J, "side": "key"})), OWN + "/output/weights/score/side",
     '"side" is no key here', "known: name, node"),
    (changed(near=graph(const([1]))), OWN + "/output/weights/score/value",
     "a number or a truth value belongs here, not a list", ""),
    (changed(near=graph(VALUES)), OWN + "/output/weights", "a score cannot vary over channels",
     "reduce it with rg.sum or rg.dot"),
    (changed(near=graph(J, where={"node": "Call", "op": "lt", "args": [J, const(-9)]})), OWN,
     "not fit for role 'encoder': no key was found that every query surely sees",
     "let where be true"),
    (changed(near=graph({"node": "Feature", "side": "key", "name": "x"})), OWN,
     "not fit for role 'encoder': 'x' is read", "known: k, q, v"),
    (changed(near={**graph(J), "contracts": ["causal"]}), OWN + "/contracts/0",
     "'causal' could not be proved", "leave it out"),
    (changed(near={**graph(J), "contracts": ["casual"]}), OWN + "/contracts/0",
     "'casual' is no contract", "did you mean 'causal'?"),
    (changed(near={"ready": "locl"}), OWN + "/ready", "\"locl\" has no program for role 'encoder'",
     "did you mean 'local'?"),
    (changed(near={"ready": "local", "knobs": {"windw": 2}}), OWN + "/knobs/windw",
     '"windw" is no knob', "did you mean 'window'?"),
    (changed(near={"ready": "local", "knobs": {"window": 2.5}}), OWN + "/knobs/window",
     "2.5 is not a whole number that is at most 4096", "it comes as 64"),
    (changed(near={"catalogue": "entmax", "knobs": {"alpha": 0.5}}), OWN + "/knobs",
     "these values make no program", ""),
    ({**example(), "assignments": [{"role": "encodr", "program": "near"}]}, "/assignments/0/role",
     '"encodr" is no role here', "did you mean 'encoder'?"),
    ({**example(), "assignments": [{"role": "encoder", "program": "far"}]},
     "/assignments/0/program", '"far" is no program here', "known: near, pick"),
    ({**example(), "assignments": [{"role": "encoder", "program": "near", "heads": [2, 1]}]},
     "/assignments/0", "heads=[2, 1] of role 'encoder' must be", ""),
    ([example(), example()], "/1", "the same programs in the same places as /0", "leave one out"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "pointer", "problem", "remedy"), WRONG)
def test_what_is_wrong_is_answered_in_place(value, pointer, problem, remedy):
    found = answered(value if isinstance(value, str) else json.dumps(value))
    (refusal,) = found.refusals
    assert refusal.pointer == pointer
    assert refusal.problem.startswith(problem) and remedy in refusal.remedy, refusal


def test_every_pointer_leads_to_its_place():
    for value, pointer, _, _ in WRONG:
        found = json.loads(value) if isinstance(value, str) and value[:1] not in "{" else value
        for key in pointer.split("/")[1:]:
            found = found[int(key)] if isinstance(found, list) else found[key]


def test_all_that_is_wrong_with_a_mode_is_said_at_once():
    wrong = changed(near=graph(5), pick={"ready": "none"})
    pointers = {one.pointer for one in answered(json.dumps(wrong)).refusals}
    assert pointers == {OWN + "/output/weights/score", "/programs/pick/ready"}


@pytest.mark.parametrize(
    ("assignments", "problem"),
    [
        ([{"role": "encoder", "program": "near", "layers": [0, 2]}], "has no program for role"),
        ([{"role": "encoder", "program": "near", "heads": [0, 2]}], "assigns no program to head 2"),
        ([{"role": "encoder", "program": "near", "heads": [0, 9]}], "heads 0:9 of role 'encoder'"),
        ([{"role": "encoder", "program": "near", "layers": [0, 5]}], "there are 4 layers of role"),
    ],
)
def test_a_mode_must_fill_the_places_of_a_model(assignments, problem):
    value = {**example(), "assignments": assignments}
    found = parse_proposals(json.dumps(value), Space({"encoder": Layers(4, 4)}))
    (refusal,) = found.refusals
    assert refusal.pointer == "/assignments" and problem in refusal.problem


def test_a_line_that_is_no_json_spoils_no_other(tmp_path):
    path = tmp_path / "proposals.jsonl"
    path.write_text("\n".join(["{", json.dumps(example()), "", "[1, 2]"]), encoding="utf-8")
    found = read_proposals(path)
    assert list(found.modes) == ["/1"]
    assert [one.pointer for one in found.refusals] == ["/0", "/3/0", "/3/1"]
    assert found.as_dict()["accepted"][0]["pointer"] == "/1"
    assert str(found).startswith(
        "accepted: near, then everything (/1)\nrefused: /0: line 1 column 2"
    )


def test_a_file_that_cannot_be_read_is_no_answer(tmp_path):
    with pytest.raises(FileError, match="no such file or directory"):
        read_proposals(tmp_path / "none.json")
    (tmp_path / "large.json").write_bytes(b" " * (2**22 + 1))
    with pytest.raises(FileError, match="no file of Regard is that large"):
        read_proposals(tmp_path / "large.json")
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(FileError, match="is not text in UTF-8"):
        read_proposals(tmp_path / "latin.json")


def test_what_is_left_when_the_time_is_up_is_refused():
    found = parse_proposals(json.dumps([example(), example()]), most_seconds=-1)
    assert [one.problem for one in found.refusals] == [
        "the time was up before this was looked at"
    ] * 2


def test_what_is_offered_is_admitted_for_its_role():
    for role in ("encoder", "decoder", "cross"):
        named = offered(role, EVERYWHERE)
        assert "local" in named["ready"] or role == "cross"
        for kind, names in named.items():
            for name in names:
                value = {
                    "name": "x",
                    "assignments": [{"role": role, "program": "p"}],
                    "programs": {"p": {kind: name}},
                }
                assert parse_proposals(json.dumps(value)).modes, (role, kind, name)


@pytest.mark.parametrize(
    ("what", "begins"),
    [("mode", "{"), ("grammar", "A program is one Output"), ("guide", "HOW TO PROPOSE A MODE")],
)
def test_the_command_prints_it(what, begins):
    done = CliRunner().invoke(app, ["schema", what])
    assert done.exit_code == 0 and done.stdout.startswith(begins)
    assert max(map(len, done.stdout.splitlines())) < 3000
