"""Writes docs/catalogue: a page for each family of variants, an index, and their pictures.

All of it follows from the programs, from their scenes and from what benchmarks/catalogue.py
measured. `--text` leaves the pictures as they are.
Leaves to others: what is drawn (`gallery_pictures`), the helpers of a family (`gallery_code`).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gallery_code import shared_code
from scenes import scene_of, speaks_of_contents

from regard.catalogue import FAMILIES, VARIANTS, describe_family
from regard.catalogue.absent import ABSENT
from regard.catalogue.variant import Variant
from regard.cli.show import inputs_of

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "catalogue"
MEASURED = ROOT / "benchmarks" / "catalogue.json"

_LONGEST_FORMULA = 1000
TITLES = {
    "score": "Scores",
    "position": "Positions",
    "modifier": "Modifiers",
    "mask": "Masks",
    "normaliser": "Normalisers",
    "aggregation": "Aggregation",
    "ordered": "Keys in order",
}
_INDEX = """\
# The catalogue

Published attention mechanisms, each a program of a few lines: {count} of them, with the paper, the
formula, a picture, what it promises, what it reads, when to use it and what it costs. Each is
compared, values and gradients, with a dense formula written from its paper.

```python
import torch
import regard as rg

q, k, v = torch.randn(3, 1, 4, 64, 32)
out = rg.attend(rg.catalogue.{example}.program, q, k, v)
found = rg.catalogue.search("{words}")
```

A name is a variant: `.program` is as published, and calling it sets its knobs, as in
`rg.catalogue.sliding_window(window=64)`. The command line lists, searches and shows them; task
files and other commands take such a name where they take a program:

```text
regard catalogue relative position
regard show sliding_window
regard explain 'sliding_window(window=64)' --queries 8192
```

[From the paper to a program](../recipes/from-paper-to-program.md) shows how one more is written.
"""
_ABSENT = """\
## Not in the catalogue

A program is about one query and one key, and so cannot say:
"""
_PAGE = """\
# {title}

{says}

