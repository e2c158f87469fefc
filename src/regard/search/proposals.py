"""Proposals: modes that somebody, perhaps a language model, wrote as JSON; read as candidates.

What is accepted is data, verified and proved fit for its places; what is refused comes back with
place, problem and remedy. Nothing of a text is ever executed, and reading is bounded in size,
depth, number of nodes and time. A saved mode is a proposal, too. Leaves to others: programs
(`read_program`), demands (`admit`), saying what may be written (`schema`, `guide`).
"""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from regard.catalogue import VARIANTS
from regard.errors import FileError, InputError, RegardError, nearest
from regard.ir.contracts import parse_declared
from regard.ir.files import read_text
from regard.ir.json_fields import MAX_ITEMS, read_name
from regard.ir.json_fields import read_text as check_text
from regard.ir.program import AttentionProgram
from regard.ir.strict_json import parse, shown
from regard.modes.collection import READY
from regard.modes.mode import ROLES, Assignment, Mode
from regard.passes.contracts.prove import prove
from regard.search.admit import find_faults
from regard.search.pointer import (
    Refusal,
    check_list,
    check_object,
    point,
    refusal_at,
    refusal_of,
)
from regard.search.read_program import read_graph
from regard.search.space import Layers, Space, check_fit

MOST_PROPOSALS = 1000
DEEPEST = 64
MOST_PROGRAMS, MOST_KNOB = 32, 4096
# Nodes inside each other repeat what is used twice.
_REPEATED = 4
_LONGEST_CONTRACT, _LONGEST_INTENT = 60, 2000
_OF_A_FILE = ("regard", "version", "hash")
EVERYWHERE = Space({role: Layers(1, 1) for role in ROLES})
"""Demands without a model: every role, nothing read but q, k, v and parameters."""


