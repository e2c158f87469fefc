"""Seeing: programs as pictures, translations as alignments, training runs as a page."""

import importlib
from typing import Any

from regard.errors import UnsupportedError

# Pictures need matplotlib, the page of a run does not: each comes when it is asked for.
_LATER = {
    "draw": "picture",
    "draw_alignment": "alignment",
    "draw_comparison": "comparison",
    "draw_confusion": "confusion",
    "draw_counterexample": "counterexample",
    "Alignment": "report",
    "Role": "report",
    "RunRecord": "report",
    "render_report": "report",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'regard.view' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(f"regard.view.{_LATER[name]}"), name)
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "matplotlib":
            raise
        reason = f"{name} needs matplotlib; install it with: pip install 'regard[view]'"
        raise UnsupportedError(reason) from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
