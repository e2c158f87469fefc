"""C++ source text to a loaded library: built once, kept on disk, loaded from there ever after.

Beside KEY.so lie KEY.cpp, its source, and KEY.json, which says what it is; the JSON is written last
and holds the checksum, so that a library without its own JSON counts for nothing. Where nothing can
be kept, a library is built in a temporary folder, with one warning. Leaves to others: the source
(`emit`), the compiler (`compiler`), trust in files (`folder`).
"""

import ctypes
import datetime
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from regard.backends.cpu.compiler import Compiler, compile_library, find_compiler
from regard.backends.cpu.folder import (
    BUILDING,
    cache_folder,
    locked,
    open_folder,
    read_trusted,
    remove_all,
    remove_leftovers,
    write_private,
)
from regard.errors import FileError, UnsupportedError

TEMPLATES = Path(__file__).parent / "template"
_LINES_OF_MESSAGE = 12
_DISK_IS_FULL = ("No space left on device", "Disk quota exceeded")
_ROOM_BYTES = 1 << 20

_loaded: dict[tuple[str, tuple[str, ...]], ctypes.CDLL] = {}
_locks: dict[tuple[str, tuple[str, ...]], threading.Lock] = {}
_warned: set[str] = set()

if hasattr(os, "register_at_fork"):
    # The thread that would release a lock does not live on in a child.
    os.register_at_fork(after_in_child=_locks.clear)


@dataclass(frozen=True)
class Entry:
    """A library that is kept.

    Attributes:
        name: What it was called when it was built.
        path: The library.
        size_bytes: Its size.
        built: When, in seconds since 1970.
        compiler: What built it, such as "gcc 12.2.0".
        build_seconds: How long that took.
    """

    name: str
    path: Path
    size_bytes: int
    built: float
    compiler: str
    build_seconds: float


@dataclass(frozen=True)
class _Job:
    """A library that is asked for."""

    source: str
    name: str
    defines: tuple[str, ...]
    compiler: Compiler
    key: str


