"""The tables of docs/errors.md, from the ways to be wrong that are tested.

`python -m tests.cli.error_page` writes them.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.cli.test_data import WRONG
from tests.cli.wrong import PARTS

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
BEGIN, END = "<!-- The ways to be wrong, by tests.cli.error_page. -->", "<!-- The end of them. -->"


def tables() -> str:
    """Return a table for each part: what is wrong, and how the answer to it begins."""
    parts = {"Task files and data": {name: way[2] for name, way in WRONG.items()}}
    parts |= {part: {k: way.message for k, way in ways.items()} for part, ways in PARTS.items()}
    return "\n\n".join([BEGIN, *(_table(*one) for one in parts.items()), END])


def _table(part: str, ways: Mapping[str, str]) -> str:
    rows = [f"| {name} | `{_cell(said)}` |" for name, said in ways.items()]
    return "\n".join([f"## {part}", "", "| what is wrong | the answer has |", "|---|---|", *rows])


def _cell(said: str) -> str:
    return said.replace("{}/", "").replace("`", "'").replace("|", "\\|")


def main() -> None:
    """Write the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + tables() + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
