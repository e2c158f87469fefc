import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import regard as rg
from regard.view import style
from regard.view.formula import set_formula
from tests.view import samples


def maps_of(figure):
    """The axes that hold maps, by label."""
    return {axes.get_label(): axes for axes in figure.axes if axes.images}


def texts_of(figure):
    return [text.get_text() for text in figure.texts]


def pixels_of(figure, axes):
    """The drawn pixels of some axes, (rows, columns, 3) from 0 to 1."""
    if figure.stale:
        figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    box = axes.get_window_extent()
    top = len(drawn) - round(box.y1)
    return drawn[top : len(drawn) - round(box.y0), round(box.x0) : round(box.x1)]


def share_of_colour(pixels, colour):
    return (np.abs(pixels - to_rgb(colour)).max(-1) < 0.03).mean()


@pytest.mark.parametrize("program", samples.ALL, ids=lambda program: program.name)
def test_every_kind_of_program_can_be_drawn(program):
    figure = rg.draw(program, 8, heads=2)
    assert isinstance(figure, Figure)
    assert texts_of(figure)[0] == program.name
    assert all(0 < value <= 1.001 for axes in figure.axes for value in axes.get_position().bounds)
    figure.set_dpi(50)
    figure.canvas.draw()


def test_program_with_one_head_has_a_map_per_part():
    assert list(maps_of(rg.draw(samples.causal))) == ["mask", "weights"]
    assert list(maps_of(rg.draw(samples.additive, 8))) == ["weights"]
    assert list(maps_of(rg.draw(samples.rotary, 8))) == ["mask", "bias", "weights"]


def test_program_that_differs_by_head_has_a_map_per_head():
    figure = rg.draw(samples.alibi, 8)
    heads = [f"{kind} of head {head}" for kind in ("bias", "weights") for head in range(8)]
    assert list(maps_of(figure)) == ["mask", *heads]
    assert [text for text in texts_of(figure) if text.startswith("head")] == [
        f"head {head}" for head in (*range(8), *range(8))
    ]


def test_more_heads_than_fit_go_on_below():
    figure = rg.draw(samples.alibi, 8, heads=12)
    maps = maps_of(figure)
    places = [maps[f"bias of head {head}"].get_position() for head in range(12)]
    assert len({round(place.y0, 6) for place in places}) == 2
    assert places[8].x0 == pytest.approx(places[0].x0) and places[8].y1 < places[0].y0


def test_masked_share_of_the_pixels_is_that_of_the_pairs():
    figure = rg.draw(samples.anchored, 32)
    i, j = np.mgrid[:32, :32]
    seen = ((j <= i) & ((i - j < 8) | (j < 4))).mean()
    pixels = pixels_of(figure, maps_of(figure)["mask"])
    assert share_of_colour(pixels, style.SEEN) == pytest.approx(seen, abs=0.02)
    assert f"{seen:.0%} of all pairs" in texts_of(figure)


