import numpy as np
import pytest

from regard.errors import FileError, InputError
from regard.view import draw_confusion

COUNTS = [[30, 2, 0], [1, 9, 0], [0, 0, 0]]
LABELS = ["negative", "positive", "$none$"]


def map_of(figure):
    (axes,) = (axes for axes in figure.axes if axes.get_label() == "confusion")
    return axes


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_rows_are_right_labels_shaded_by_their_shares_with_counts():
    axes = map_of(draw_confusion(COUNTS, LABELS, title="Sentiment"))
    assert labels_of(axes.yaxis) == labels_of(axes.xaxis) == LABELS
    shares = [[30 / 32, 2 / 32, 0], [1 / 10, 9 / 10, 0], [0, 0, 0]]
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    found = {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text()
        for text in axes.texts
    }
    assert found == {(0, 0): "30", (0, 1): "2", (1, 0): "1", (1, 1): "9"}


def test_many_labels_leave_out_the_counts_and_more_the_labels():
    forty = map_of(draw_confusion(np.eye(40, dtype=int), [f"c{n}" for n in range(40)]))
    assert not forty.texts and len(labels_of(forty.yaxis)) == 40
    most = map_of(draw_confusion(np.eye(120, dtype=int), [f"c{n}" for n in range(120)]))
    assert labels_of(most.yaxis) == []


def test_long_labels_are_cut_and_the_picture_is_written(tmp_path):
    figure = draw_confusion([[1]], ["x" * 60], path=tmp_path / "one.png")
    assert labels_of(map_of(figure).yaxis) == ["x" * 23 + "…"]
    assert (tmp_path / "one.png").stat().st_size > 1000
    with pytest.raises(FileError, match="nowhere"):
        draw_confusion([[1]], ["x"], path=tmp_path / "nowhere" / "one.png")


@pytest.mark.parametrize(
    ("counts", "labels", "message"),
    [
        ([[1, 2]], ["a"], r"^counts have shape \(1, 2\); 1 labels need \(1, 1\)$"),
        ([], [], r"^counts have shape \(0,\); 0 labels need \(0, 0\)$"),
        ([[0.5]], ["a"], r"^counts of a confusion matrix are whole numbers from 0$"),
        ([[-1]], ["a"], r"whole numbers from 0$"),
        ([[float("nan")]], ["a"], r"whole numbers from 0$"),
        ([["many"]], ["a"], r"^counts of a confusion matrix are rows of whole numbers$"),
    ],
)
def test_unusable_counts_are_refused(counts, labels, message):
    with pytest.raises(InputError, match=message):
        draw_confusion(counts, labels)
