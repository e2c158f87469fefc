"""Every ```python block of README.md and docs/ runs.

The blocks of a page share one namespace, in order, in an empty folder. A fragment that is
not meant to run alone is fenced as ```py, which looks the same on the page.
"""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```python *\n(.*?)^\1``` *$", flags=re.MULTILINE | re.DOTALL)


def blocks_of(text: str) -> list[str]:
    """The page's blocks, each moved down to its own line of the page.

    So a traceback, and a program that shows its own source, point into the page itself.
    """
    return [
        "\n" * text.count("\n", 0, block.start(2)) + textwrap.dedent(block.group(2))
        for block in BLOCK.finditer(text)
    ]


def run_page(page: Path, text: str) -> dict[str, object]:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(text):
        exec(compile(block, str(page), "exec"), namespace)
    return namespace


PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if blocks_of(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, page.read_text(encoding="utf-8"))


PAGE = """
```python
a = 1
```
- nested
  ```python
  b = a + 1
  if b:
      c = b + 1
  ```
```py
this does not run
```
```text
nor does this
```
"""


def test_blocks_share_a_namespace_and_fragments_are_left_alone():
    found = run_page(Path("page.md"), PAGE)
    assert (found["a"], found["b"], found["c"]) == (1, 2, 3)


def test_error_points_at_the_line_of_the_page():
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(Path("page.md"), "one\n\n```python\nx = 1\nx / 0\n```\n")
    assert caught.traceback[-1].lineno == 4  # counted from 0: the fifth line
