"""The pieces of a self-contained HTML page: everything inline, every text escaped, no scripts.

Leaves to others: what a page says (`report`), how it looks (`page.css`).
"""

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from regard.errors import FileError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A figure, the path of a PNG file, or the bytes of one.
Picture = Union["Figure", str, os.PathLike, bytes]

_DPI = 160
_PNG = b"\x89PNG\r\n\x1a\n"
# The page runs nothing and loads nothing, whatever its texts contain.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def escape(text: Any) -> str:
    """Return text that shows as written in HTML, between tags and in attributes.

    Args:
        text: Anything; its str is used. Control characters and half characters become �.

    Returns:
        Escaped text.
    """
    cleaned = "".join(
        c if c in "\n\t" or (c >= " " and not "\ud800" <= c <= "\udfff") else "�" for c in str(text)
    )
    return html.escape(cleaned, quote=True)


def tag(name: str, inside: str = "", **attributes: Any) -> str:
    """Return an element.

    Args:
        name: Its tag.
        inside: Its content, already HTML.
        **attributes: Its attributes, to be escaped; `_` in a name becomes `-`, at its end nothing.

    Returns:
        HTML.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{inside}</{name}>"


def section(title: str, inside: str) -> str:
    """Return a section with a heading and an anchor, or nothing if there is nothing in it."""
    if not inside:
        return ""
    anchor = anchor_of(title)
    heading = tag("h2", escape(title), id=anchor)
    return tag("section", heading + inside, aria_labelledby=anchor)


def anchor_of(title: str) -> str:
    """Return the name by which links find a section."""
    return "-".join(title.lower().split())


def number(value: Any) -> str:
    """Return a value as a table shows it: grouped integers, fractions with few digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != value or abs(value) == float("inf"):
        return "–"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.2f}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def facts(rows: Mapping[str, Any], caption: str) -> str:
    """Return a table of names and values; nested mappings are written with dots.

    Args:
        rows: Values by name.
        caption: What screen readers call the table.

    Returns:
        HTML, "" if there are none.
    """
    flat = _flatten(rows)
    if not flat:
        return ""
    lines = [
        tag("tr", tag("th", escape(name), scope="row") + tag("td", escape(_plain(value))))
        for name, value in flat
    ]
    inside = tag("caption", escape(caption), class_="unseen") + tag("tbody", "".join(lines))
    return tag("div", tag("table", inside, class_="facts"), class_="scroll")


def _flatten(rows: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in rows.items():
        full = f"{before}{name}"
        if isinstance(value, Mapping) and value:
            found += _flatten(value, f"{full}.")
        else:
            found.append((full, value))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def picture(image: Picture, alt: str, caption: str = "") -> str:
    """Return a figure element that holds a picture inside the page.

    Args:
        image: A figure, the path of a PNG file, or its bytes.
        alt: What it shows, for those who do not see it.
        caption: A line below it.

    Returns:
        HTML.

    Raises:
        InputError: If it is none of these.
        FileError: If the file cannot be read or is no PNG.
    """
    data = _png(image)
    width, height = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    # Two thirds: 160 dots per inch drawn, 96 shown and a little larger than print.
    size = f'width="{width * 2 // 3}" height="{height * 2 // 3}"'
    img = f'<img src="{source}" alt="{escape(alt)}" {size}>'
    below = tag("figcaption", escape(caption)) if caption else ""
    return tag("figure", tag("div", img, class_="plate") + below)


def _png(image: Picture) -> bytes:
    if isinstance(image, bytes):
        data, name = image, "a picture"
    elif isinstance(image, str | os.PathLike):
        name = str(image)
        try:
            data = Path(image).read_bytes()
        except OSError as problem:
            raise FileError(f"{image}: {(problem.strerror or str(problem)).lower()}") from None
    elif hasattr(image, "savefig"):
        file = io.BytesIO()
        image.savefig(file, format="png", dpi=_DPI)
        return file.getvalue()
    else:
        raise InputError(f"a picture must be a figure, a path or the bytes of a PNG, not {image!r}")
    if not data.startswith(_PNG) or len(data) < 24:
        raise FileError(f"{name} is no PNG")
    return data


def page(title: str, body: Sequence[str], language: str = "en") -> str:
    """Return a whole page.

    Args:
        title: Of the window.
        body: Its parts, already HTML.
        language: Of the page, as a BCP 47 tag.

    Returns:
        HTML that needs nothing else.
    """
    style = resources.files("regard.view").joinpath("page.css").read_text(encoding="utf-8")
    head = "\n".join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            tag("title", escape(title)),
            f"<style>\n{style}</style>",
        ]
    )
    inside = "\n".join(part for part in body if part)
    return (
        f'<!doctype html>\n<html lang="{escape(language)}">\n<head>\n{head}\n</head>\n'
        f"<body>\n{inside}\n</body>\n</html>\n"
    )
