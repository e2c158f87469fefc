"""Modes: which program runs where, as a value and as a file."""

import copy
import json
import pickle

import pytest

import regard as rg
from regard.errors import FileError, InputError, RegardError
from regard.modes import ROLES, Assignment, Mode, load_mode, save_mode
from tests.nn import programs as p


@rg.program
def twin(pair):
    """The same graph as `plain`, traced again under another name."""
    return rg.softmax(p.score(pair))


def example():
    return Mode(
        "reader",
        "reads locally, keeps order",
        [
            Assignment("decoder", p.relative, layers=(0, 2), heads=(0, 2)),
            Assignment("decoder", p.causal, layers=(0, 2), heads=(2, 4)),
            Assignment("encoder", p.alibi),
        ],
        cross=p.additive,
    )


def test_a_mode_has_a_program_for_each_role():
    mode = Mode("m", encoder=p.alibi, cross=p.additive)
    assert mode.at("encoder", 0, 4) == [((0, 4), p.alibi)]
    assert mode.at("cross", 5, 8) == [((0, 8), p.additive)]
    assert mode.at("decoder", 0, 4) is None
    assert ROLES == ("encoder", "decoder", "cross", "vision", "text", "audio")


def test_a_layer_of_several_roles_has_a_number_in_each():
    mode = Mode("m", "", [Assignment("vision", p.alibi, (2, 3)), Assignment("text", p.additive)])
    assert mode.at("encoder", 5, 4, {"encoder": 5, "vision": 2}) == [((0, 4), p.alibi)]
    assert mode.at("encoder", 2, 4, {"encoder": 2, "vision": 1}) is None
    assert mode.at("encoder", 2, 4) is None
    assert mode.at("decoder", 0, 4, {"decoder": 0, "text": 9}) == [((0, 4), p.additive)]


def test_layers_and_heads_are_spans_without_their_end():
    mode = example()
    groups = [((0, 2), p.relative), ((2, 4), p.causal)]
    assert mode.at("decoder", 0, 4) == mode.at("decoder", 1, 4) == groups
    assert mode.at("decoder", 2, 4) is None
    assert mode.at("encoder", 9, 4) == [((0, 4), p.alibi)]


def test_a_later_assignment_wins():
    mode = Mode(
        "m",
        assignments=[
            Assignment("encoder", p.plain),
            Assignment("encoder", p.alibi, heads=(1, 3)),
            Assignment("encoder", p.causal, layers=(1, 2)),
            Assignment("encoder", p.relative, layers=(1, 2), heads=(3, 4)),
        ],
    )
    assert mode.at("encoder", 0, 4) == [((0, 1), p.plain), ((1, 3), p.alibi), ((3, 4), p.plain)]
    assert mode.at("encoder", 1, 4) == [((0, 3), p.causal), ((3, 4), p.relative)]
    assert Mode("m", "", [Assignment("encoder", p.plain)], encoder=p.alibi).at("encoder", 0, 2) == [
        ((0, 2), p.alibi)
    ]


def test_neighbouring_heads_of_one_program_are_one_group():
    halves = [
        Assignment("cross", p.plain, heads=(0, 2)),
        Assignment("cross", p.plain, heads=(2, 4)),
    ]
    assert Mode("m", "", halves).at("cross", 0, 4) == [((0, 4), p.plain)]


def test_programs_of_one_graph_are_one_program_before_and_after_a_file():
    # Saved once, they would come back as one: then a layer would have other parameters than before.
    halves = [Assignment("cross", p.plain, heads=(0, 2)), Assignment("cross", twin, heads=(2, 4))]
    mode = Mode("m", "", halves)
    again = Mode.from_dict(mode.to_dict())
    spans = [[span for span, _ in one.at("cross", 0, 4)] for one in (mode, again)]
    assert spans == [[(0, 4)], [(0, 4)]]


