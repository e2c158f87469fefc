"""Where built libraries are kept, and which files there may be believed.

A library that is loaded runs with all rights of its user. So nothing is read from a folder or file
that another user owns or could have written. Leaves to others: what the files mean (`library`).
"""

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Behind them come random letters; see `remove_leftovers`.
BUILDING = ".regard-build-"
# Longer than any build may take.
_LEFT_AFTER_SECONDS = 3600.0
# After this long it is quicker to build than to wait for who builds.
_LOCK_SECONDS, _POLL_SECONDS = 120.0, 0.01
_OURS = re.compile(
    r"[0-9a-f]{64}\.(so|cpp|json|lock)|(compiler|machine|figures)-[0-9a-f]{64}\.json"
)


def cache_folder() -> Path:
    """Return where libraries are kept; it need not exist.

    Returns:
        `REGARD_CACHE_DIR` if that is set, else a folder of the user's cache.
    """
    if chosen := os.environ.get("REGARD_CACHE_DIR"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/regard/cpu").expanduser()
    # A relative path is to be ignored (XDG Base Directory Specification 0.8).
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    caches = caches if caches.is_absolute() else Path("~/.cache").expanduser()
    return caches / "regard" / "cpu"


def open_folder() -> Path:
    """Return the cache folder, made if need be.

    Returns:
        A folder that only its user can write to.

    Raises:
        OSError: If there is no such folder, with the reason.
    """
    folder = cache_folder()
    try:
        # Of folders made on the way, the last alone takes the mode.
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{folder}: it is no folder") from None
    _check(folder, os.stat(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: it is not writable")
    return folder


def read_trusted(path: Path) -> bytes:
    """Return what a file holds.

    Args:
        path: A file.

    Returns:
        All of its bytes.

    Raises:
        OSError: If it cannot be read, or if another user owns it or could have written it.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        _check(path, os.fstat(file.fileno()))
        return file.read()


def _check(path: Path, found: os.stat_result) -> None:
    """Raise an error if anyone but this user could have written it."""
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path}: it belongs to user {found.st_uid}, not to you")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionError(f"{path}: others may write to it (mode {mode:o}); chmod go-w it")


def write_private(path: Path, data: bytes) -> None:
    """Write a file in one step, for this user alone.

    Args:
        path: Where.
        data: What it will hold.

    Raises:
        OSError: If it cannot be written; then nothing is left.
    """
    handle, beside = tempfile.mkstemp(prefix=BUILDING, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Keep other processes out while this lasts, or until patience ends.

    The lock saves work and is not needed for correctness: files appear in one step. The system
    drops it when its process dies.

    Args:
        path: The file that is locked; it is removed behind.

    Yields:
        Whether the others are kept out.

    Raises:
        OSError: If the file cannot be made.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        held = _wait_for(file, time.monotonic() + _LOCK_SECONDS)
        try:
            yield held
        finally:
            if held:
                # Whoever waits for this file gets its lock at once, and finds the library built.
                path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _wait_for(file: int, until: float) -> bool:
    """Take the lock of an open file; False if another process still has it in the end."""
    import fcntl  # not on Windows, where no library is built

    while True:
        try:
            # Not flock: a forked child would hold that lock for as long as it lives.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                return False
        except OSError:
            # There are file systems without locks.
            return False
        time.sleep(_POLL_SECONDS)


def remove_leftovers(folder: Path) -> None:
    """Remove what builds left behind that were killed.

    Args:
        folder: The cache folder.
    """
    for path in folder.iterdir():
        ours = _OURS.fullmatch(path.name) and path.suffix == ".lock"
        if not ours and not path.name.startswith(BUILDING):
            continue
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _LEFT_AFTER_SECONDS:
                _remove(path)


def remove_all(folder: Path) -> None:
    """Remove every file of ours; whatever else lies there stays.

    Args:
        folder: The cache folder.

    Raises:
        OSError: If a file cannot be removed.
    """
    remove_leftovers(folder)
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
