"""A mode: which program each role, layer and group of heads runs, with a name and an intent.

Leaves to others: putting it into a model (`hf`), its programs' own form (`ir`).
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regard.errors import FileError, InputError, nearest, no_program
from regard.ir import json_file
from regard.ir.files import read_json, write_text
from regard.ir.json_fields import check_keys, read_int, read_name, read_text
from regard.ir.program import AttentionProgram, program_of_file
from regard.ir.strict_json import parse, shown

# By what a layer does, and for self-attention by what its part of a model reads.
ROLES = ("encoder", "decoder", "cross", "vision", "text", "audio")
VERSION = 1
_KEYS = ("regard", "version", "name", "intent", "hash", "assignments", "programs")
_ASSIGNMENT_KEYS = ("role", "layers", "heads", "program")
Span = tuple[int, int] | None


@dataclass(frozen=True)
class Assignment:
    """One program in one place.

    Attributes:
        role: "encoder" (self-attention that sees everything), "decoder" (that sees no later
            token) or "cross"; or "vision", "text" or "audio": self-attention of either kind, in
            the part of a model that reads images and video, words, or sound.
        program: The program.
        layers: (first layer, layer after the last); None for all.
        heads: (first head, head after the last); None for all.
    """

    role: str
    program: AttentionProgram
    layers: Span = None
    heads: Span = None

    def __post_init__(self) -> None:
        """Check the role and the spans."""
        if self.role not in ROLES:
            raise InputError(f"'{self.role}' is no role of attention; {nearest(self.role, ROLES)}")
        if not isinstance(self.program, AttentionProgram):
            raise InputError(f"role '{self.role}' needs a program, not {no_program(self.program)}")
        for name in ("layers", "heads"):
            span = getattr(self, name)
            if not _is_span(span):
                raise InputError(
                    f"{name}={span!r} of role '{self.role}' must be (first, after the last)"
                )
            object.__setattr__(self, name, span and tuple(span))


@dataclass(frozen=True)
class Mode:
    """Programs for the attention of a model. What it does not mention stays as it is.

    Attributes:
        name: What it is called.
        intent: What it is for, in words, e.g. "reads locally, keeps four global anchors".
        assignments: The programs in their places; a later one wins over an earlier one.
    """

    name: str
    intent: str
    assignments: tuple[Assignment, ...]

    def __init__(
        self,
        name: str,
        intent: str = "",
        assignments: Sequence[Assignment] = (),
        **programs: AttentionProgram,
    ) -> None:
        """Make a mode.

        Args:
            name: What it is called.
            intent: What it is for.
            assignments: Programs in their places.
            **programs: Shorthand: a program for a whole role, e.g. `cross=additive`.

        Raises:
            InputError: If a role is unknown, nothing is assigned, or name or intent is no text.
        """
        for word, text in (("name", name), ("intent", intent)):
            if not isinstance(text, str):
                raise InputError(f"the {word} of a mode is text, not {text!r}")
        short = tuple(Assignment(role, program) for role, program in programs.items())
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "intent", intent)
        object.__setattr__(self, "assignments", (*assignments, *short))
        if not self.assignments:
            raise InputError(
                f"mode '{name}' assigns no program; give encoder=…, decoder=… or cross=…"
            )

    def at(
        self, role: str, layer: int, heads: int, numbers: Mapping[str, int] | None = None
    ) -> list[tuple[tuple[int, int], AttentionProgram]] | None:
        """Return what a layer runs.

        Args:
            role: Its role.
            layer: Its number among the layers of that role.
            heads: How many heads it has.
            numbers: Its number among the layers of each role it has, where it has several.

        Returns:
            ((first head, head after the last), program) pairs that cover all heads, or None if the
            mode leaves the layer as it is.

        Raises:
            InputError: If some heads of the layer are assigned and others are not.
        """
        places = {**(numbers or {}), role: layer}
        chosen: list[AttentionProgram | None] = [None] * heads
        for one in self.assignments:
            if one.role not in places or not _within(places[one.role], one.layers):
                continue
            start, stop = one.heads or (0, heads)
            if stop > heads:
                raise InputError(
                    f"mode '{self.name}': heads {start}:{stop} of role '{one.role}'; "
                    f"there are {heads}"
                )
            chosen[start:stop] = [one.program] * (stop - start)
        if all(program is None for program in chosen):
            return None
        groups: list[tuple[tuple[int, int], AttentionProgram]] = []
        for head, program in enumerate(chosen):
            if program is None:
                raise InputError(
                    f"mode '{self.name}' assigns no program to head {head} of {role} layer {layer}"
                )
            if groups and groups[-1][1] == program:
                groups[-1] = ((groups[-1][0][0], head + 1), program)
            else:
                groups.append(((head, head + 1), program))
        return groups

    @property
    def hash(self) -> str:
        """64 hexadecimal digits over assignments and their programs' hashes; not over the name."""
        places = [[a.role, a.layers, a.heads, a.program.hash] for a in self.assignments]
        return hashlib.sha256(json.dumps(places).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the mode as plain data, its programs included once each."""
        programs = {one.program.hash: one.program for one in self.assignments}
        return {
            "regard": "mode",
            "version": VERSION,
            "name": self.name,
            "intent": self.intent,
            "hash": f"sha256:{self.hash}",
            "assignments": [
                {
                    "role": one.role,
                    "layers": list(one.layers) if one.layers else None,
                    "heads": list(one.heads) if one.heads else None,
                    "program": one.program.hash,
                }
                for one in self.assignments
            ],
            "programs": {
                key: json_file.to_dict(p.root, name=p.name, doc=p.doc, contracts=p.contracts)
                for key, p in programs.items()
            },
        }

    @classmethod
    def from_dict(cls, value: Any) -> "Mode":
        """Read a mode from plain data; runs no code.

        Args:
            value: What `to_dict` returned, or strict JSON read from a file.

        Returns:
            The mode.

        Raises:
            FileError: If something is wrong; the message names the place.
        """
        if not isinstance(value, dict) or value.get("regard") != "mode":
            raise FileError('this is no mode; one starts with {"regard": "mode"')
        version = read_int(value.get("version"), "version")
        if version < 1:
            raise FileError(f"version: {version} was never written; the first is 1")
        if version > VERSION:
            raise FileError(
                f"version: written by a newer Regard (version {version}, this one reads "
                f"{VERSION}); upgrade"
            )
        check_keys(value, _KEYS, "")
        name, intent = (
            read_name(value["name"], "name"),
            read_text(value["intent"], "intent", 10_000),
        )
        claimed = read_name(value["hash"], "hash")
        programs = _read_programs(value["programs"])
        assignments = _read_assignments(value["assignments"], programs)
        try:
            mode = cls(name, intent, assignments)
        except InputError as problem:
            raise FileError(f"assignments: {problem}") from None
        if claimed != f"sha256:{mode.hash}":
            raise FileError(
                "hash: the mode was changed after this hash was made; "
                f"its own is sha256:{mode.hash}"
            )
        return mode

    def __str__(self) -> str:
        lines = [f"mode {self.name}" + (f": {self.intent}" if self.intent else "")]
        for one in self.assignments:
            place = "".join(
                f", {word} {span[0]}–{span[1] - 1}"
                for word, span in (("layers", one.layers), ("heads", one.heads))
                if span
            )
            lines.append(f"  {one.role}{place}: {one.program.name}")
        return "\n".join(lines)


def _within(number: int, span: Span) -> bool:
    return span is None or span[0] <= number < span[1]


def _is_span(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, tuple | list) or [type(item) for item in value] != [int, int]:
        return False
    return 0 <= value[0] < value[1]


def _read_programs(value: Any) -> dict[str, AttentionProgram]:
    if not isinstance(value, dict):
        raise FileError(f"programs: an object belongs here, not {shown(value)}")
    programs = {}
    for key, item in value.items():
        place = f"programs.{key[:12]}"
        try:
            programs[key] = program_of_file(*json_file.from_dict(item))
        except FileError as problem:
            raise FileError(f"{place}: {problem}") from None
        if programs[key].hash != key:
            raise FileError(
                f"{place}: the program under this key has the hash {programs[key].hash}"
            )
    return programs


def _read_assignments(value: Any, programs: dict[str, AttentionProgram]) -> list[Assignment]:
    if not isinstance(value, list):
        raise FileError(f"assignments: a list belongs here, not {shown(value)}")
    made, unused = [], dict(programs)
    for number, item in enumerate(value):
        place = f"assignments[{number}]"
        fields = check_keys(item, _ASSIGNMENT_KEYS, place)
        role = read_name(fields["role"], f"{place}.role")
        key = read_name(fields["program"], f"{place}.program")
        if key not in programs:
            raise FileError(f"{place}.program: {shown(key)} is not among the programs of this file")
        try:
            made.append(Assignment(role, programs[key], fields["layers"], fields["heads"]))
        except InputError as problem:
            raise FileError(f"{place}: {problem}") from None
        unused.pop(key, None)
    if unused:
        raise FileError(f"programs.{next(iter(unused))[:12]}: no assignment uses this program")
    return made


def save_mode(mode: Mode, path: str | os.PathLike) -> None:
    """Write a mode to a file, in one step.

    Args:
        mode: The mode.
        path: Where.

    Raises:
        FileError: If the file cannot be written, or holds more than a file may.
    """
    text = json.dumps(mode.to_dict(), ensure_ascii=False, indent=1) + "\n"
    try:
        # Whatever is saved can be loaded: better to hear of it now than when the file is needed.
        Mode.from_dict(parse(text))
    except FileError as problem:
        raise FileError(f"{path}: {problem}") from None
    write_text(text, path)


def load_mode(path: str | os.PathLike) -> Mode:
    """Read a mode from a file; runs no code of it.

    Args:
        path: A file that `save_mode` wrote.

    Returns:
        The mode.

    Raises:
        FileError: If the file cannot be read or is no mode; the message names file and place.
    """
    value = read_json(path)
    try:
        return Mode.from_dict(value)
    except FileError as problem:
        raise FileError(f"{path}: {problem}") from None
