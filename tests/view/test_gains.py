"""The picture of gains: where intervals, seeds and the margin stand."""

import pytest

from regard.errors import FileError
from regard.view.gains import Row, draw_gains

ROWS = [
    Row("reader", 0.8, 0.3, 1.3, (0.6, 1.0), "better", "0.9 of the time"),
    Row("a mode with a name that is far too long", -0.1, -0.5, 0.3, (-0.2, 0.0), "no gain shown"),
]


def test_each_row_has_its_interval_its_gain_and_its_seeds():
    (axes,) = draw_gains(ROWS, "BLEU", "plain", 0.2).axes
    zero, *lines = axes.lines
    assert zero.get_xdata() == [0, 0]
    drawn = [list(line.get_xdata()) for line in lines]
    assert drawn == [[0.3, 1.3], [0.8], [0.6, 1.0], [-0.5, 0.3], [-0.1], [-0.2, 0.0]]
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (-0.2, 0)
    low, high = axes.get_xlim()
    assert low < -0.5 and high > 1.3
    # What is clear of 0 has another colour than what is not.
    assert lines[0].get_color() != lines[3].get_color()


def test_names_outcomes_and_the_margin_are_written():
    figure = draw_gains(ROWS, "BLEU", "plain", 0.2)
    said = [one.get_text() for one in figure.texts]
    assert {"gain on plain", "reader", "0.9 of the time", "better", "no gain shown"} <= set(said)
    assert any(one.startswith("a mode with") and one.endswith("…") for one in said)
    assert "the band is the margin, 0.2" in figure.axes[0].get_xlabel()
    assert "margin" not in draw_gains(ROWS, "BLEU", "plain", 0.0).axes[0].get_xlabel()


def test_no_gain_at_all_is_drawn(tmp_path):
    draw_gains([Row("same", 0, 0, 0, (0, 0), "no gain shown")], "BLEU", "plain", 0.0,
               path=tmp_path / "gains.png")  # fmt: skip
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")


def test_picture_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileError, match=r"nowhere.gains\.png"):
        draw_gains(ROWS, "BLEU", "plain", 0.2, path=tmp_path / "nowhere" / "gains.png")
