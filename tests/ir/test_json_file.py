"""Programs as files: exact round trips, one canonical text, and errors that name the place."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regard.errors import FileError
from regard.ir import nodes as n
from regard.ir.json_file import About, dump, from_dict, load, program_hash, to_dict
from regard.ir.program import AttentionProgram
from tests.ir import graphs
from tests.ir.graphs import CAUSAL, call, parameter, program, scaled_score

# Changing these means that every file and every cached kernel of earlier versions is orphaned.
HASHES = {
    "plain": "823b5c70c05261d53d74eb6ad8aa9fe923b669ff431274eb86ce254699ea1128",
    "local_alibi": "442701b27c2e558ef159fd65aead39a849f1d736e93f6596301b9334f5b5d060",
    "everything_else": "9dd85f04218e8406bdd517240d8389f18175a41f2e58c041b6d939f13a68efb6",
}


def local() -> dict:
    """Return the file of local_alibi as a value to damage."""
    return json.loads(dump(graphs.local_alibi(), name="local_alibi", doc="Look back a little."))


def scored(score: n.Node) -> n.Output:
    return program(n.Softmax(score, None, None, "a"))


@pytest.mark.parametrize("name", graphs.SAMPLES)
def test_a_program_comes_back_as_itself(name):
    root = graphs.SAMPLES[name]
    text = dump(root, name=name, doc="α ≤ β,\nτ", contracts=("causal", "window ≤ 256"))
    assert load(text) == (root, About(name, "α ≤ β,\nτ", ("causal", "window ≤ 256")))
    assert load(text)[0] is root


@pytest.mark.parametrize("name", graphs.SAMPLES)
def test_the_text_is_canonical(name):
    text = dump(graphs.SAMPLES[name], name=name)
    again, about = load(json.dumps(json.loads(text), sort_keys=True, indent=1))
    assert dump(again, **about._asdict()) == text


def test_a_file_has_one_node_a_line():
    lines = dump(graphs.plain(), name="plain").splitlines()
    assert lines[:3] == ["{", '  "regard": "program",', '  "version": 1,']
    assert '    {"node": "Vector", "side": "query", "name": "q"},' in lines
    assert '    {"node": "Call", "op": "mul", "args": [0, 1]},' in lines
    assert lines[-2:] == ['  "output": 9', "}"]


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1, -7, 2**63 - 1, -(2**63 - 1), True, False, 0.0, -0.0, 1.0, 0.1, 1 / 3, math.pi),
        *(1e-300, 5e-324, 1.7976931348623157e308, 1e22, 2.0**53, math.inf, -math.inf),
    ],
)
def test_numbers_come_back_exactly_and_keep_their_type(value):
    number = call("where", CAUSAL, n.Const(value), 2.5)
    root = scored(call("add", scaled_score(), number))
    loaded, _ = load(dump(root, name="x"))
    assert loaded is root
    found = [node.value for node in n.walk(loaded) if isinstance(node, n.Const)]
    assert (type(value), repr(value)) in [(type(item), repr(item)) for item in found]


def test_numbers_of_initialisers_and_defaults_come_back():
    init = n.Init("uniform", (-math.inf, 0.1))
    score = call("mul", parameter("a", init=init), n.Scalar("s", math.inf))
    root = scored(call("mul", score, scaled_score()))
    assert load(dump(root, name="x"))[0] is root


def test_the_hash_is_of_the_graph_alone():
    root = graphs.plain()
    first = to_dict(root, name="a", doc="b", contracts=("c",))
    assert first["hash"] == to_dict(root, name="x")["hash"] == f"sha256:{program_hash(root)}"
    assert len({program_hash(root) for root in graphs.SAMPLES.values()}) == len(graphs.SAMPLES)


def test_any_expression_has_a_hash():
    assert len(program_hash(scaled_score())) == 64
    assert program_hash(n.Hole("lse", "bhi")) != program_hash(n.Hole("max", "bhi"))


@pytest.mark.parametrize("name", HASHES)
def test_hashes_never_change(name):
    assert program_hash(graphs.SAMPLES[name]) == HASHES[name]


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_hashes_do_not_depend_on_the_process(seed):
    code = (
        "from tests.ir import graphs; from regard.ir.json_file import program_hash\n"
        "print(*(program_hash(root) for root in graphs.SAMPLES.values()))"
    )
    folder = Path(__file__).parents[2]
    paths = os.pathsep.join([str(folder), str(folder / "src")])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert output.stdout.split() == [program_hash(root) for root in graphs.SAMPLES.values()]


def test_deep_programs_come_back():
    root = graphs.deep(18_000)
    assert load(dump(root, name="deep"))[0] is root


# ── Errors ───────────────────────────────────────────────────────────────────────────────────
NODES = {
    "slope": 7, "distance": 10, "const": 15, "softmax": 18, "output": 20,
}  # fmt: skip


def _set(*path_and_value):
    *path, last, value = path_and_value

    def damage(file: dict) -> None:
        place = file
        for key in path:
            place = place[key]
        place[last] = value

    return damage


def _node(name: str, key: str, value):
    return _set("nodes", NODES[name], key, value)


def _without(*path):
    def damage(file: dict) -> None:
        place = file
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return damage


DAMAGES = [
    (_set("regard", "mode"), 'regard: "mode" is not a program'),
    (_without("regard"), 'line 1: this is no file of Regard; one starts with {"regard": "program"'),
    (_set("version", 2),
     "version: written by a newer Regard (version 2, this one reads 1); upgrade"),
    (_set("version", 0), "version: 0 was never written; the first is 1"),
    (_set("version", True), "version: a whole number belongs here, not true"),
    (_without("version"), "version: a whole number belongs here, not null"),
    (_without("hash"), "hash: missing"),
    (_set("hash", None), "hash: text belongs here, not null"),
    (_set("nme", "x"), 'line 1: "nme" is no key here; did you mean \'name\'? known: contracts,'),
    (_set("name", 3), "name: text belongs here, not 3"),
    (_set("name", "a\nb"), 'name: "a\\nb" holds characters that cannot be shown'),
    (_set("name", "n" * 201), "name: 201 characters; at most 200 fit"),
    (_set("doc", "d" * 100_001), "doc: 100001 characters; at most 100000 fit"),
    (_set("doc", ["d"]), "doc: text belongs here, not a list"),
    (_set("contracts", "causal"), 'contracts: a list belongs here, not "causal"'),
    (_set("contracts", ["causal", 3]), "contracts[1]: text belongs here, not 3"),
    (_set("contracts", ["c"] * 65), "contracts: 65 items; at most 64 fit"),
    (_set("nodes", {}), "nodes: a list of nodes belongs here, not an object"),
    (_set("nodes", []), "nodes: 0 nodes; a program has 1 … 20000"),
    (_set("nodes", [0] * 20_001), "nodes: 20001 nodes; a program has 1 … 20000"),
    (_set("nodes", 3, 5), "nodes[3]: an object belongs here, not 5"),
    (_set("output", 21), "output: 21 is no node; there are 21"),
    (_set("output", -1), "output: -1 is no node; there are 21"),
    (_set("output", 20.0), "output: a whole number belongs here, not 20.0"),
    (_set("output", 18), "nodes[19]: the output does not use this node"),
    (lambda file: file["nodes"].append({"node": "Index", "name": "head"}),
     "nodes[21]: the output does not use this node"),
    (_node("softmax", "node", "Sofmax"),
     'nodes[18].node: "Sofmax" is no node; did you mean \'Softmax\'? known: Array,'),
    (_node("softmax", "node", "Count"), 'nodes[18].node: "Count" is no node; '),
    (_without("nodes", 18, "node"), "nodes[18].node: text belongs here, not null"),
    (_node("softmax", "scor", 1), 'nodes[18]: "scor" is no key here; did you mean \'score\'?'),
    (_without("nodes", 18, "score"), "nodes[18].score: missing"),
    (_node("softmax", "score", 18), "nodes[18].score: 18 is no earlier node; there are 18 before"),
    (_node("softmax", "score", -1), "nodes[18].score: -1 is no earlier node"),
    (_node("softmax", "score", None), "nodes[18].score: a whole number belongs here, not null"),
    (_node("softmax", "score", "13"), 'nodes[18].score: a whole number belongs here, not "13"'),
    (_node("softmax", "name", "a b"), "nodes: 'a b' cannot name weights; use letters, digits and"),
    (_node("distance", "op", "subb"), 'nodes[10].op: "subb" is no operator; did you mean \'sub\'?'),
    (_node("distance", "op", "add" * 60), 'nodes[10].op: "addaddadd'),
    (_node("distance", "args", 8), "nodes[10].args: a list belongs here, not 8"),
    (_node("distance", "args", [8]), "nodes[10]: 'sub' takes 2 arguments, not 1"),
    (_node("distance", "args", [8, 30]), "nodes[10].args[1]: 30 is no earlier node"),
    (_node("distance", "args", [8] * 65), "nodes[10].args: 65 items; at most 64 fit"),
    (_node("const", "value", "256"),
     'nodes[15].value: a number or a truth value belongs here, not "256"'),
    (_node("const", "value", {"float": "nan"}),
     'nodes[15].value.float: "nan" is neither "inf" nor "-inf"'),
    (_node("const", "value", {"float": "inf", "x": 1}),
     'nodes[15].value: "x" is no key here; known: float'),
    (_node("slope", "per", ["haed"]), "nodes[7]: per='haed' of parameter 'slope': did you mean"),
    (_node("slope", "per", [1.5]), "nodes[7].per[0]: a whole number belongs here, not 1.5"),
    (_node("slope", "per", [True]), "nodes[7].per[0]: a whole number belongs here, not true"),
    (_node("slope", "init", "alibi"), 'nodes[7].init: an object belongs here, not "alibi"'),
    (_node("slope", "init", {"name": "alibi"}), "nodes[7].init.numbers: missing"),
    (_node("slope", "init", {"name": "alibi", "numbers": [0.1, True]}),
     "nodes[7].init.numbers[1]: a number belongs here, not true"),
    (_node("slope", "source", "learned"),
     "nodes[7]: an array is a parameter or a table, not 'learned'"),
    (_node("output", "finish", 13), "nodes[20]: finish cannot vary over keys"),
    (_node("output", "weights", 13), "nodes[20]: a program ends in weights; wrap the score"),
    (_set("nodes", 8, "name", "k"), "nodes[8]: 'k' is no position or size; known: batch,"),
    (_set("nodes", 16, {"node": "Gather", "array": 9, "indices": [10]}),
     "nodes[16].array: an Array belongs here, but node 9 is of type Index"),
    (_set("nodes", 0, "side", "Query"), "nodes[0]: side must be query or key, not 'Query'"),
    (_set("nodes", 15, {"node": "Scalar", "name": "D", "default": True}),
     "nodes[15].default: a number belongs here, not true"),
    (_set("nodes", 7, {"node": "Scalar", "name": "k", "default": None}),
     "nodes: 'k' already names the k of attention; choose another name"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damage_is_named_with_its_place(damage, message):
    file = local()
    damage(file)
    with pytest.raises(FileError) as caught:
        load(json.dumps(file))
    assert str(caught.value).startswith(message)


def test_a_truth_value_is_no_number():
    file = json.loads(dump(graphs.softpick(), name="softpick"))
    ratio = next(node for node in file["nodes"] if node["node"] == "Ratio")
    ratio["scaled"] = 0
    with pytest.raises(
        FileError, match=r"^nodes\[\d+\]\.scaled: true or false belongs here, not 0$"
    ):
        load(json.dumps(file))


def test_a_changed_program_needs_its_new_hash_and_is_told_it():
    file = local()
    file["nodes"][NODES["const"]]["value"] = 255
    with pytest.raises(FileError) as caught:
        load(json.dumps(file))
    told = str(caught.value)
    assert told.startswith("hash: the nodes were changed after this hash was made; theirs is sha2")
    file["hash"] = told.split("theirs is ")[1].split("\n")[0]
    assert load(json.dumps(file))[1].name == "local_alibi"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 column 1: expecting value"),
        ("[1,\n 2,\n  x]", "line 3 column 3: expecting value"),
        ('{"a": 1', "line 1 column 8: expecting ',' delimiter"),
        ('{"a": 1} 2', "line 1 column 10: extra data"),
        ('{"a": "b\n"}', "line 1 column 9: invalid control character at"),
        ('{"regard": "program", "regard": 1}', 'line 1: key "regard" is given twice'),
        ('{"nodes": [{}, {"op": 1, "op": 2}]}', 'nodes[1]: key "op" is given twice'),
        ('{"a": {"b c": [NaN]}}', 'a."b c"[0]: NaN is no JSON; write {"float": "inf"}'),
        ('{"a": -Infinity}', 'a: -Infinity is no JSON; write {"float": "inf"}'),
        ('{"a": 9223372036854775808}', "a: 9223372036854775808… does not fit 64 bits"),
        ('{"a": -' + "9" * 9999 + "}", "a: -9999999999999999999… does not fit 64 bits"),
        ('{"a": 1e999}', "a: 1e999 is too large for a number"),
        ('{"a": 0.' + "1" * 50 + "}", "a: 0.11111111"),
        ('{"a": "\\ud800"}', "a: half a character"),
        ('{"\\udfff": 1}', '"\\udfff": half a character'),
        ('{"a": "\ud800"}', "line 1 column 8: half a character"),
        ('[\n"]", ' + "[" * 40 + "]" * 41, "line 2 column 37: nested deeper than 32 levels"),
        ('{"a":' * 200_000, "line 1 column 161: nested deeper than 32 levels"),
        ("[" * 40, "line 1 column 33: nested deeper than 32 levels"),
        (" " * 1_048_577, "line 1: 1048577 characters, more than 1048576"),
        ("[]", "line 1: this is no file of Regard"),
        ("{}", "line 1: this is no file of Regard"),
    ],
)
def test_text_that_is_no_strict_json_is_refused_with_its_place(text, message):
    with pytest.raises(FileError) as caught:
        load(text)
    assert str(caught.value).startswith(message)


def test_brackets_inside_strings_do_not_count_as_nesting():
    text = dump(graphs.plain(), name="plain", doc='[{\\"' * 100)
    assert load(text)[1].doc == '[{\\"' * 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a\tb"}, "name: "),
        ({"name": "x", "doc": "\ud800"}, "line 5 column 11: half a character"),
        ({"name": "x", "contracts": ("c" * 201,)}, "contracts[0]: 201 characters"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(arguments, message):
    with pytest.raises(FileError) as caught:
        dump(graphs.plain(), **arguments)
    assert str(caught.value).startswith(message)


def test_a_program_too_large_for_a_file_is_not_written():
    with pytest.raises(FileError, match="more than 1048576"):
        dump(graphs.deep(21_000), name="deep")
    too_many = [{"node": "Index", "name": "i"}] * 20_001
    with pytest.raises(FileError, match="20001 nodes"):
        from_dict({**to_dict(graphs.plain(), name="x"), "nodes": too_many})


def test_derived_nodes_are_not_written():
    values = n.Widen(scaled_score(), graphs.V)
    with pytest.raises(FileError, match='"Widen" is no node'):
        dump(n.Output(n.Softmax(scaled_score(), None, None, "a"), values, None), name="x")


def test_a_program_object_round_trips_through_json():
    made = AttentionProgram(graphs.local_alibi(), "local_alibi", "Looks back.", ("causal",))
    again = AttentionProgram.from_json(made.to_json())
    assert (again.root, again.name, again.doc, again.contracts) == (
        made.root, "local_alibi", "Looks back.", ("causal",),
    )  # fmt: skip
