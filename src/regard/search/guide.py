"""A short guide with which a person or a language model can write a mode; its facts are derived.

Leaves to others: the whole grammar (`grammar`), the form of a file (`schema`).
"""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from regard.catalogue import VARIANTS
from regard.ir import nodes as n
from regard.modes.collection import READY
from regard.modes.mode import ROLES
from regard.passes.build import call
from regard.search.parts import SCORE
from regard.search.proposals import (
    EVERYWHERE,
    MOST_PROGRAMS,
    MOST_PROPOSALS,
    offered,
    parse_proposals,
)
from regard.search.read_program import write_nested

_WIDTH = 100
_I, _J = n.Index("i"), n.Index("j")
_MAIN_ROLES = ("encoder", "decoder", "cross")


def write_guide() -> str:
    """Return the guide.

    Returns:
        What to write, what every program must keep, what can be named, parts to copy, an example,
        and the answer to a mistake.
    """
    parts = [_form(), _demands(), _named(), _pieces(), _example(), _mistake()]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _form() -> Iterator[str]:
    yield "HOW TO PROPOSE A MODE"
    yield from _wrapped(
        "A mode says which attention program each role, layer and head of a model runs. Write JSON "
        'and nothing else: a mode, a list of modes, or {"proposals": [modes]}. A mode has a '
        '"name", an "intent" (what it is for), "assignments" and "programs".'
    )
    yield from _wrapped(
        f'An assignment has a "role" ({", ".join(ROLES)}), a "program" (one of the names under '
        '"programs") and, if it is not for all of them, "layers" and "heads": [first, after '
        "the last], counted from 0. A later assignment wins over an earlier one. Every layer and "
        "head of a role needs a program."
    )
    yield "A program is one of:"
    yield '  {"ready": NAME, "knobs": {…}}      the program of a ready mode for the role'
    yield '  {"catalogue": NAME, "knobs": {…}}  a published mechanism'
    yield '  {"output": {"node": "Output", …}}  your own, in the grammar of `regard schema grammar`'


def _demands() -> Iterator[str]:
    yield "WHAT EVERY PROGRAM MUST KEEP; what cannot be proved is refused"
    limits = (
        f"at most {EVERYWHERE.most_nodes} different nodes, {EVERYWHERE.most_parameters} learned "
        f"numbers, {MOST_PROGRAMS} programs a mode, {MOST_PROPOSALS} modes a file"
    )
    for line in (
        'decoder: causal. Every "where" of every term includes pair.j <= pair.i, and pair.keys is '
        "not read.",
        'encoder, decoder: no row is empty. "where" is surely true at i == j, or a softmax has a '
        "sink.",
        'cross: no row is empty, though there may be fewer keys than queries: "where" is surely '
        "true at key 0, or is left out, or there is a sink. Queries and keys have positions of "
        "their own.",
        "all: finite gradients. The arguments of log, sqrt and divisors are surely above 0 (add a "
        "small number to a sum of squares), exp is of what is bounded, alpha of entmax is a "
        "constant above 1.",
        "all: only q, k, v, positions and parameters are read, unless the model gives more.",
        f"size: {limits}.",
    ):
        yield from _wrapped(line, "  ")


def _named() -> Iterator[str]:
    yield "WHAT CAN BE NAMED, with its knobs"
    for name, mode in READY.items():
        roles = [role for role in _MAIN_ROLES if name in offered(role, EVERYWHERE)["ready"]]
        if roles:
            told = f"ready {name}{_listed(mode.knobs)}, for {', '.join(roles)}: {mode.intent}"
            yield from _wrapped(told, "  ")
    for role in _MAIN_ROLES:
        names = offered(role, EVERYWHERE)["catalogue"]
        own = [name + _listed(VARIANTS[name].knobs) for name in names]
        yield from _wrapped(f"catalogue, for {role}: {', '.join(own)}", "  ")


def _listed(knobs: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in knobs.items())
    return f"({given})" if given else ""


def _pieces() -> Iterator[str]:
    yield "PARTS TO COPY"
    near = call("le", call("abs", call("sub", _I, _J)), 16)
    slope = n.Array("parameter", "slope", ("head",), n.Init("alibi"))
    pieces = {
        "the usual score, q·k / √width": SCORE,
        "what was before, for decoders": call("le", _J, _I),
        "within 16 tokens": near,
        "both conditions": call("and", call("le", _J, _I), near),
        "a learned number of each head, times the distance": call(
            "mul", slope, call("abs", call("sub", _I, _J))
        ),
        "each key by itself, not averaged": n.Weigh(call("sigmoid", SCORE), None, "a"),
    }
    for name, node in pieces.items():
        yield f"  {name}:"
        yield f"    {_json(write_nested(node))}"


def example() -> dict[str, Any]:
    """Return a proposal that is accepted: a program of its own, and one by name."""
    near = call("le", call("abs", call("sub", _I, _J)), 16)
    root = n.Output(n.Softmax(SCORE, near, None, "a"), n.Vector("key", "v"), None)
    return {
        "name": "near, then everything",
        "intent": "The first two layers read neighbours, the others pick a few tokens anywhere.",
        "assignments": [
            {"role": "encoder", "program": "pick"},
            {"role": "encoder", "program": "near", "layers": [0, 2]},
        ],
        "programs": {
            "pick": {"ready": "focused", "knobs": {"alpha": 1.5}},
            "near": {"output": write_nested(root)},
        },
    }


def _example() -> Iterator[str]:
    yield "AN EXAMPLE"
    lines = [f" {_json(key)}: {_json(value)}" for key, value in example().items()]
    yield "{\n" + ",\n".join(lines) + "\n}"


def _mistake() -> Iterator[str]:
    yield "A MISTAKE, AND ITS ANSWER: the example, for a decoder"
    wrong = example()
    for one in wrong["assignments"]:
        one["role"] = "decoder"
    for refusal in parse_proposals(json.dumps(wrong)).refusals:
        yield f"  {_json(refusal.as_dict())}"
    yield "Mend each place that is named, and propose again."
