"""Every letter in a font that has it, and how much room text takes.

Leaves to others: formulas, whose font has what they need (`formula`).
"""

from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

_FAMILY = "DejaVu Sans"
_MISSING = "□"
# A colour font has no outlines to draw; the last resort has boxes for everything.
_UNFIT = ("Color", "Emoji", "Last Resort")
_POINTS_PER_INCH = 72


def fit_fonts(text: str) -> tuple[str, list[str]]:
    """Return text and the families of fonts that show it.

    Args:
        text: What will be written.

    Returns:
        The text, with □ for letters that no installed font has, and the families in order.
    """
    families, missing = _families(frozenset(text))
    return text.translate(str.maketrans(dict.fromkeys(missing, _MISSING))), list(families)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return how wide plain text is.

    Args:
        text: One line.
        size: Of the letters, in points.
        bold: Whether it is bold.

    Returns:
        Inches.
    """
    text, families = fit_fonts(text)
    font = FontProperties(family=families, size=size, weight="bold" if bold else "normal")
    return (
        text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / _POINTS_PER_INCH
    )


def wrap_words(text: str, size: float, room: float) -> list[str]:
    """Break plain text into lines by its measured width.

    Args:
        text: Words.
        size: Of the letters, in points.
        room: The width of a line, in inches.

    Returns:
        The lines; none for no words. A word wider than the room has a line of its own.
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@lru_cache(maxsize=64)
def _families(letters: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    base = findfont(FontProperties(family=_FAMILY))
    missing = {ord(letter) for letter in letters} - _letters_of(base)
    families = [_FAMILY]
    for font in fontManager.ttflist:
        if not missing:
            break
        found = missing & _letters_of(font.fname)
        if found and not any(word in font.name for word in _UNFIT):
            families.append(font.name)
            missing -= found
    return tuple(families), tuple(map(chr, missing))


@lru_cache(maxsize=4096)
def _letters_of(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