**Pictures.** {pictures} Where a published knob is too large for 32 tokens, the picture has a
smaller one; the line below it says which. {cost}
"""
_OF_CONTENTS = """\
Unless a line below says otherwise, rows of q and k are 32 tokens along a curve, the later the
longer: near ones are alike."""
_OF_POSITION = "What position alone does, with q and k zero, unless the picture says otherwise."
_NOT_MEASURED = "No cost has been measured yet."


def pages() -> dict[Path, str]:
    """Return the text of every page.

    Returns:
        Texts by path.
    """
    measured = read_measured()
    found = {FOLDER / "index.md": _index()}
    for family in FAMILIES:
        own = [one for one in VARIANTS.values() if one.family == family]
        if own:
            found[FOLDER / f"{family}.md"] = _page(family, own, measured)
    return found


def read_measured() -> dict[str, Any]:
    """Return what the benchmark wrote, or nothing of it."""
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}


# ── The index ─────────────────────────────────────────────────────────────────────────────────
def _index() -> str:
    example = "sigmoid" if "sigmoid" in VARIANTS else next(iter(VARIANTS))
    text = [_INDEX.format(count=len(VARIANTS), example=example, words="long texts")]
    for family in FAMILIES:
        own = [one for one in VARIANTS.values() if one.family == family]
        if own:
            text.append(f"## [{TITLES[family]}]({family}.md)\n\n{describe_family(family)}\n")
            text.append("\n".join(_table(family, own)) + "\n")
    text.append(_ABSENT)
    lines = ["| mechanism | why |", "|---|---|"]
    lines += [
        f"| {one.title}, [{one.source}]({one.link}) | {_cell(_sentence(one.reason))} |"
        for one in ABSENT
    ]
    return "\n".join([*text, *lines]) + "\n"


def _table(family: str, own: list[Variant]) -> Iterator[str]:
    yield "| | name | what it does | source |"
    yield "|---|---|---|---|"
    for one in own:
        small = f"![A small map of {one.name}](images/small/{one.name}.png)"
        # No backticks: a table breaks code in the middle of a word.
        name = f"[{one.name}]({family}.md#{one.name})"
        yield f"| {small} | {name} | {_cell(one.says)} | [{_cell(one.source)}]({one.link}) |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


# ── A family ──────────────────────────────────────────────────────────────────────────────────
def _page(family: str, own: list[Variant], measured: dict[str, Any]) -> str:
    contents = sum(speaks_of_contents(one, scene_of(one)) for one in own) > len(own) / 2
    says = f"{describe_family(family)} [All families](index.md)."
    head = _PAGE.format(
        title=TITLES[family],
        says=says,
        pictures=_OF_CONTENTS if contents else _OF_POSITION,
        cost=_machine(measured),
    )
    parts = [head, _shared(own), *(_section(one, measured, contents) for one in own)]
    return "\n".join(parts)


def _machine(measured: dict[str, Any]) -> str:
    if not measured:
        return _NOT_MEASURED
    about = measured["machine"]
    return (
        "**Cost** is time beside that of `scaled_dot_product` on the cpu backend, "
        f"{measured['call']}: {about['threads']} threads of {about['cpu']}, {about['date']} "
        "(`python benchmarks/catalogue.py`)."
    )


def _shared(own: list[Variant]) -> str:
    code = shared_code(own)
    names = " What several of them share comes first." if "def " in code else ""
    return f"The programs below run as they stand here.{names}\n\n```python\n{code}\n```\n"


def _section(one: Variant, measured: dict[str, Any], contents: bool) -> str:
    promised = ", ".join(f'"{contract}"' for contract in one.contracts)
    decorator = f"@rg.program(contracts=[{promised}])" if promised else "@rg.program"
    lines = [f"- {line}" for line in _facts(one, measured)]
    return "\n".join(
        [
            f"## {one.name}\n",
            f"**{one.title}**, [{one.source}]({one.link}). {one.says}\n",
            f"{one.use}\n",
            f"![The formula of {one.name} and maps of its pairs](images/{one.name}.png)\n",
            *([f"*{_caption(one, contents)}*\n"] if _caption(one, contents) else []),
            f"```text\n{_formula(one)}\n```\n",
            f"```python\n{decorator}\n{one.code}\n```\n",
            *lines,
            "",
        ]
    )


def _formula(one: Variant) -> str:
    """Return the formula as published, or, if a knob makes it long, that of the picture."""
    published = one.program.formula()
    if len(published) <= _LONGEST_FORMULA:
        return published
    return one(**scene_of(one).knobs).formula()


def _caption(one: Variant, contents: bool) -> str:
    """Return what is particular to a picture."""
    scene = scene_of(one)
    own = speaks_of_contents(one, scene)
    told = [f"{name} = {value}" for name, value in scene.knobs.items()]
    told += [scene.words] if scene.words else []
    if own and not contents:
        told.append("tokens along a curve, near ones alike")
    elif contents and not own:
        told.append("no contents: q and k say nothing" if not scene.words else "")
    told = [part for part in told if part]
    return f"Drawn with: {'; '.join(told)}." if told else ""


def _facts(one: Variant, measured: dict[str, Any]) -> Iterator[str]:
    knobs = ", ".join(f"`{name}` = {value!r}" for name, value in one.knobs.items())
    if knobs:
        yield f"knobs: {knobs}"
    if one.contracts:
        yield f"proved: {', '.join(one.contracts)}"
    reads = [
        f"`{row['name']}`, a {row['kind']} {row['shape']}"
        + (f", {row['start']}" if row["start"] else "")
        for row in inputs_of(one.program)
    ]
    if reads:
        yield f"reads, beside q, k and v: {'; '.join(reads)}"
    yield f"cost: {_cost(one, measured)}"


def _cost(one: Variant, measured: dict[str, Any]) -> str:
    row = measured.get("rows", {}).get(one.name)
    if row is None or row["hash"] != one(**row["knobs"]).hash:
        return "not measured"
    knobs = ", ".join(f"{name} = {value}" for name, value in row["knobs"].items())
    told = []
    for backend, times in row["times"].items():
        ratios = [f"{times[part]:.2g} × {part}" for part in ("forward", "forward + backward")]
        told.append(f"{', '.join(ratios)}, on `{backend}`")
    told += [f"not on `{backend}`: {reason}" for backend, reason in row["refused"].items()]
    return "; ".join(told) + (f" (with {knobs})" if knobs else "")


def main() -> None:
    """Write the pages, and the pictures unless only text is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", action="store_true", help="leave the pictures as they are")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts = pages()
    for path in FOLDER.glob("*.md"):
        if path not in texts:
            path.unlink()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    if arguments.text:
        return
    from gallery_pictures import write_pictures

    for path in FOLDER.glob("images/**/*.png"):
        path.unlink()
    for one in VARIANTS.values():
        write_pictures(one, FOLDER / "images")
        print(one.name, flush=True)


if __name__ == "__main__":
    main()
