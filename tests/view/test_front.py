"""The pictures of a search: marks where candidates are, the edge of what is best for its cost."""

import pytest

from regard.view.front import Tried, _edge, draw_front, draw_learning

POINTS = [
    Tried("plain", 0.7, {"ms": 10.0, "MB": 3.0}, [(1, 0.5), (2, 0.7)], "plain"),
    Tried("good $x_1$ with a name that is far too long", 0.9, {"ms": 20.0, "MB": 9.0},
          [(1, 0.4), (2, 0.9)], "best"),
    Tried("quick", 0.8, {"ms": 5.0, "MB": 4.0}, [(1, 0.8)], "front"),
    Tried("beaten", 0.1, {"ms": 30.0, "MB": 9.0}, [(1, 0.1)]),
]  # fmt: skip


@pytest.mark.parametrize("falls", [False, True])
def test_the_edge_is_the_best_there_is_for_a_cost(falls):
    points = [(3.0, 2.0), (1.0, 1.0), (2.0, 0.5), (4.0, 1.5)]
    if falls:
        points = [(x, -y) for x, y in points]
    sign = -1 if falls else 1
    assert _edge(points, falls) == [(1.0, sign * 1.0), (3.0, sign * 2.0), (4.0, sign * 2.0)]


def test_each_candidate_is_a_mark_in_each_panel_and_those_of_note_have_names(tmp_path):
    figure = draw_front(POINTS, "accuracy", path=tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_xlabel() for axes in figure.axes] == ["ms", "MB"]
    for axes, cost in zip(figure.axes, ("ms", "MB"), strict=True):
        marks = {tuple(offset) for one in axes.collections for offset in one.get_offsets().tolist()}
        assert marks == {(one.costs[cost], one.value) for one in POINTS}
        named = [text.get_text() for text in axes.texts]
        assert sorted(named) == ["good $x_1$ with a name …", "plain", "quick"]
    assert figure.axes[0].get_ylabel() == "accuracy"


def test_learning_curves_end_where_candidates_were_dropped():
    figure = draw_learning(POINTS, [1, 2], "accuracy")
    (axes,) = figure.axes
    lines = {tuple(map(tuple, line.get_xydata().tolist())) for line in axes.lines}
    assert {tuple(one.curve) for one in POINTS} <= lines
    assert {text.get_text() for text in axes.texts} == {"good $x_1$ with a name …", "plain"}