@dataclass(frozen=True)
class Proposals:
    """What was read.

    Attributes:
        modes: The accepted ones, by the pointer of their proposal; of equal ones the first.
        refusals: What is wrong with the others.
    """

    modes: dict[str, Mode]
    refusals: tuple[Refusal, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return an answer as plain data, for whoever wrote the proposals."""
        accepted = [
            {"pointer": pointer, "name": mode.name, "hash": mode.hash}
            for pointer, mode in self.modes.items()
        ]
        return {"accepted": accepted, "refused": [one.as_dict() for one in self.refusals]}

    def __str__(self) -> str:
        lines = [f"accepted: {mode.name} ({at or '/'})" for at, mode in self.modes.items()]
        return "\n".join([*lines, *(f"refused: {one}" for one in self.refusals)])


def read_proposals(
    path: str | os.PathLike, space: Space | None = None, most_seconds: float = 60.0
) -> Proposals:
    """Read proposals from a file.

    Args:
        path: JSON: a mode, a list of modes, or {"proposals": [modes]}; of a .jsonl, a mode a line,
            so that a line that is no JSON spoils no other.
        space: The places of a model, all of which a mode must fill. None: any places.
        most_seconds: After so long, what was not looked at yet is refused.

    Returns:
        What was accepted, and why the rest was not.

    Raises:
        FileError: If the file itself cannot be read.
    """
    text = read_text(path)
    if Path(path).suffix == ".jsonl":
        lines = [(number, one) for number, one in enumerate(text.split("\n")) if one.strip()]
        return _answer(((point("", number), one) for number, one in lines), space, most_seconds)
    return parse_proposals(text, space, most_seconds)


def parse_proposals(text: str, space: Space | None = None, most_seconds: float = 60.0) -> Proposals:
    """Read proposals from a text.

    Args:
        text: One JSON value, as `read_proposals` takes it.
        space: As for `read_proposals`.
        most_seconds: As for `read_proposals`.

    Returns:
        What was accepted, and why the rest was not.
    """
    return _answer([("", text)], space, most_seconds)


def _answer(
    texts: Iterable[tuple[str, str]], space: Space | None, most_seconds: float
) -> Proposals:
    end = time.monotonic() + most_seconds
    modes: dict[str, Mode] = {}
    refusals: list[Refusal] = []
    hashes: dict[str, str] = {}
    for pointer, value in _candidates(texts, refusals):
        mode, faults = _read_mode(value, pointer, space, end)
        refusals += faults
        if mode is None:
            continue
        if mode.hash in hashes:
            problem = f"the same programs in the same places as {hashes[mode.hash] or '/'}"
            refusals.append(Refusal(pointer, problem, "leave one out"))
            continue
        modes[pointer] = mode
        hashes[mode.hash] = pointer
    return Proposals(modes, tuple(refusals))


def _candidates(
    texts: Iterable[tuple[str, str]], refusals: list[Refusal]
) -> Iterator[tuple[str, Any]]:
    """Yield the JSON value of each proposal and where it stands; note what is none."""
    count = 0
    for pointer, text in texts:
        try:
            value, place = parse(text, DEEPEST), pointer
            if isinstance(value, dict) and "proposals" in value:
                check_object(value, pointer, ("proposals",), _OF_A_FILE)
                value, place = value["proposals"], point(pointer, "proposals")
            listed = isinstance(value, list)
            items = check_list(value, place, MOST_PROPOSALS) if listed else [value]
        except FileError as problem:
            refusals.append(Refusal(pointer, str(problem), "write strict JSON"))
            continue
        except Refusal as problem:
            refusals.append(problem)
            continue
        if not items:
            refusals.append(Refusal(place, "no proposal", "write one mode at least"))
        for number, item in enumerate(items):
            at, count = point(place, number) if listed else place, count + 1
            if count > MOST_PROPOSALS:
                refusals.append(Refusal(at, f"more than {MOST_PROPOSALS} proposals", "write fewer"))
                return
            yield at, item


# ── A mode ───────────────────────────────────────────────────────────────────────────────────
def _read_mode(
    value: Any, pointer: str, space: Space | None, end: float
) -> tuple[Mode | None, list[Refusal]]:
    """Return the mode, or what is wrong with it."""
    demands = space or EVERYWHERE
    try:
        _check_time(pointer, end)
        check_object(value, pointer, ("name", "assignments", "programs"), ("intent", *_OF_A_FILE))
        name = _text(value, "name", pointer)
        intent = _text(value, "intent", pointer) if "intent" in value else ""
        programs = value["programs"]
        if not isinstance(programs, dict) or not 0 < len(programs) <= MOST_PROGRAMS:
            hint = f"an object of 1 … {MOST_PROGRAMS} programs by name belongs here"
            raise Refusal(point(pointer, "programs"), "these are no programs", hint)
        for key in programs:
            _check_name(key, point(pointer, "programs"))
        place = point(pointer, "assignments")
        items = check_list(value["assignments"], place, MAX_ITEMS)
    except Refusal as problem:
        return None, [problem]
    assignments, faults = [], []
    for number, item in enumerate(items):
        try:
            # A proof of one program takes a bounded time, and there may be many.
            _check_time(pointer, end)
            one = _read_assignment(item, point(place, number), programs, pointer, demands)
            assignments.append(one)
        except Refusal as problem:
            if problem not in faults:
                faults.append(problem)
    if faults:
        return None, faults
    try:
        mode = Mode(name, intent, assignments)
        if space is not None:
            check_fit(mode, space)
    except InputError as problem:
        return None, [refusal_of(place, problem)]
    return mode, []


def _check_time(pointer: str, end: float) -> None:
    if time.monotonic() > end:
        problem = "the time was up before this was looked at"
        raise Refusal(pointer, problem, "propose fewer at a time, and simpler masks")


def _check_name(name: str, pointer: str) -> None:
    try:
        read_name(name, "a name of a program")
    except FileError as problem:
        raise refusal_of(pointer, problem) from None


def _text(value: Mapping[str, Any], key: str, pointer: str) -> str:
    try:
        if key == "name":
            return read_name(value[key], ".name")
        return check_text(value[key], f".{key}", _LONGEST_INTENT)
    except FileError as problem:
        raise refusal_at(pointer, problem) from None


def _read_assignment(
    value: Any, pointer: str, programs: dict[str, Any], whole: str, space: Space
) -> Assignment:
    check_object(value, pointer, ("role", "program"), ("layers", "heads"))
    role, key = value["role"], value["program"]
    for name, found, known in (("role", role, space.roles), ("program", key, programs)):
        if not isinstance(found, str) or found not in known:
            hint = nearest(str(found)[:40], (one[:40] for one in known))
            raise Refusal(point(pointer, name), f"{shown(found)} is no {name} here", hint)
    try:
        place = point(point(whole, "programs"), key)
        program = _read_program(programs[key], place, role, key, space)
        return Assignment(role, program, value.get("layers"), value.get("heads"))
    except InputError as problem:
        raise refusal_of(pointer, problem) from None


# ── A program ────────────────────────────────────────────────────────────────────────────────
def _read_program(value: Any, pointer: str, role: str, key: str, space: Space) -> AttentionProgram:
    """Return an admitted program: of a graph, of a ready mode, or of the catalogue."""
    if not isinstance(value, dict):
        raise Refusal(pointer, f"an object belongs here, not {shown(value)}", _FORMS)
    if "ready" in value or "catalogue" in value:
        program = _named_program(value, pointer, role, space)
    else:
        check_object(
            value, pointer, ("output",), ("nodes", "name", "doc", "contracts", *_OF_A_FILE)
        )
        root = read_graph(value, pointer, _REPEATED * space.most_nodes)
        name = _text(value, "name", pointer) if "name" in value else key
        doc = _text(value, "doc", pointer) if "doc" in value else ""
        program = AttentionProgram(root, name, doc)
    faults = find_faults(program.root, role, space)
    if faults:
        fault = faults[0]
        raise Refusal(pointer, f"not fit for role '{role}': {fault.problem}", fault.remedy)
    promised = _promises(value.get("contracts", []), point(pointer, "contracts"), program)
    return AttentionProgram(program.root, program.name, program.doc, promised)


_FORMS = 'write {"output": {"node": "Output", …}}, {"ready": name} or {"catalogue": name}'


def _promises(value: Any, pointer: str, program: AttentionProgram) -> tuple[str, ...]:
    """Return declared contracts, each of which must be proved."""
    found = []
    for number, text in enumerate(check_list(value, pointer, 16)):
        place = point(pointer, number)
        if not isinstance(text, str) or len(text) > _LONGEST_CONTRACT:
            raise Refusal(place, f"{shown(text)} is no contract", "such as 'causal'")
        try:
            contract = parse_declared(text)
        except RegardError as problem:
            raise refusal_of(place, problem) from None
        if contract.feature or not prove(program.root, contract).proved:
            raise Refusal(place, f"'{text}' could not be proved", "leave it out")
        found.append(text)
    return tuple(found)


def _named_program(
    value: dict[str, Any], pointer: str, role: str, space: Space
) -> AttentionProgram:
    kind = "ready" if "ready" in value else "catalogue"
    check_object(value, pointer, (kind,), ("knobs",))
    name, knobs = value[kind], value.get("knobs", {})
    known = offered(role, space)[kind]
    if not isinstance(name, str) or name not in known:
        hint = nearest(str(name)[:40], known)
        raise Refusal(point(pointer, kind), f"{shown(name)} has no program for role '{role}'", hint)
    place = point(pointer, "knobs")
    if not isinstance(knobs, dict):
        raise Refusal(place, f"an object belongs here, not {shown(knobs)}")
    for key, number in knobs.items():
        _check_knob(key, number, known[name], place)
    try:
        if kind == "catalogue":
            return VARIANTS[name](**knobs)
        return READY[name].fn(**knobs)[space.like(role)]
    except (RegardError, ArithmeticError, ValueError, TypeError) as problem:
        hint = "take values nearer to those it comes with"
        # The lines below the first show whose code called, which is nobody's affair.
        what = str(problem).partition("\n")[0]
        raise Refusal(place, f"these values make no program: {what}", hint) from None


def _check_knob(key: str, value: Any, knobs: Mapping[str, Any], pointer: str) -> None:
    numbers = {name: one for name, one in knobs.items() if type(one) in (int, float)}
    if key not in numbers:
        hint = nearest(key[:40], numbers) if numbers else "it has none"
        raise Refusal(point(pointer, key), f"{shown(key)} is no knob", hint)
    whole = type(numbers[key]) is int
    right = type(value) is int if whole else type(value) in (int, float)
    if not right or not 0 < abs(value) <= MOST_KNOB or math.isnan(value):
        kind = "a whole number" if whole else "a number"
        problem = f"{shown(value)} is not {kind} that is at most {MOST_KNOB} and not 0"
        raise Refusal(point(pointer, key), problem, f"it comes as {numbers[key]}")


def offered(role: str, space: Space) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what proposals may name instead of writing it.

    Args:
        role: A role of the space.
        space: What is searched.

    Returns:
        Under "ready" and "catalogue", names of programs that the role admits, and their knobs.
    """
    like = space.like(role)
    return _offered(like, space.may_read, space.most_nodes, space.most_parameters)


@lru_cache(maxsize=16)
def _offered(
    role: str, may_read: frozenset[str], most_nodes: int, most_parameters: int
) -> dict[str, dict[str, dict[str, Any]]]:
    limits = {"most_nodes": most_nodes, "most_parameters": most_parameters}
    space = Space({role: Layers(1, 1)}, may_read=may_read, **limits)
    ready = {
        name: mode.knobs
        for name, mode in READY.items()
        if role in mode.programs and not find_faults(mode.programs[role].root, role, space)
    }
    catalogue = {
        name: variant.knobs
        for name, variant in VARIANTS.items()
        if not find_faults(variant.program.root, role, space)
    }
    return {"ready": ready, "catalogue": catalogue}