def load_library(source: str, name: str, defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Return a library built from C++ source text; equal text is built and loaded once.

    Args:
        source: The text; it may include the headers in `template/`.
        name: For people: a program's name and a few letters of its hash.
        defines: Macros: "NAME" or "NAME=VALUE".

    Returns:
        The loaded library; the same object for the same text and macros.

    Raises:
        UnsupportedError: If there is no compiler, if the text does not compile, or if there is no
            room for the library.
    """
    asked = (source, defines)
    found = _loaded.get(asked)
    if found is None:
        with _locks.setdefault(asked, threading.Lock()):
            found = _loaded.get(asked) or _find_or_build(_job(source, name, defines))
            _loaded[asked] = found
    return found


def _job(source: str, name: str, defines: tuple[str, ...]) -> _Job:
    compiler = find_compiler()
    if isinstance(compiler, str):
        raise UnsupportedError(f"{name}: {compiler}")
    # repr keeps apart what joining would run together.
    parts = repr((source, defines, headers_digest(), compiler.identity))
    key = hashlib.sha256(parts.encode(errors="surrogateescape")).hexdigest()
    return _Job(source, name, defines, compiler, key)


@functools.cache
def headers_digest() -> str:
    """Return the checksum of all headers; they are read once per process.

    Returns:
        A sha256 in hexadecimal letters, of their names and contents.
    """
    headers = sorted(path for path in TEMPLATES.rglob("*") if path.is_file())
    parts = [(path.relative_to(TEMPLATES).as_posix(), path.read_bytes()) for path in headers]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _find_or_build(job: _Job) -> ctypes.CDLL:
    try:
        folder = open_folder()
        return _load_kept(folder, job) or _build_and_keep(folder, job)
    except OSError as problem:
        _warn(problem)
        return _build_apart(job)


def _load_kept(folder: Path, job: _Job) -> ctypes.CDLL | None:
    """Load a library from disk; None if there is none, or if it is not what was built."""
    path = folder / f"{job.key}.so"
    try:
        facts = json.loads(read_trusted(path.with_suffix(".json")))
        data = read_trusted(path)
        intact = facts["size_bytes"] == len(data) and facts["sha256"] == _sha256(data)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return ctypes.CDLL(str(path)) if intact else None


def _build_and_keep(folder: Path, job: _Job) -> ctypes.CDLL:
    with locked(folder / f"{job.key}.lock"):
        # Another process may have built it while this one waited.
        found = _load_kept(folder, job)
        if found is not None:
            return found
        remove_leftovers(folder)
        beside = tempfile.TemporaryDirectory(
            prefix=BUILDING, dir=folder, ignore_cleanup_errors=True
        )
        with beside as name:
            _build_in(Path(name), folder, job)
    return ctypes.CDLL(str(folder / f"{job.key}.so"))


def _build_in(beside: Path, folder: Path, job: _Job) -> None:
    """Build a library and move it, its source and its facts to where they are kept."""
    kept, began = folder / f"{job.key}.so", time.monotonic()
    said = _compile(job, beside)
    os.replace(beside / "kernel.cpp", kept.with_suffix(".cpp"))
    if said is not None:
        raise _failure(job, said, kept.with_suffix(".cpp"))
    seconds = time.monotonic() - began
    data = (beside / "kernel.so").read_bytes()
    facts = {
        "name": job.name,
        "built": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "compiler": f"{job.compiler.kind} {job.compiler.version}",
        "flags": [*job.compiler.flags, *(f"-D{define}" for define in job.defines)],
        "build_seconds": round(seconds, 3),
        "size_bytes": len(data),
        "sha256": _sha256(data),
    }
    os.replace(beside / "kernel.so", kept)
    write_private(kept.with_suffix(".json"), (json.dumps(facts, indent=2) + "\n").encode())


def _compile(job: _Job, beside: Path) -> str | None:
    """Build kernel.so from kernel.cpp; return what the compiler said if the text is at fault."""
    source, library = beside / "kernel.cpp", beside / "kernel.so"
    source.write_text(job.source, encoding="utf-8")
    source.chmod(0o600)
    said = compile_library(job.compiler, source, library, TEMPLATES, job.defines)
    if said is None:
        library.chmod(0o700)
    elif any(words in said for words in _DISK_IS_FULL) or _is_full(beside):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(beside.parent))
    return said


def _is_full(folder: Path) -> bool:
    # A linker that meets a full disk may die without a word.
    return shutil.disk_usage(folder).free < _ROOM_BYTES


def _build_apart(job: _Job) -> ctypes.CDLL:
    """Build a library in a folder that is gone once it is loaded."""
    try:
        apart = Path(tempfile.mkdtemp(prefix="regard-"))
    except OSError as problem:
        raise _no_room(job, problem) from None
    try:
        said = _compile(job, apart)
        if said is not None:
            raise _failure(job, said, apart / "kernel.cpp")
        found = ctypes.CDLL(str(apart / "kernel.so"))
    except OSError as problem:
        shutil.rmtree(apart, ignore_errors=True)
        raise _no_room(job, problem) from None
    shutil.rmtree(apart, ignore_errors=True)
    return found


def _failure(job: _Job, said: str, source: Path) -> UnsupportedError:
    lines = said.splitlines()
    if len(lines) > _LINES_OF_MESSAGE:
        lines[_LINES_OF_MESSAGE:] = [f"… and {len(lines) - _LINES_OF_MESSAGE} more lines"]
    shown = "\n".join(f"  {line}" for line in lines)
    command = f"{job.compiler.path} ({job.compiler.kind} {job.compiler.version})"
    return UnsupportedError(
        f"{job.name}: {command} does not compile its kernel\n{shown}\nits source: {source}"
    )


def _no_room(job: _Job, problem: OSError) -> UnsupportedError:
    return UnsupportedError(
        f"{job.name}: its kernel can be built and loaded neither in the cache folder nor in the "
        f"temporary one: {problem}; set REGARD_CACHE_DIR or TMPDIR to a folder with room"
    )


def _warn(problem: OSError) -> None:
    """Say why nothing is kept, once."""
    if _warned:
        return
    _warned.add(str(problem))
    warnings.warn(
        f"compiled kernels are not kept in {cache_folder()}: {problem}; each process builds its "
        "own; set REGARD_CACHE_DIR to a folder that only you can write to",
        stacklevel=2,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cached() -> list[Entry]:
    """Return the libraries that are kept, the newest first.

    Returns:
        One entry for each; files that cannot be read or trusted are passed over.
    """
    found = []
    for path in cache_folder().glob("*.json"):
        try:
            found.append(_entry(path))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return sorted(found, key=lambda entry: entry.built, reverse=True)


def _entry(path: Path) -> Entry:
    facts, library = json.loads(read_trusted(path)), path.with_suffix(".so")
    built = datetime.datetime.fromisoformat(facts["built"]).timestamp()
    size_bytes, seconds = library.stat().st_size, float(facts["build_seconds"])
    return Entry(str(facts["name"]), library, size_bytes, built, str(facts["compiler"]), seconds)


def clear() -> int:
    """Remove the libraries that are kept; those that are loaded go on working.

    Returns:
        How many there were.

    Raises:
        FileError: If one cannot be removed.
    """
    folder, count = cache_folder(), len(cached())
    try:
        if folder.is_dir():
            remove_all(folder)
    except OSError as problem:
        raise FileError(f"{folder}: not all files could be removed: {problem}") from None
    return count
