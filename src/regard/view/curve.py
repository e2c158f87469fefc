"""Training curves as inline SVG that follows the page's colours, light or dark.

Leaves to others: the page around them (`report`).
"""

import math
from collections.abc import Mapping, Sequence

from regard.view.page import escape, number, tag

Point = tuple[int, float, float]

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 130, 14, 40
_MOST_POINTS = 400
# Lines differ by dashes too, for those who see no colours.
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LABEL_APART = 16


def draw_curves(curves: Mapping[str, Sequence[Point]], noun: str = "loss") -> str:
    """Return the curves as one SVG element.

    Args:
        curves: By name, (step, loss, seconds) in the order of training.
        noun: What is measured.

    Returns:
        SVG, "" if there are not two points to join.
    """
    usable = {
        name: [(step, value) for step, value, _ in points if math.isfinite(value)]
        for name, points in curves.items()
    }
    usable = {name: _thin(points) for name, points in usable.items() if len(points) > 1}
    if not usable:
        return ""
    steps = [step for points in usable.values() for step, _ in points]
    values = [value for points in usable.values() for _, value in points]
    across = _Axis(min(0, *steps), max(steps), _LEFT, _WIDTH - _RIGHT)
    up = _Axis(min(0.0, *values), max(values), _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(across, up, noun)]
    labels = _spread({name: up.at(points[-1][1]) for name, points in usable.items()})
    for index, (name, points) in enumerate(usable.items()):
        parts.append(_line(points, across, up, index))
        x = across.at(points[-1][0]) + 8
        parts.append(
            tag(
                "text",
                escape(_cut(name)),
                x=f"{x:.1f}",
                y=f"{labels[name] + 4:.1f}",
                class_=f"name line{index % 4}",
            )
        )
    title = tag("title", escape(f"{noun} by training step"))
    said = tag("desc", escape("; ".join(describe(name, curves[name], noun) for name in usable)))
    view = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", title + said + "".join(parts), viewBox=view, role="img", class_="curve")


def describe(name: str, points: Sequence[Point], noun: str = "loss") -> str:
    """Return a curve in words.

    Args:
        name: Its name.
        points: (step, loss, seconds).
        noun: What is measured.

    Returns:
        A sentence without a full stop.
    """
    (_, first, _), (step, last, seconds) = points[0], points[-1]
    change = f"{noun} {number(first)} to {number(last)}"
    return f"{name}: {change} in {step:,} steps and {_duration(seconds)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cut(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most `_MOST_POINTS` points: means of neighbours between the first and the last."""
    if len(points) <= _MOST_POINTS:
        return points
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[at : at + size] for at in range(0, len(points), size)]
    means = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
    return [points[0], *means[1:-1], points[-1]]


class _Axis:
    """Maps numbers to places, and knows round numbers between its ends."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        rough = (high - low) / 5 or 1.0
        power = 10.0 ** math.floor(math.log10(rough))
        self.step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
        self.low, self.high = low, max(high, low + self.step)
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        """Return where a number stands."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return the round numbers."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [count * self.step for count in range(first, last + 1)]


def _grid(across: _Axis, up: _Axis, noun: str) -> str:
    parts = []
    for value in up.ticks():
        y = f"{up.at(value):.1f}"
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(
            tag("text", f"{value:g}", x=_LEFT - 8, y=f"{up.at(value) + 4:.1f}", class_="tick end")
        )
    for value in across.ticks():
        x, y = f"{across.at(value):.1f}", _HEIGHT - _BOTTOM + 18
        parts.append(tag("text", f"{value:,.0f}", x=x, y=y, class_="tick middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", "step", x=f"{middle:.0f}", y=_HEIGHT - 4, class_="tick middle"))
    turn = f"rotate(-90 12 {_HEIGHT / 2 - 12:.0f})"
    parts.append(
        tag(
            "text",
            escape(noun),
            x=12,
            y=f"{_HEIGHT / 2 - 12:.0f}",
            transform=turn,
            class_="tick middle",
        )
    )
    return "".join(parts)


def _line(points: list[tuple[int, float]], across: _Axis, up: _Axis, index: int) -> str:
    places = " ".join(f"{across.at(step):.1f},{up.at(value):.1f}" for step, value in points)
    dashes = f' stroke-dasharray="{_DASHES[index % 4]}"' if _DASHES[index % 4] else ""
    return f'<polyline points="{places}" class="line line{index % 4}"{dashes}/>'


def _spread(places: dict[str, float]) -> dict[str, float]:
    """Move labels apart, keeping their order."""
    found: dict[str, float] = {}
    lowest = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        found[name] = lowest = max(place, lowest + _LABEL_APART)
    beyond = max(0.0, lowest - (_HEIGHT - _BOTTOM))
    return {name: place - beyond for name, place in found.items()}
