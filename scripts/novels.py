"""Jane Austen's six novels from R's table of the package janeaustenr, read with rdata."""

import zlib
from pathlib import Path
from typing import Any

NOVELS = ("sensesensibility", "prideprejudice", "mansfieldpark", "emma", "northangerabbey",
          "persuasion")  # fmt: skip


def read_novels(folder: Path) -> dict[str, str]:
    """Return the novels.

    Args:
        folder: The one with `Rdata.rdb` and `Rdata.rdx`.

    Returns:
        The text of each, by name.
    """
    index = _converted(zlib.decompress((folder / "Rdata.rdx").read_bytes(), zlib.MAX_WBITS | 32))
    places = {str(key): value for key, value in index["variables"].items()}
    packed, found = (folder / "Rdata.rdb").read_bytes(), {}
    for name in NOVELS:
        start, size = (int(number) for number in places[name])
        # Four bytes say how long the unpacked object is.
        lines = _converted(zlib.decompress(packed[start + 4 : start + size]))
        found[name] = "\n".join(str(line) for line in lines)
    return found


def _converted(raw: bytes) -> Any:
    import rdata

    found = rdata.conversion.convert(rdata.parser.parse_data(raw))
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else found
