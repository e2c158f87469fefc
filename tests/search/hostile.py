"""Texts that somebody careless or hostile might propose, drawn by a seed."""

import copy
import json
from random import Random

from regard.modes.collection import READY
from regard.search.guide import example

HUGE = 10**400
CODE = [
    "__import__('os').system('touch /tmp/owned')",
    "eval(compile('1', '', 'eval'))",
    "{{config.__class__.__init__.__globals__}}",
    "$(touch owned)",
    "'; drop table results; --",
    "lambda pair: open('/etc/passwd')",
    "!!python/object/apply:os.system ['id']",
    "cos\nsystem\n(S'id'\ntR.",
]
PATHS = [
    "../../etc/passwd",
    "/dev/zero",
    "file:///etc/passwd",
    "C:\\con",
    "own.py:program",
    "~/.ssh",
]
WORDS = ["", " ", "\u202egnp.", "\u0000", "a" * 5000, "ℵ", "é", "\ufeffx", "😀" * 50, "NaN", "None"]
NUMBERS = [0, -1, 2**31, 2**63, -(2**63), 2**64, HUGE, 1e308, -0.0, 0.5, 1e-320, True, False]
WHOLE_TEXTS = [
    "", "   ", "{", "[", "null", "NaN", "1", '"text"', "[]", "{}", "[[]]", '{"proposals": 3}',
    '{"proposals": []}', '{"name": 1, "name": 2}', "[1,]", "{'a': 1}", '"\\ud800"', "\ufeff[]",
    "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000,
    "[" + "1," * 300_000 + "1]", "[" + "9" * 5000 + "]",
    '{"name": "x", "assignments": [], "programs": {}, "extra": NaN}',
]  # fmt: skip


def hostile_text(random):
    """Return a text that is no good proposal, or hardly one."""
    if random.random() < 0.15:
        return random.choice(WHOLE_TEXTS)
    value = _base(random)
    for _ in range(random.randint(1, 3)):
        value = random.choice(DAMAGES)(value, random)
    text = json.dumps(value)
    if random.random() < 0.1:
        at = random.randrange(len(text))
        text = (
            text[:at] + random.choice(['"', "}", ",", "\x00", "1e999", "NaN", "\u2028"]) + text[at:]
        )
    return text


def _base(random):
    if random.random() < 0.6:
        return copy.deepcopy(example())
    mode = random.choice([one for name, one in READY.items() if name != "structured"])()
    return json.loads(json.dumps(mode.to_dict()))


def _places(value, found=None):
    """Return every (container, key) of a JSON value."""
    found = [] if found is None else found
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        found.append((value, key))
        if isinstance(item, dict | list):
            _places(item, found)
    return found


def _leaf(random):
    return random.choice([*CODE, *PATHS, *WORDS, *NUMBERS, None, [], {}, [[]], {"float": "nan"}])


def _replace(value, random):
    container, key = random.choice(_places(value))
    container[key] = _leaf(random)
    return value


def _remove(value, random):
    container, key = random.choice(_places(value))
    del container[key]
    return value


def _add(value, random):
    container, _ = random.choice(_places(value))
    if isinstance(container, dict):
        container[random.choice([*CODE, *PATHS, *WORDS, "__class__", "__reduce__"])] = _leaf(random)
    else:
        container.append(_leaf(random))
    return value


def _of_nodes(value):
    found = (container[key] for container, key in _places(value))
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("node"), str)]


def _unknown_node(value, random):
    for node in _of_nodes(value)[:1]:
        node["node"] = random.choice(["Eval", "Import", "softmax", "__class__", "Sotfmax", *CODE])
    return value


def _unknown_operator(value, random):
    for node in [one for one in _of_nodes(value) if one["node"] == "Call"][:1]:
        node["op"] = random.choice(["exec", "system", "__getattr__", "ad", *CODE, *PATHS])
    return value


def _cycle(value, random):
    """Let nodes refer to themselves, to later ones, and beyond the end."""
    number = random.choice([0, 1, 2, -1, 10**6, HUGE])
    loop = {"node": "Call", "op": "add", "args": [number, number + 1]}
    program = {"nodes": [loop, copy.deepcopy(loop), loop], "output": random.choice([0, 2, -1])}
    _program(value, program)
    return value


def _program(value, program):
    if isinstance(value.get("programs"), dict) and value["programs"]:
        value["programs"][next(iter(value["programs"]))] = program


