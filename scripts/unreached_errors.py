"""Lists the `raise` lines of src/regard that no test reached.

An error nobody provoked is an error whose wording nobody read. This reads the data file that
`coverage run -m pytest` leaves; `make errors` does both.
"""

import argparse
import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def raise_lines(text: str) -> list[int]:
    """The line of every raise statement, in the order of the file.

    Args:
        text: Python source.

    Returns:
        Line numbers, counted from 1.
    """
    tree = ast.parse(text)
    return sorted(node.lineno for node in ast.walk(tree) if isinstance(node, ast.Raise))


def unreached(
    files: list[Path], reached: Callable[[Path], set[int]]
) -> Iterator[tuple[Path, int, str]]:
    """Every raise that did not run.

    Args:
        files: Python files to look through.
        reached: gives the numbers of the lines of a file that ran.

    Yields:
        The file, the line's number, and the line.
    """
    for file in files:
        text = file.read_text(encoding="utf-8")
        missing = set(raise_lines(text)) - reached(file)
        lines = text.splitlines()
        for number in sorted(missing):
            yield file, number, lines[number - 1].strip()


def main(arguments: list[str] | None = None) -> int:
    """Print the list and its length.

    Args:
        arguments: the command line; the process's own when left out.

    Returns:
        1 when there is nothing to read, and with --strict when a line is listed; 0 otherwise.
    """
    from coverage import CoverageData

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(ROOT / ".coverage"), help="coverage's data file")
    parser.add_argument("--strict", action="store_true", help="fail when a line is listed")
    options = parser.parse_args(arguments)
    data = CoverageData(options.data)
    data.read()
    if not data.measured_files():
        print(f"{options.data} holds no measurement; run `make errors`", file=sys.stderr)
        return 1
    files = sorted((ROOT / "src" / "regard").rglob("*.py"))
    found = list(unreached(files, lambda file: set(data.lines(str(file)) or ())))
    for file, number, line in found:
        print(f"{file.relative_to(ROOT)}:{number}: {line}")
    total = sum(len(raise_lines(file.read_text(encoding="utf-8"))) for file in files)
    print(f"{len(found)} of {total} raise lines were reached by no test")
    return 1 if found and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
