"""Pictures of heads: what they show, and what cannot be drawn."""

import numpy as np
import pytest

from regard.errors import FileError, InputError
from regard.view.heads import draw_head_curves, draw_head_maps, pixels

CURVES = {
    ("encoder", 0): [[2.0, 1.0, 0.5], [2.0, 2.0, 2.0]],
    ("encoder", 1): [[1.0, 1.0, 1.0]] * 6,
    ("cross", 0): [[0.0, 0.0, 0.0]],
}


def texts(figure):
    found = [one.get_text() for one in figure.texts]
    return found + [one.get_text() for axes in figure.axes for one in axes.texts]


def test_every_layer_has_a_panel_and_every_head_a_curve():
    figure = draw_head_curves([10, 20, 30], CURVES)
    assert [len(axes.lines) for axes in figure.axes] == [2, 6, 1]
    assert {"encoder, layer 0", "encoder, layer 1", "cross, layer 0"} <= set(texts(figure))
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [10, 20, 30] and list(line.get_ydata()) == [2.0, 1.0, 0.5]
    # All panels have one scale, and six heads are too many for numbers.
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert [len(axes.texts) for axes in figure.axes] == [2, 0, 1]


def test_numbers_of_heads_do_not_cover_each_other():
    figure = draw_head_curves([1, 2], {("encoder", 0): [[0.0, 3.0]] * 4})
    axes = figure.axes[0]
    places = sorted(one.get_position()[1] for one in axes.texts)
    apart = np.diff(places) / np.diff(axes.get_ylim())
    assert (apart > 0.1).all() and places[-1] < axes.get_ylim()[1]


def test_many_layers_go_on_in_the_next_row():
    figure = draw_head_curves([1], {("encoder", n): [[1.0]] for n in range(7)})
    tops = {round(axes.get_position().y0, 3) for axes in figure.axes}
    assert len(figure.axes) == 7 and len(tops) == 2


def test_maps_stand_by_layer_and_head():
    rng = np.random.default_rng(0)
    maps = [rng.dirichlet(np.ones(5), (3, 4)), rng.dirichlet(np.ones(5), (2, 4))]
    figure = draw_head_maps(maps, "cross attention")
    assert [axes.get_label() for axes in figure.axes] == [
        "head 0.0", "head 0.1", "head 0.2", "head 1.0", "head 1.1",
    ]  # fmt: skip
    assert np.allclose(figure.axes[3].images[0].get_array(), maps[1][0])
    assert "cross attention" in texts(figure)
    image = pixels(figure)
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.std() > 10


def test_pictures_are_written(tmp_path):
    draw_head_curves([1, 2], {("encoder", 0): [[1.0, 2.0]]}, path=tmp_path / "heads.png")
    draw_head_maps([np.ones((1, 2, 2))], path=tmp_path / "maps.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("heads.png", "maps.png"))
    with pytest.raises(FileError, match="heads"):
        draw_head_curves([1], {("encoder", 0): [[1.0]]}, path=tmp_path / "no" / "heads.png")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: draw_head_curves([], {}), "there are no heads to draw"),
        (lambda: draw_head_curves([1, 2], {("encoder", 3): [[1.0]]}),
         "encoder, layer 3: a head needs 2 values, one a step"),
        (lambda: draw_head_maps([]), "maps of heads are finite weights"),
        (lambda: draw_head_maps([np.full((1, 2, 2), np.nan)]), "maps of heads are finite weights"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()