def _nested(value, random):
    deep = {"node": "Index", "name": "i"}
    for _ in range(random.choice([10, 40, 400])):
        deep = {"node": "Call", "op": "neg", "args": [deep]}
    _program(value, {"output": deep})
    return value


def _bomb(value, random):
    """Double a condition again and again: few nodes written, very many if it were a tree."""
    nodes = [
        {"node": "Index", "name": "i"}, {"node": "Index", "name": "j"},
        {"node": "Call", "op": "le", "args": [1, 0]}, {"node": "Call", "op": "ne", "args": [1, 0]},
    ]  # fmt: skip
    for _ in range(random.choice([20, 60, 3000])):
        last = len(nodes) - 1
        op = random.choice(["and", "or", "or"])
        nodes.append(
            {"node": "Call", "op": op, "args": [last, random.randint(max(2, last - 3), last)]}
        )
        if random.random() < 0.3:
            nodes.append({"node": "Call", "op": "not", "args": [last + 1]})
    where = len(nodes) - 1
    nodes += [
        {"node": "Softmax", "score": 0, "where": where},
        {"node": "Vector", "side": "key", "name": "v"},
    ]  # fmt: skip
    nodes.append({"node": "Output", "weights": len(nodes) - 2, "values": len(nodes) - 1})
    _program(value, {"nodes": nodes, "output": len(nodes) - 1})
    return value


def _large(value, random):
    size = random.choice([2**30, 2**62, 10**9, 4097, 65])
    array = {"node": "Array", "source": "parameter", "name": "t", "per": ["head", size]}
    score = random.choice(
        [
            {"node": "Gather", "array": array, "indices": [{"node": "Index", "name": "j"}]},
            {"node": "Call", "op": "pow", "args": [{"node": "Index", "name": "i"}, _const(size)]},
            {"node": "Call", "op": "mul", "args": [{"node": "Index", "name": "j"}, _const(-size)]},
            {"node": "Reduce", "axes": "c", "body": {
                "node": "Slice", "start": 0, "stop": size,
                "rows": {"node": "Vector", "side": "query", "name": "q"}}},
            {"node": "Gather", "array": {**array, "per": [2] * 64}, "indices": [_const(1)] * 64},
        ]
    )  # fmt: skip
    weights = {"node": "Softmax", "score": score}
    values = {"node": "Vector", "side": "key", "name": "v"}
    _program(value, {"output": {"node": "Output", "weights": weights, "values": values}})
    return value


def _const(number):
    return {"node": "Const", "value": number}


def _knobs(value, random):
    knobs = {
        random.choice(["window", "alpha", "buckets", "__globals__", "furthest"]): _leaf(random)
    }
    name = random.choice(["local", "focused", "reader", "structured", *PATHS, *CODE])
    _program(value, {random.choice(["ready", "catalogue"]): name, "knobs": knobs})
    return value


def _spans(value, random):
    for one in value.get("assignments") or []:
        if isinstance(one, dict):
            one[random.choice(["layers", "heads"])] = random.choice(
                [[2, 1], [0, HUGE], [-1, 3], [0.5, 1], "0:2", [1], [], {"0": 1}, [True, 2]]
            )
    return value


def _contracts(value, random):
    for program in (value.get("programs") or {}).values():
        if isinstance(program, dict) and "output" in program:
            program["contracts"] = [
                random.choice(
                    ["causal", "window <= 9" + "9" * 500, "bounded <= 1e400", "x", 5, *CODE]
                )
            ]
    return value


def _many(value, random):
    return {"proposals": [value] * random.choice([2, 3, 40])}


def _roles(value, random):
    for one in value.get("assignments") or []:
        if isinstance(one, dict):
            one["role"] = random.choice(["decoder", "cross", "ENCODER", "vision", *PATHS, 7, None])
    return value


def _guarded(damage):
    """Damages follow each other, and the second may find nothing left to damage."""

    def careful(value, random):
        try:
            return damage(value, random)
        except (IndexError, KeyError, TypeError, AttributeError):
            return value

    return careful


DAMAGES = [
    _guarded(one)
    for one in (
        _replace, _replace, _remove, _add, _unknown_node, _unknown_operator, _cycle, _nested, _bomb,
        _large, _knobs, _spans, _contracts, _many, _roles,
    )
]  # fmt: skip


def hostile_texts(count, seed=0):
    """Return so many texts; the same seed gives the same ones."""
    random = Random(seed)
    return [hostile_text(random) for _ in range(count)]