def test_a_layer_may_not_be_assigned_in_part():
    mode = Mode("m", "", [Assignment("encoder", p.plain, heads=(0, 3))])
    assert mode.at("encoder", 0, 3) == [((0, 3), p.plain)]
    with pytest.raises(InputError) as error:
        mode.at("encoder", 2, 4)
    assert str(error.value) == "mode 'm' assigns no program to head 3 of encoder layer 2"


def test_heads_a_layer_does_not_have_are_refused():
    with pytest.raises(InputError) as error:
        example().at("decoder", 0, 3)
    assert str(error.value) == "mode 'reader': heads 2:4 of role 'decoder'; there are 3"


def test_a_mode_survives_its_file(tmp_path):
    save_mode(example(), tmp_path / "mode.json")
    again = load_mode(tmp_path / "mode.json")
    assert again == example() and hash(again) == hash(example())
    assert again.hash == example().hash
    assert (again.name, again.intent) == ("reader", "reads locally, keeps order")
    first = again.at("decoder", 0, 4)[0][1]
    assert (first.name, first.doc) == ("relative", p.relative.doc)
    assert save_mode(again, tmp_path / "again.json") is None
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "mode.json").read_bytes()


def test_a_mode_survives_pickling_and_copying():
    for again in (copy.deepcopy(example()), pickle.loads(pickle.dumps(example()))):
        assert again == example() and again.hash == example().hash


def test_every_program_is_stored_once():
    stored = Mode("m", encoder=p.plain, decoder=p.plain, cross=p.alibi).to_dict()
    assert set(stored["programs"]) == {p.plain.hash, p.alibi.hash}
    assert [one["program"] for one in stored["assignments"]] == [
        p.plain.hash,
        p.plain.hash,
        p.alibi.hash,
    ]


def test_the_hash_is_of_what_runs_not_of_what_it_is_called():
    mode = example()
    assert Mode("other", "another intent", mode.assignments).hash == mode.hash
    assert Mode("m", encoder=p.plain).hash == Mode("m", encoder=twin).hash
    others = [
        mode.assignments[:-1],
        mode.assignments[::-1],
        (*mode.assignments, Assignment("decoder", p.relative, layers=(0, 2), heads=(0, 1))),
    ]
    changed = {Mode("reader", "", assignments).hash for assignments in others}
    assert len(changed | {mode.hash}) == 4
    spans = {Mode("m", "", [Assignment("encoder", p.plain, *span)]).hash for span in SPANS}
    assert len(spans) == len(SPANS)


SPANS = [(None, None), ((0, 1), None), (None, (0, 1)), ((0, 1), (0, 1)), ((0, 2), None)]


def test_a_list_is_as_good_a_span_as_a_tuple():
    listed = Assignment("encoder", p.plain, layers=[0, 2], heads=[1, 3])
    assert listed == Assignment("encoder", p.plain, (0, 2), (1, 3))
    assert Mode.from_dict(Mode("m", "", [listed]).to_dict()) == Mode("m", "", [listed])


