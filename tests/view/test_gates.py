"""The picture of gates: panels by layer and heads, areas that are the shares."""

import numpy as np
import pytest

from regard.errors import FileError, InputError
from regard.view.gates import draw_gates


def course(heads=3, names=("plain", "near"), steps=(0, 10, 20)):
    for step in steps:
        for role, layer in (("encoder", 0), ("encoder", 1), ("cross", 0)):
            for head in range(heads):
                first = 0.5 + step / 40 if head else 0.25
                for name, share in zip(names, (first, 1 - first), strict=False):
                    yield {
                        "step": str(step), "role": role, "layer": str(layer), "heads": str(head),
                        "candidate": name, "share": str(share),
                    }  # fmt: skip


def test_every_gate_has_a_panel_and_every_candidate_an_area():
    figure = draw_gates(course())
    swatches, panels = figure.axes[:2], figure.axes[2:]
    assert len(panels) == 9 and all(len(one.collections) == 2 for one in panels)
    said = [one.get_text() for one in figure.texts]
    assert {"plain", "near", "encoder, 0", "encoder, 1", "cross, 0", "2"} <= set(said)
    assert "training steps 0 to 20" in said
    # Areas are as high as shares, the first candidate below, in the colour of its swatch.
    below, above = panels[1].collections
    at_the_end = below.get_paths()[0].vertices
    assert at_the_end[at_the_end[:, 0] == 20][:, 1].max() == pytest.approx(1.0)
    for area, swatch in zip((below, above), swatches, strict=True):
        assert np.allclose(area.get_facecolor()[0], swatch.get_facecolor())


def test_many_heads_stay_on_the_sheet():
    figure = draw_gates(course(heads=32))
    width = figure.get_size_inches()[0]
    assert width < 12
    assert max(axes.get_position().x1 for axes in figure.axes) < 1


def test_long_legends_break_into_lines():
    names = [f"a candidate of a long name, {number}" for number in range(9)]
    rows = [
        {
            "step": "0", "role": "encoder", "layer": "0", "heads": "0", "candidate": name,
            "share": "0.1",
        }
        for name in names
    ]  # fmt: skip
    figure = draw_gates(rows)
    assert len({round(axes.get_position().y0, 3) for axes in figure.axes[:9]}) > 1


def test_pictures_are_written_or_say_why_not(tmp_path):
    draw_gates(course(), path=tmp_path / "gates.png")
    assert (tmp_path / "gates.png").stat().st_size > 1000
    with pytest.raises(FileError, match="gates"):
        draw_gates(course(), path=tmp_path / "no" / "gates.png")
    with pytest.raises(InputError, match="there are no gates to draw"):
        draw_gates([])
