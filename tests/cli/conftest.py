"""The file of programs that commands read."""

import pytest


@pytest.fixture
def file(request, tmp_path):
    """Write the FILES of a test's module, and return the path of mine.py."""
    for name, text in request.module.FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / "mine.py"
