"""What was measured, kept for later processes in a file for each thing that was measured.

Before: {"what": "tiles", "program": "5f0c…", "dtype": "bfloat16", "device": "NVIDIA H200"}.
After: figures-KEY.json in the cache folder, which holds that and what was found. KEY is the
checksum of that and of the versions of what it depends on; a file appears in one step, so that two
processes may write at once. Leaves to others: the folder (`cpu/folder`), measuring.
"""

import hashlib
import importlib.metadata
import json
import warnings
from functools import cache
from typing import Any

from regard.backends.cpu.folder import cache_folder, open_folder, read_trusted, write_private

# Plain data, as JSON holds it.
About = dict[str, Any]

# None where a file is not what was written, which is said once.
_known: dict[str, About | None] = {}


def known_figures(about: About) -> About | None:
    """Return what was measured before, by this process or another.

    Args:
        about: What was measured, where, on inputs like which.

    Returns:
        What `keep_figures` was given; None if nothing is kept, or with a warning if the file is not
        what was written.
    """
    full = about | _versions()
    key = _key(full)
    if key not in _known:
        path = cache_folder() / f"figures-{key}.json"
        try:
            kept = json.loads(read_trusted(path))
            if kept["about"] != full or not isinstance(kept["found"], dict):
                raise ValueError("it tells of something else")
            _known[key] = kept["found"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as problem:
            warnings.warn(
                f"measured figures in {path} are ignored: {problem}; `regard cache --clear` "
                "removes what is kept",
                stacklevel=2,
            )
            _known[key] = None
    return _known[key]


def keep_figures(about: About, found: About) -> None:
    """Keep what was measured for this process and, if there is a cache folder, for later ones.

    Args:
        about: What was measured, as for `known_figures`.
        found: What came out.
    """
    full = about | _versions()
    key = _key(full)
    _known[key] = found
    data = json.dumps({"about": full, "found": found}, indent=2) + "\n"
    try:
        write_private(open_folder() / f"figures-{key}.json", data.encode())
    except OSError:
        # Without a folder, the next process measures again.
        return


def size_class(size: int) -> int:
    """Return the power of two that sizes are told apart by: 16 for 9 … 16."""
    return 1 << max(0, size - 1).bit_length()


@cache
def _versions() -> About:
    from regard import __version__

    found = {"regard": __version__}
    for package in ("torch", "triton"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ""
    return found


def _key(full: About) -> str:
    return hashlib.sha256(json.dumps(full, sort_keys=True).encode()).hexdigest()