def test_a_mode_reads_as_text():
    assert str(example()) == (
        "mode reader: reads locally, keeps order\n"
        "  decoder, layers 0–1, heads 0–1: relative\n"
        "  decoder, layers 0–1, heads 2–3: causal\n"
        "  encoder: alibi\n"
        "  cross: additive"
    )
    assert str(Mode("m", cross=p.plain)) == "mode m\n  cross: plain"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Mode("m", encodr=p.plain),
            "'encodr' is no role of attention; did you mean 'encoder'? known: audio, cross, "
            "decoder, encoder, text, vision",
        ),
        (
            lambda: Assignment("encoder", "plain"),
            "role 'encoder' needs a program, not 'plain'; of a name of the catalogue, "
            "rg.catalogue.find(name).program is one",
        ),
        (
            lambda: Mode("m", encoder=None),
            "role 'encoder' needs a program, not None",
        ),
        (
            lambda: Mode("m"),
            "mode 'm' assigns no program; give encoder=…, decoder=… or cross=…",
        ),
        (lambda: Mode(5, encoder=p.plain), "the name of a mode is text, not 5"),
        (lambda: Mode("m", None, encoder=p.plain), "the intent of a mode is text, not None"),
        (
            lambda: Assignment("cross", p.plain, layers=(2, 2)),
            "layers=(2, 2) of role 'cross' must be (first, after the last)",
        ),
        (
            lambda: Assignment("cross", p.plain, heads=(-1, 2)),
            "heads=(-1, 2) of role 'cross' must be (first, after the last)",
        ),
        (
            lambda: Assignment("cross", p.plain, layers=3),
            "layers=3 of role 'cross' must be (first, after the last)",
        ),
        (
            lambda: Assignment("cross", p.plain, heads=(0, 1.5)),
            "heads=(0, 1.5) of role 'cross' must be (first, after the last)",
        ),
        (
            lambda: Assignment("cross", p.plain, heads=(False, True)),
            "heads=(False, True) of role 'cross' must be (first, after the last)",
        ),
        (
            lambda: Assignment("cross", p.plain, layers=(0, 1, 2)),
            "layers=(0, 1, 2) of role 'cross' must be (first, after the last)",
        ),
    ],
)
def test_a_mode_that_cannot_be_says_why(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value) == message


