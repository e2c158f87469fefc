"""Ten thousand damaged files: each gives a program or a FileError with a place, nothing else."""

import json
import random
import re
import sys
import time
import tracemalloc
from collections.abc import Callable

import pytest

from regard.errors import FileError
from regard.ir.json_file import dump, load
from tests.ir import graphs

FILES = 10_000
TEXTS = [dump(root, name=name, doc="Fuzzed.") for name, root in graphs.SAMPLES.items()]
# "line 3 column 8", or a path such as nodes[17].args[1] or nodes[2]."odd key".
PLACE = re.compile(r"""(line \d+( column \d+)?|(\.?\w+|\.?"[^"\n]*"|\[\d+\])+): \S""")
FORBIDDEN = ("exec", "compile", "import", "open", "pickle", "subprocess", "os.", "socket", "ctypes")
ODD_VALUES = [
    None, True, False, 0, 1, -1, 2, 7, 30, 10**6, 2**63 - 1, -(2**63), 10**40, 1.5, -0.0, 1e308,
    "", "i", "add", "query", "rows", "q", "x" * 300, "\ud800", "\n", [], [0], [[]], {},
    {"float": "inf"}, {"float": "nan"}, {"name": "zeros", "numbers": []}, ["head"],
    ["channel", "channel"],
]  # fmt: skip
ODD_TEXTS = [
    "9" * 30, "9" * 6000, "1e999", "-1e-999", "NaN", "Infinity", "[" * 2000, '{"a":' * 500, '"',
    "\\", "\\u", "\\ud83d", "\x00", "\u2028", "é", ",", ":", "}", "]", "null", "/*", "\n\n",
    "00", "0x1", "1_000",
]  # fmt: skip
WORDS = sorted(set(re.findall(r'"(\w+)"', "".join(TEXTS))))

_auditing = False
_events: list[str] = []


def _audit(event: str, arguments: tuple) -> None:
    if _auditing and event.startswith(FORBIDDEN):
        _events.append(event)


class _Audited:
    """Notes every forbidden event inside the block; a hook cannot be removed, only silenced."""

    installed = False

    def __enter__(self) -> list[str]:
        global _auditing
        if not _Audited.installed:
            sys.addaudithook(_audit)
            _Audited.installed = True
        _events.clear()
        _auditing = True
        return _events

    def __exit__(self, *problem) -> None:
        global _auditing
        _auditing = False


# ── Damage to the text ───────────────────────────────────────────────────────────────────────
def _flip_bytes(text: str, draw: random.Random) -> str:
    data = bytearray(text.encode())
    for _ in range(draw.choice([1, 1, 2, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data.decode("utf-8", "replace")


def _truncate(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text))]


def _cut(text: str, draw: random.Random) -> str:
    start = draw.randrange(len(text))
    return text[:start] + text[start + draw.randrange(1, 40) :]


def _repeat(text: str, draw: random.Random) -> str:
    start = draw.randrange(len(text))
    stop = start + draw.randrange(1, 60)
    return text[:stop] + text[start:stop] * draw.choice([1, 1, 3]) + text[stop:]


def _insert(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text))
    return text[:at] + draw.choice(ODD_TEXTS) + text[at:]


def _replace_number(text: str, draw: random.Random) -> str:
    return _change(r"-?\d+(\.\d+)?", lambda found: draw.choice(ODD_TEXTS), text, draw)


def _shift_number(text: str, draw: random.Random) -> str:
    step = draw.choice([-2, -1, 1, 2])
    return _change(r"\b\d{1,9}\b", lambda found: str(int(found) + step), text, draw)


def _swap_words(text: str, draw: random.Random) -> str:
    return _change(r'"\w+"', lambda found: f'"{draw.choice(WORDS)}"', text, draw)


def _repeat_key(text: str, draw: random.Random) -> str:
    return _change(r'"\w+": [^,{}\[\]]+', lambda found: f"{found}, {found}", text, draw)


def _change(pattern: str, change: Callable[[str], str], text: str, draw: random.Random) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    one = draw.choice(found)
    return text[: one.start()] + change(one[0]) + text[one.end() :]


# ── Damage to the value ──────────────────────────────────────────────────────────────────────
def _places(value, path=()) -> list[tuple]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in inside:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += _places(item, (*path, key))
    return found


def _holder(value, path: tuple):
    for key in path[:-1]:
        value = value[key]
    return value


def _delete(value: dict, draw: random.Random) -> None:
    path = draw.choice(_places(value))
    del _holder(value, path)[path[-1]]


def _retype(value: dict, draw: random.Random) -> None:
    path = draw.choice(_places(value))
    _holder(value, path)[path[-1]] = draw.choice(ODD_VALUES)


def _swap_values(value: dict, draw: random.Random) -> None:
    one, other = draw.choice(_places(value)), draw.choice(_places(value))
    if one[: len(other)] == other or other[: len(one)] == one:
        return
    first, second = _holder(value, one), _holder(value, other)
    first[one[-1]], second[other[-1]] = second[other[-1]], first[one[-1]]


