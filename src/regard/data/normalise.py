"""Texts in one form: for the model as the task asks, and for telling which texts are alike."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

# How texts may be changed before anything looks at them, by name.
STEPS: dict[str, Callable[[str], str]] = {
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "one_line": lambda text: " ".join(text.splitlines()),
    "strip": str.strip,
}


def normal_form(text: str) -> str:
    """Return what two texts share when they differ in case, blanks or ways of encoding alone.

    Args:
        text: Any text.

    Returns:
        The text in Unicode's compatible form, case folded, with single blanks.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalise(text: str, steps: Sequence[str]) -> str:
    """Return a text after some steps.

    Args:
        text: Any text.
        steps: Names of `STEPS`, in order.

    Returns:
        The text.
    """
    for step in steps:
        text = STEPS[step](text)
    return text


def form_of(value: Any) -> str:
    """Return the normal form of the value of any field.

    Args:
        value: A text, a number, or tokens, tags or answers in order.

    Returns:
        A text that values which are alike share.
    """
    if isinstance(value, tuple):
        return "\x1f".join(form_of(one) for one in value)
    return normal_form(str(value))