def changed(value, *path, to):
    """Return a copy of a JSON value with one place changed; `...` takes it away."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return value


KEY = p.alibi.hash


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (["regard"], "program", 'this is no mode; one starts with {"regard": "mode"'),
        (["regard"], ..., 'this is no mode; one starts with {"regard": "mode"'),
        (
            ["version"],
            2,
            "version: written by a newer Regard (version 2, this one reads 1); upgrade",
        ),
        (["version"], 0, "version: 0 was never written; the first is 1"),
        (["version"], "1", 'version: a whole number belongs here, not "1"'),
        (["version"], True, "version: a whole number belongs here, not true"),
        (["version"], ..., "version: a whole number belongs here, not null"),
        (
            ["author"],
            "me",
            'line 1: "author" is no key here; known: assignments, hash, intent, name, programs, '
            "regard, version",
        ),
        (["intent"], ..., "intent: missing"),
        (["name"], 5, "name: text belongs here, not 5"),
        (["name"], "a\nb", 'name: "a\\nb" holds characters that cannot be shown'),
        (["intent"], [], "intent: text belongs here, not a list"),
        (["intent"], "x" * 10_001, "intent: 10001 characters; at most 10000 fit"),
        (["hash"], None, "hash: text belongs here, not null"),
        (["assignments"], {}, "assignments: a list belongs here, not an object"),
        (["programs"], [], "programs: an object belongs here, not a list"),
        (["assignments", 1], 5, "assignments[1]: an object belongs here, not 5"),
        (["assignments", 1, "layers"], ..., "assignments[1].layers: missing"),
        (["assignments", 2, "role"], [], "assignments[2].role: text belongs here, not a list"),
        (
            ["assignments", 2, "role"],
            "encode",
            "assignments[2]: 'encode' is no role of attention; did you mean 'encoder'? known: "
            "audio, cross, decoder, encoder, text, vision",
        ),
        (
            ["assignments", 2, "program"],
            [],
            "assignments[2].program: text belongs here, not a list",
        ),
        (
            ["assignments", 2, "program"],
            "f00",
            'assignments[2].program: "f00" is not among the programs of this file',
        ),
        (
            ["assignments", 0, "layers"],
            [0, "2"],
            "assignments[0]: layers=[0, '2'] of role 'decoder' must be (first, after the last)",
        ),
        (
            ["assignments", 0, "heads"],
            [2, 1],
            "assignments[0]: heads=[2, 1] of role 'decoder' must be (first, after the last)",
        ),
        (
            ["assignments"],
            [],
            f"programs.{p.relative.hash[:12]}: no assignment uses this program",
        ),
        (
            ["programs", KEY, "nodes", 0, "node"],
            "Nothing",
            f'programs.{KEY[:12]}: nodes[0].node: "Nothing" is no node; known: Array, Call, '
            "Channel, Const, Dropout, Entmax, Feature, Gather, Hole, Index, Keep, KeyMax, Map, "
            "Output, PairInput, Project, Ratio, Reduce, Rotate, Running, Scalar, Slice, Softmax, "
            "TopK, Vector, Visible, Weigh",
        ),
        (["programs", KEY], 7, f"programs.{KEY[:12]}: line 1: this is no file of Regard; one "),
    ],
)
def test_a_file_that_lies_is_refused_with_the_place(path, to, message):
    with pytest.raises(FileError) as error:
        Mode.from_dict(changed(example().to_dict(), *path, to=to))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("value", [None, [], 5, "mode", {}])
def test_what_is_no_mode_at_all_is_refused(value):
    with pytest.raises(FileError, match="this is no mode; one starts with"):
        Mode.from_dict(value)


def test_a_file_with_no_assignment_is_refused():
    value = changed(changed(example().to_dict(), "assignments", to=[]), "programs", to={})
    message = "assignments: mode 'reader' assigns no program; give encoder=…, decoder=… or cross=…"
    with pytest.raises(FileError) as error:
        Mode.from_dict(value)
    assert str(error.value) == message


def test_a_mode_changed_after_its_hash_is_refused():
    value = changed(example().to_dict(), "assignments", 0, "heads", to=[0, 3])
    with pytest.raises(FileError) as error:
        Mode.from_dict(value)
    message = "hash: the mode was changed after this hash was made; its own is sha256:"
    assert str(error.value).startswith(message)
    own = str(error.value).removeprefix(message)
    assert Mode.from_dict(changed(value, "hash", to=f"sha256:{own}")).hash == own


def test_a_program_under_another_ones_hash_is_refused():
    value = example().to_dict()
    value["programs"][KEY] = value["programs"][p.additive.hash]
    with pytest.raises(FileError) as error:
        Mode.from_dict(value)
    found = f"the program under this key has the hash {p.additive.hash}"
    assert str(error.value) == f"programs.{KEY[:12]}: {found}"


def test_a_file_names_itself_in_every_error(tmp_path):
    path = tmp_path / "mode.json"
    with pytest.raises(FileError, match=r"mode\.json: no such file or directory"):
        load_mode(path)
    path.write_text("{")
    with pytest.raises(FileError, match=r"mode\.json: line 1 column 2: expecting property name"):
        load_mode(path)
    path.write_text(json.dumps(changed(example().to_dict(), "version", to=9)))
    with pytest.raises(FileError, match=r"mode\.json: version: written by a newer Regard"):
        load_mode(path)
    with pytest.raises(FileError, match="no such file or directory"):
        save_mode(example(), tmp_path / "nowhere" / "mode.json")


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    path = tmp_path / "mode.json"
    save_mode(example(), path)
    kept = path.read_bytes()
    for name, message in (
        ("x" * 201, "name: 201 characters; at most 200 fit"),
        ("\ud800", "line 4 column 11: half a character"),
    ):
        with pytest.raises(FileError) as error:
            save_mode(Mode(name, encoder=p.plain), path)
        assert str(error.value) == f"{path}: {message}"
    assert path.read_bytes() == kept


JUNK = [None, [], {}, "", 0, -1, True, 1.5, "x", [[]], [0, 1], [1, 0], {"a": 1}, "\ud800", 10**30]


def paths(value, so_far=()):
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*so_far, key)
        if isinstance(item, dict | list):
            yield from paths(item, (*so_far, key))


def test_no_change_of_a_file_does_more_than_raise_a_file_error():
    value = Mode(
        "m", "", [Assignment("cross", p.causal, (0, 1), (0, 2))], encoder=p.alibi
    ).to_dict()
    count = 0
    for path in paths(value):
        for junk in JUNK:
            try:
                Mode.from_dict(changed(value, *path, to=junk))
            except RegardError as problem:
                assert isinstance(problem, FileError) and str(problem)
                count += 1
    assert count > 1000
