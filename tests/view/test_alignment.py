import numpy as np
import pytest
import torch

import regard as rg
from regard.view import draw_alignment, style

SOURCE = ["▁The", "▁agree", "able", "</s>"]
TARGET = ["▁L'", "accord", "</s>"]


def weights(*heads):
    made = torch.zeros(*heads, 3, 4)
    for target, source in enumerate((0, 1, 3)):
        made[..., target, source] = 1.0
    return made


def maps_of(figure):
    return [axes for axes in figure.axes if axes.images]


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_cells_hold_the_weights_under_the_cleaned_tokens():
    (axes,) = maps_of(draw_alignment(weights(), SOURCE, TARGET))
    assert labels_of(axes.xaxis) == ["The", "agree", "·able", "</s>"]
    assert labels_of(axes.yaxis) == ["L'", "·accord", "</s>"]
    assert axes.xaxis.get_ticks_position() == "top"
    assert (axes.images[0].get_array() == weights().numpy()).all()


def test_heads_are_averaged():
    several = torch.stack([weights(), weights().flip(-1)])
    (axes,) = maps_of(draw_alignment(several, SOURCE, TARGET))
    np.testing.assert_allclose(axes.images[0].get_array(), several.mean(0))


def test_each_head_may_have_a_map():
    figure = draw_alignment(weights(6), SOURCE, TARGET, per_head=True, title="Layer 3")
    maps = maps_of(figure)
    assert [axes.get_label() for axes in maps] == [f"head {head}" for head in range(6)]
    assert figure.texts[0].get_text() == "Layer 3"
    # Labels stand on the outer maps alone.
    assert [bool(labels_of(axes.xaxis)) for axes in maps] == [True] * 4 + [False] * 2
    assert [bool(labels_of(axes.yaxis)) for axes in maps] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]


def test_labels_stay_inside_the_figure():
    longest = ["▁" + "m" * 18] * 3
    figure = draw_alignment(weights(), [*longest, "▁end"], longest)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    (axes,) = maps_of(figure)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


def test_long_sentences_get_small_cells():
    figure = draw_alignment(np.full((90, 120), 1 / 120), ["▁word"] * 120, ["▁un"] * 90)
    width, height = figure.get_size_inches()
    assert width < 14 and height < 11


def test_unicode_and_dollars_are_drawn(tmp_path):
    source = ["▁Привет", "▁日本", "▁$x$ \\frac", "▁שלום"]
    draw_alignment(weights(), source, ["☃", "a_b", "🙂"], path=tmp_path / "a.png", title="$5 日")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_gradients_and_half_precision_are_fine():
    tensor = weights().to(torch.bfloat16).requires_grad_()
    draw_alignment(tensor, SOURCE, TARGET)


def test_negative_weights_have_signed_colours():
    (axes,) = maps_of(draw_alignment(weights() - 0.5, SOURCE, TARGET))
    assert axes.images[0].cmap.name == style.BIAS_MAP.name


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(4, 3), r"shape \(4, 3\); 3 target and 4 source tokens need \(3, 4\) or"),
        (torch.zeros(2, 2, 3, 4), r"shape \(2, 2, 3, 4\)"),
        (torch.full((3, 4), torch.nan), "weights hold NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(tensor, message):
    with pytest.raises(rg.InputError, match=message):
        draw_alignment(tensor, SOURCE, TARGET)