def test_hidden_pairs_are_hatched_in_every_map():
    figure = rg.draw(samples.alibi, 32, heads=2)
    for axes in maps_of(figure).values():
        pixels = pixels_of(figure, axes)
        # The upper right quarter is the future; its background shows between the lines.
        future = pixels[4 : len(pixels) // 2 - 4, len(pixels) // 2 + 8 : -4]
        assert share_of_colour(future, style.HIDDEN_FACE) > 0.4
        assert future.std() > 0.01


def test_axes_say_which_is_the_query_and_which_the_key():
    axes = maps_of(rg.draw(samples.causal))["weights"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("query $i$", "key $j$")
    assert axes.yaxis_inverted() and not axes.xaxis_inverted()
    assert [tick for tick in axes.get_xticks() if -0.5 < tick < 31.5] == [0, 8, 16, 24]


def test_title_says_how_the_weights_came_about():
    assert "from position alone: q = k = 0" in texts_of(rg.draw(samples.causal, 4))
    assert "for one random q and k" in texts_of(rg.draw(samples.additive, 4))
    rows = torch.ones(1, 1, 4, 64)
    shown = texts_of(rg.draw(samples.causal, 4, heads=1, q=rows, k=rows))
    assert "for the q and k that are given" in shown


def test_title_says_that_rows_beside_q_and_k_are_given():
    @rg.program
    def further(pair):
        return rg.softmax(rg.dot(rg.query_vector("x"), rg.key_vector("y")))

    rows = torch.eye(4).expand(1, 1, 4, 4)
    assert "q = k = 0, the rest as given" in texts_of(rg.draw(further, 4, x=rows, y=rows))


@pytest.mark.parametrize("found", [None, "alibi", rg.catalogue.alibi])
def test_only_a_program_is_drawn(found):
    with pytest.raises(
        rg.InputError, match=r"^draw takes a program, which @rg\.program makes; found"
    ):
        rg.draw(found)


def test_inputs_may_have_the_names_of_options():
    @rg.program
    def clashing(pair):
        """Reads the number `width`."""
        return rg.softmax(-rg.parameter("width", per="head") * abs(pair.i - pair.j))

    steep = rg.draw(clashing, 4, inputs={"width": torch.tensor([0.5, 1.0, 3.0])})
    assert len(maps_of(steep)) == 6
    assert "Reads the number width." in texts_of(steep)
    assert "every token alike: all q and k are 1" in texts_of(rg.draw(samples.rotary, 4))


def test_imagined_inputs_are_named_below():
    figure = rg.draw(samples.buckets, 4)
    note = "Imagined: bias starts at 0 and is shown with random values."
    assert texts_of(figure)[-1] == note
    assert note not in texts_of(rg.draw(samples.buckets, 4, bias=torch.ones(8, 9)))


def test_formula_is_set_as_mathematics():
    texts = texts_of(rg.draw(samples.causal, 4))
    assert any(text.startswith("$= \\operatorname{softmax}") for text in texts)
    assert not any("sum" in text for text in texts)


def test_formula_too_long_for_the_page_is_set_as_wrapped_text():
    @rg.program
    def long(pair):
        names = [f"{letter}_of_a_very_long_story" for letter in "abcdef"]
        score = rg.dot(pair.q, pair.k)
        for name in names:
            score = score + rg.parameter(name)
        return rg.softmax(score)

    formula = set_formula(long, 3.0)
    assert not formula.is_math and len(formula.lines) > 3 and formula.width <= 3.0
    assert set_formula(long, 30.0).is_math


def test_bias_has_zero_in_the_middle_of_its_colours():
    (first, *_) = [axes for name, axes in maps_of(rg.draw(samples.buckets, 8)).items()]
    norm = first.images[0].norm
    assert norm(0.0) == 0.5 and norm.vmax == -norm.vmin


def test_signed_weights_share_the_colours_of_the_bias():
    weights = maps_of(rg.draw(samples.difference, 8))["weights"].images[0]
    assert weights.cmap.name == style.BIAS_MAP.name and weights.get_array().min() < 0


@pytest.mark.parametrize("colours", [style.WEIGHTS_MAP, style.BIAS_MAP], ids=lambda c: c.name)
def test_order_of_the_colours_survives_greyscale(colours):
    red, green, blue = colours(np.linspace(0, 1, 64))[:, :3].T
    lightness = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    steps = np.diff(lightness)
    assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (4, 4), (512, 512), (3, 200), (200, 3)])
def test_any_size_can_be_drawn(queries, keys):
    figure = rg.draw(samples.causal, queries, keys)
    image = maps_of(figure)["weights"].images[0].get_array()
    assert image.shape == (queries, keys)
    width, height = figure.get_size_inches()
    assert width < 10 and height < 6


def test_cells_of_small_maps_are_told_apart():
    small, large = (maps_of(rg.draw(samples.plain, size))["weights"] for size in (4, 32))
    assert len(small.collections) == 2 and len(large.collections) == 0


def test_picture_is_written(tmp_path):
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        rg.draw(samples.causal, 4, path=tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_the_same_program_gives_the_same_picture(tmp_path):
    for name in ("a.png", "b.png"):
        rg.draw(samples.additive, 8, path=tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_drawing_changes_no_global_setting():
    before = dict(matplotlib.rcParams)
    rg.draw(samples.alibi, 4)
    assert dict(matplotlib.rcParams) == before


def test_texts_of_the_user_are_not_read_as_mathematics():
    @rg.program
    def price(pair):
        r"""Costs $5 or \frac{1, 日本 and ☃ < & >."""
        return rg.softmax(rg.dot(pair.q, pair.k))

    figure = rg.draw(price, 4)
    figure.canvas.draw()
    assert any(text.startswith("Costs $5 or") for text in texts_of(figure))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": 0}, "queries=0 of a picture must be a whole number above 0"),
        ({"keys": -1}, "keys=-1 of a picture"),
        ({"heads": 2.5}, "heads=2.5 of a picture"),
        ({"slope": torch.ones(8), "nothing": 1}, "alibi reads no 'nothing'"),
    ],
)
def test_wrong_argument_is_an_error_that_names_it(arguments, message):
    with pytest.raises(rg.InputError, match=re.escape(message)):
        rg.draw(samples.alibi, **arguments)


@pytest.mark.parametrize("name", ["picture.nothing", "missing/picture.png"])
def test_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path, name):
    with pytest.raises(rg.FileError, match=re.escape(str(tmp_path / name))):
        rg.draw(samples.causal, 4, path=tmp_path / name)
