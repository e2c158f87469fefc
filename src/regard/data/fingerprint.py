"""The fingerprint of files: one hash that changes when any of their bytes does."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from regard.errors import DataError

_BLOCK = 1 << 20


def fingerprint(files: Iterable[str]) -> str:
    """Return the sha256 of files.

    Args:
        files: Files, or folders of them, in order.

    Returns:
        Hexadecimal digits: those of the file if there is one alone, else of all digits in order.

    Raises:
        DataError: If a file cannot be read.
    """
    found = [_digest(place) for name in files for place in _parts(Path(name))]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _parts(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    yield from sorted(path for path in place.rglob("*") if path.is_file())


def _digest(place: Path) -> str:
    digest = hashlib.sha256()
    try:
        with place.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as problem:
        raise DataError(f"{place}: {(problem.strerror or str(problem)).lower()}") from None
    return digest.hexdigest()
