"""A search for modes as pictures: what quality costs, and how each candidate learned.

Leaves to others: what was tried (`customise`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from regard.view import style
from regard.view.sheet import save

_SIDE, _WIDE = 3.2, 4.4
# A name is cut to so many characters, and stands so many points off its mark.
_LONGEST, _OFF = 24, 5


@dataclass(frozen=True)
class Tried:
    """A candidate as a mark and a line.

    Attributes:
        name: What stands beside it.
        value: Its metric.
        costs: What it costs, by the name of each axis.
        curve: (step, metric) pairs in the order of training.
        kind: "best", "plain", "front" for those that nothing beats in everything, or "".
    """

    name: str
    value: float
    costs: dict[str, float]
    curve: Sequence[tuple[int, float]] = ()
    kind: str = ""


_LOOK = {
    "best": {"marker": "D", "s": 46, "color": style.INK, "zorder": 4},
    "plain": {"marker": "s", "s": 34, "color": "#b45f06", "zorder": 3},
    "front": {"marker": "o", "s": 26, "color": style.SEEN, "zorder": 2},
    "": {"marker": "o", "s": 12, "color": style.LINE, "zorder": 1},
}
_ORDER = ("", "front", "plain", "best")


def draw_front(
    tried: Sequence[Tried], metric: str, falls: bool = False, path: str | os.PathLike | None = None
) -> Figure:
    """Draw what the quality of candidates costs, a panel for each cost.

    Args:
        tried: Candidates that were scored alike.
        metric: What the quality is.
        falls: Whether a smaller one is better.
        path: Where to write the picture; None writes nothing.

    Returns:
        The figure.
    """
    names = list(tried[0].costs)
    figure = Figure(figsize=(_WIDE * len(names), _SIDE), layout="constrained")
    for place, cost in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        points = [(one.costs[cost], one.value) for one in tried]
        edge = _edge(points, falls)
        axes.step(
            [x for x, _ in edge], [y for _, y in edge], where="post",
            color=style.SEEN, linewidth=0.8, zorder=0,
        )  # fmt: skip
        for one in sorted(tried, key=lambda one: _ORDER.index(one.kind)):
            axes.scatter(one.costs[cost], one.value, **_LOOK[one.kind])
        _name(axes, [one for one in tried if one.kind], cost)
        _dress(axes, cost, metric if not place else "")
    save(figure, path)
    return figure


def draw_learning(
    tried: Sequence[Tried], rungs: Sequence[int], metric: str,
    path: str | os.PathLike | None = None,
) -> Figure:  # fmt: skip
    """Draw the learning curves of candidates; those that were dropped end where they were.

    Args:
        tried: Candidates.
        rungs: Steps at which they were compared, drawn as upright lines.
        metric: What was measured.
        path: Where to write the picture; None writes nothing.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(2 * _WIDE, _SIDE), layout="constrained")
    axes = figure.add_subplot()
    for step in rungs:
        axes.axvline(step, color=style.HIDDEN_LINE, linewidth=0.7, zorder=0)
    for one in sorted(tried, key=lambda one: _ORDER.index(one.kind)):
        look, there = _LOOK[one.kind], [step for step, _ in one.curve]
        values = [value for _, value in one.curve]
        width = 1.8 if one.kind in ("best", "plain") else 0.8
        axes.plot(there, values, color=look["color"], linewidth=width, zorder=look["zorder"])
        if there:
            size = 14 if one.kind else 5
            axes.scatter(there[-1], values[-1], **{**look, "s": size})
    shown = [one for one in tried if one.kind in ("best", "plain") and one.curve]
    labelled = [
        Tried(one.name, one.curve[-1][1], {"step": one.curve[-1][0]}, kind=one.kind)
        for one in shown
    ]
    _name(axes, labelled, "step")
    _dress(axes, "step", metric)
    save(figure, path)
    return figure


def _edge(points: Sequence[tuple[float, float]], falls: bool) -> list[tuple[float, float]]:
    """Return the points that no cheaper one equals, by rising cost, and the edge to the right."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], point[1] if falls else -point[1])):
        if not found or (y < found[-1][1] if falls else y > found[-1][1]):
            found.append((x, y))
    return [*found, (max(x for x, _ in points), found[-1][1])]


def _name(axes: Axes, named: Sequence[Tried], cost: str) -> None:
    """Write names beside marks, on the side where there is room, one below the other if close."""
    places = [one.costs[cost] for one in named]
    middle = (min(places, default=0.0) + max(places, default=0.0)) / 2
    low, high = axes.get_ylim()
    apart, last = (high - low) / 11, float("inf")
    for one in sorted(named, key=lambda one: (-one.value, one.costs[cost])):
        # Downwards, each below the one before.
        height = min(one.value, last - apart)
        last = height
        left = one.costs[cost] > middle
        text = one.name if len(one.name) <= _LONGEST else one.name[: _LONGEST - 1] + "…"
        axes.annotate(
            text, (one.costs[cost], height), xytext=(-_OFF if left else _OFF, _OFF),
            textcoords="offset points", fontsize=style.SMALL, va="bottom",
            ha="right" if left else "left", color=_LOOK[one.kind]["color"], parse_math=False,
            path_effects=[withStroke(linewidth=2, foreground="white")], zorder=0.5,
        )  # fmt: skip


def _dress(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=style.TEXT, color=style.INK)
    axes.set_ylabel(up, fontsize=style.TEXT, color=style.INK)
    axes.tick_params(labelsize=style.SMALL, colors=style.QUIET)
    axes.margins(x=0.12, y=0.1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(linewidth=0.5, color=style.LINE)
