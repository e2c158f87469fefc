"""A broken contract as a picture: the pairs of one small call, and the pair that breaks it.

Leaves to others: finding the pair (`ops/contracts`), the marks (`sheet`).
"""

import os

import numpy as np
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regard.errors import InputError
from regard.ops.contracts.check import Answer
from regard.view import style
from regard.view.fonts import wrap_words
from regard.view.sheet import Sheet, draw_map, save

# Inches.
_EDGE, _LEFT, _LINE, _MAP = 0.15, 0.6, 0.16, 2.6
_WIDTH = 4.2
_BROKEN = "#c0392b"


def draw_counterexample(answer: Answer, path: str | os.PathLike | None = None) -> Figure:
    """Draw the call that refutes a contract: who sees whom, and the pair that must not matter.

    Args:
        answer: What `rg.check` said of one contract; it must be refuted.
        path: Where to write the picture; the ending says the format: png, svg, pdf.

    Returns:
        The figure.

    Raises:
        InputError: If the contract is not refuted: there is nothing to draw.
        FileError: If the picture cannot be written.
    """
    found = answer.counterexample
    if found is None:
        raise InputError(f"'{answer.contract}' is {answer.status}: there is no pair to draw")
    seen = np.array(found.seen, dtype=bool)
    text = str(found).split("\n" + found.picture())[0].splitlines()
    room = _WIDTH - 2 * _EDGE
    lines = [line for part in text for line in wrap_words(part, style.TEXT, room)]
    rows, columns = seen.shape
    height = max(_MAP * rows / max(rows, columns), 0.4)
    width = max(_MAP * columns / max(rows, columns), 0.4)
    top = _EDGE + _LINE * (len(lines) + 2)
    sheet = Sheet(_WIDTH, top + height + 0.5)
    title = f"{answer.contract}: {answer.status}"
    sheet.text(_EDGE, _EDGE + 0.1, title, style.HEADING, weight="bold")
    for number, line in enumerate(lines, 1):
        sheet.text(_EDGE, _EDGE + 0.12 + _LINE * number, line, style.TEXT)
    axes = sheet.axes(_LEFT, top, width, height)
    draw_map(axes, seen, ~seen, ListedColormap([style.SEEN]), Normalize(0, 1), "pairs")
    row = found.query_positions.index(found.query)
    # Without a key to blame the whole row is marked.
    first, wide = (0, columns) if found.key is None else (found.key_positions.index(found.key), 1)
    corner = first - 0.5, row - 0.5
    axes.add_patch(Rectangle(corner, wide, 1, fill=False, edgecolor=_BROKEN, linewidth=2, zorder=3))
    axes.set_yticks(range(rows), [f"i={place}" for place in found.query_positions])
    axes.set_xticks(range(columns), [f"j={place}" for place in found.key_positions], rotation=90)
    axes.tick_params(labelsize=style.SMALL, colors=style.QUIET, length=0)
    save(sheet.figure, path)
    return sheet.figure
