"""Comparing with text kept under tests/golden; REGARD_UPDATE_GOLDEN=1 rewrites it."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "golden"


def assert_golden(name: str, found: str) -> None:
    """Fail unless the text is the one kept in tests/golden/NAME."""
    path = _FOLDER / name
    if os.environ.get("REGARD_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    assert found == kept, f"{path.name} differs; look, then set REGARD_UPDATE_GOLDEN=1"