def _swap_nodes(value: dict, draw: random.Random) -> None:
    nodes = value["nodes"]
    one, other = draw.randrange(len(nodes)), draw.randrange(len(nodes))
    nodes[one], nodes[other] = nodes[other], nodes[one]


def _redirect(value: dict, draw: random.Random) -> None:
    """Point a reference at another node: sometimes still a program."""
    paths = [path for path in _places(value["nodes"]) if len(path) > 1]
    numbers = [path for path in paths if type(_holder(value["nodes"], path)[path[-1]]) is int]
    path = draw.choice(numbers)
    _holder(value["nodes"], path)[path[-1]] = draw.randrange(path[0] + 1)


def _borrow_node(value: dict, draw: random.Random) -> None:
    other = json.loads(draw.choice(TEXTS))["nodes"]
    value["nodes"][draw.randrange(len(value["nodes"]))] = draw.choice(other)


IN_TEXT = [
    _flip_bytes, _truncate, _cut, _repeat, _insert, _replace_number, _shift_number, _swap_words,
    _repeat_key,
]  # fmt: skip
IN_VALUE = [_delete, _retype, _swap_values, _swap_nodes, _redirect, _borrow_node]


def damaged(number: int) -> str:
    """Return the damaged file with this number."""
    draw = random.Random(number)
    text = draw.choice(TEXTS)
    if number % 2:
        for _ in range(draw.choice([1, 1, 2])):
            text = draw.choice(IN_TEXT)(text or "{", draw)
        return text
    value = json.loads(text)
    for _ in range(draw.choice([1, 1, 2])):
        change = draw.choice(IN_VALUE)
        if isinstance(value.get("nodes"), list) and value["nodes"]:
            try:
                change(value, draw)
            except (KeyError, IndexError, TypeError, AttributeError):
                continue
    return json.dumps(value)


def outcome(text: str) -> str:
    """Load a damaged file, with the hash of its content if that is all that is wrong."""
    try:
        try:
            root, about = load(text)
        except FileError as problem:
            told = re.match(r"hash: .*(sha256:[0-9a-f]{64})", str(problem))
            if told is None:
                raise
            root, about = load(re.sub(r"sha256:[0-9a-f]{64}", told[1], text))
    except FileError as problem:
        assert PLACE.match(str(problem)), f"no place in: {problem}"
        assert len(str(problem)) < 1500
        return "refused"
    canonical = dump(root, **about._asdict())
    assert load(canonical) == (root, about)
    assert dump(load(canonical)[0], **about._asdict()) == canonical
    return "loaded"


def test_ten_thousand_damaged_files_are_refused_with_a_place_or_are_programs():
    texts = [damaged(number) for number in range(FILES)]
    for text in TEXTS:
        assert outcome(text) == "loaded"
    start = time.process_time()
    with _Audited() as events:
        outcomes = [outcome(text) for text in texts]
    seconds = time.process_time() - start
    assert events == []
    assert seconds < 25
    # A fuzzer whose files are all refused at the first bracket, or all harmless, tests nothing.
    assert 0.02 < outcomes.count("loaded") / FILES < 0.5


def test_the_audit_notices_what_it_should():
    with _Audited() as events:
        eval("1 + 1")
    assert "compile" in events and "exec" in events


def _many(item: str, between: str = ",") -> str:
    return between.join([item] * (1_000_000 // (len(item) + len(between))))


HOSTILE = {
    "brackets": "[" * 1_000_000,
    "objects": '{"a":' * 200_000,
    "empty lists": "[" + _many("[]") + "]",
    "empty objects": "[" + _many("{}") + "]",
    "numbers": "[" + _many("1") + "]",
    "long number": "9" * 1_000_000,
    "long fraction": "0." + "3" * 1_000_000,
    "long exponent": "1e" + "9" * 1_000_000,
    "escaped quotes": '"' + '\\"' * 500_000,
    "open string": '"' * 999_999,
    "backslashes": "\\" * 1_000_000,
    "one string": '"' + "a" * 1_000_000 + '"',
    "surrogates": '["' + "\\ud800" * 160_000 + '"]',
    "different keys": "{" + ",".join(f'"{number}":0' for number in range(90_000)) + "}",
    "same keys": "{" + _many('"a":0') + "}",
    "long key": '{"regard":"program","version":1,"' + "k" * 1_000_000 + '":1}',
    "many nodes": '{"regard":"program","nodes":[' + _many('{"node":"Visible"}') + "]}",
    "many errors": "[" + _many("NaN") + "]",
    "lines": "\n" * 1_000_000 + "x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little_time_and_memory(name):
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(FileError) as caught:
            load(HOSTILE[name])
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert PLACE.match(str(caught.value))
    assert len(str(caught.value)) < 1500
    # Measured under the tracer, which makes it several times slower.
    assert seconds < 15
    assert peak < 150 * 2**20


def test_damaged_files_need_little_memory():
    tracemalloc.start()
    try:
        for number in range(300):
            outcome(damaged(number))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20
