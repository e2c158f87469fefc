"""The sittings of a run: under which versions, code and programs it began and was continued.

A run continued under others than it began with goes on, and says so: an update of a library must
not cost a long run, but the promise that stopping changes nothing then no longer holds. Other
data, settings or programs are refused (`folder`). Leaves to others: the report's look (`view`).
"""

import hashlib
import json
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from regard.modes import Mode
from regard.tasks.kinds import Task
from regard.train import processes
from regard.train.folder import RunFolder
from regard.train.lines import read_lines

PACKAGES = ("regard", "torch", "transformers", "accelerate", "tokenizers", "numpy", "sacrebleu")


class SittingWarning(UserWarning):
    """A run goes on under other versions, code or processes than it began with."""


def versions() -> dict[str, str]:
    """Return the versions of what a run depends on.

    Returns:
        Versions by name, Python's among them.
    """
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def code_hash(folder: Path | None = None) -> str:
    """Return a fingerprint of source files.

    Args:
        folder: Where they are; None: those of this package.

    Returns:
        The SHA-256 of all files but compiled ones, with their names.
    """
    folder = folder or Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def sitting(task: Task, mode: Mode | None, step: int) -> dict[str, Any]:
    """Return what a run is about to go on with.

    Args:
        task: The task, with the fingerprint of its data.
        mode: Its mode.
        step: The step it goes on from.

    Returns:
        Plain data: `step`, `versions`, `code` (SHA-256 of Regard's source), `programs` (that of the
        files the task's programs stand in), `data`, `mode`, `processes`.
    """
    return {
        "step": step,
        "versions": versions(),
        "code": code_hash(),
        "programs": dict(_program_files(task.mode)),
        "data": task.fingerprint,
        "mode": None if mode is None else mode.hash,
        "processes": processes.count(),
    }


def _program_files(mode: str | Mapping[str, str] | None) -> Iterator[tuple[str, str]]:
    """Yield the names of files that a task's programs stand in, and their SHA-256."""
    references = mode.values() if isinstance(mode, Mapping) else [mode] if mode else []
    for reference in references:
        path = Path(reference if Path(reference).is_file() else reference.rpartition(":")[0])
        if path.is_file():
            yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def write_sitting(folder: RunFolder, now: Mapping[str, Any]) -> None:
    """Add a sitting to a run, and warn if it is unlike the one before.

    Args:
        folder: The run folder.
        now: What `sitting` returned.
    """
    before = read_sittings(folder)
    if before and (changes := list(_changes(before[-1], now))):
        message = (
            f"{folder.path}: continued at step {now['step']}, but {'; '.join(changes)}; the run "
            "may not end with the weights it would have had"
        )
        warnings.warn(message, SittingWarning, stacklevel=3)
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in (*before, now)]
    folder.write(folder.sittings, "".join(lines))


def read_sittings(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the sittings of a run.

    Args:
        folder: The run folder.

    Returns:
        As `sitting` returned them, in order.

    Raises:
        FileError: If a line of their file is none.
    """
    keys = ("step", "versions", "code", "programs", "data", "mode", "processes")
    return read_lines(folder.sittings, keys)


def describe_sittings(sittings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a report says of where a run came from.

    Args:
        sittings: As `sitting` returned them, in order.

    Returns:
        Hashes of what the run began with, processes, and a line for each time it was continued.
    """
    if not sittings:
        return {}
    first = sittings[0]
    continued = [
        f"at step {now['step']}: {'; '.join(_changes(before, now)) or 'nothing had changed'}"
        for before, now in pairwise(sittings)
    ]
    return {
        "processes": first["processes"],
        "sha256": {
            "regard": first["code"],
            **{name: first[name] for name in ("data", "mode") if first[name]},
            **first["programs"],
        },
        **({"continued": continued} if continued else {}),
    }


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in ("versions", "programs"):
        # A run may be continued from the task it keeps, which names its own mode's file.
        for key in sorted({*before[name]} & {*now[name]}):
            was, is_ = before[name][key], now[name][key]
            if was != is_ and name == "versions":
                yield f"{key} was {was} and is {is_}"
            elif was != is_:
                yield f"the file {key} is another"
    if before["code"] != now["code"]:
        yield "the code of regard is another"
    if before["processes"] != now["processes"]:
        yield f"{before['processes']} processes became {now['processes']}"
