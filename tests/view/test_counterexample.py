import numpy as np
import pytest
from matplotlib.patches import Rectangle

import regard as rg
from regard import view
from regard.errors import InputError


@rg.program
def causal(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j <= pair.i)


@rg.program
def before(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j < pair.i)


def parts(answer):
    figure = view.draw_counterexample(answer)
    (axes,) = figure.axes
    (box,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return figure, axes, box


def test_broken_pair_is_boxed_on_the_map_of_seen_pairs():
    answer = rg.check(causal, ["window <= 1"])["window"]
    found = answer.counterexample
    assert found is not None and found.key is not None
    figure, axes, box = parts(answer)
    place = found.key_positions.index(found.key), found.query_positions.index(found.query)
    assert box.get_xy() == (place[0] - 0.5, place[1] - 0.5)
    assert (box.get_width(), box.get_height()) == (1, 1)
    drawn = axes.images[0].get_array()
    assert drawn is not None
    assert np.array_equal(~np.ma.getmaskarray(drawn), np.array(found.seen))
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"i={place}" for place in found.query_positions
    ]
    assert figure.texts[0].get_text() == "window <= 1: refuted"


def test_row_is_boxed_where_no_key_is_to_blame():
    _, axes, box = parts(rg.check(before, ["never empty"])["never empty"])
    assert box.get_width() == axes.images[0].get_array().shape[1]


def test_what_is_proved_has_no_picture():
    with pytest.raises(InputError, match="'causal' is proved: there is no pair to draw"):
        view.draw_counterexample(rg.check(causal, ["causal"])["causal"])
