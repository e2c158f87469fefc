"""Every row's width follows from those of the call, in both directions."""

import pytest

import regard as rg
from regard.errors import InputError
from regard.ir import nodes as n
from regard.passes.infer_widths import infer_widths, resolve_channels

KNOWN = {"q": 8, "k": 8, "v": 6}


def widths(fn, known=KNOWN):
    found = infer_widths(rg.program(fn).root, known)
    return {node.name: width for node, width in found.items() if hasattr(node, "name")}


def test_widths_spread_from_rows_to_what_meets_them():
    def spread(pair):
        row = (
            rg.tanh(pair.q * rg.parameter("gain", per="channel"))
            + rg.table("rows", per=("rows", "channel"))[pair.i]
        )
        return rg.softmax(rg.dot(row, rg.key_vector("far")))

    own = {"q": 8, "v": 6, "summed": 6}
    assert widths(spread) == {**own, "gain": 8, "rows": 8, "far": 8}


def test_projections_and_slices_change_widths():
    def changed(pair):
        matrix = rg.parameter("m", per=("channel", "channel"))
        wide = rg.project(pair.q, matrix, width=12)
        return rg.softmax(
            rg.dot(wide, rg.key_vector("far"))
            + rg.dot(pair.q[2:5], rg.parameter("p", per="channel"))
        )

    found = widths(changed)
    assert (found["m"], found["far"], found["p"]) == (12, 12, 3)


def test_angle_of_a_rotation_is_half_as_wide():
    def turned(pair):
        angle = pair.i * rg.parameter("speed", per="channel")
        return rg.softmax(rg.sum(rg.rotate(pair.q, angle)))

    assert widths(turned)["speed"] == 4


def test_summed_row_is_as_wide_as_the_values():
    def finished(pair):
        gain = rg.parameter("gain", per="channel")
        weights = rg.softmax(pair.j)
        return rg.output(weights, values=pair.k, finish=lambda row: gain * row)

    assert widths(finished)["gain"] == 8


def test_channel_numbers_get_the_width_of_their_surroundings():
    # Before: sum(channel · q), rotated by an angle over channel.
    # After: channel:8 in the sum, channel:4 in the angle of pairs.
    def counted(pair):
        turned = rg.rotate(pair.q, pair.i * rg.channel)
        return rg.softmax(rg.sum(rg.channel * turned))

    root = rg.program(counted).root
    resolved = resolve_channels(root, infer_widths(root, KNOWN))
    holes = {x.name for x in n.walk(resolved) if isinstance(x, n.Hole)}
    assert holes == {"channel:8", "channel:4"}
    assert n.Channel() not in n.walk(resolved)


def test_program_without_channel_numbers_is_left_alone():
    root = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k))).root
    assert resolve_channels(root, infer_widths(root, KNOWN)) is root


MISTAKES = [
    (
        lambda p: rg.softmax(rg.dot(p.q, p.v)),
        "'q' has 8 channels and 'v' has 6; one expression combines them",
    ),
    (
        lambda p: rg.softmax(rg.dot(p.q[:4], p.k)),
        "a row of 'q' has 4 channels and 'k' has 8; one expression combines them",
    ),
    (
        lambda p: rg.output(rg.softmax(p.j), finish=lambda row: row * p.q),
        "'v' has 6 channels and the summed row has 8; one expression combines them",
    ),
    (
        lambda p: rg.softmax(rg.sum(rg.rotate(p.q[:3], p.i))),
        "rg.rotate turns pairs of channels; a row of 3 cannot be paired",
    ),
    (lambda p: rg.softmax(rg.sum(p.q[4:9])), "channels 4:9 do not exist in a row of 8"),
    (lambda p: rg.softmax(rg.sum(p.q[8:])), "channels 8:None do not exist in a row of 8"),
]


@pytest.mark.parametrize(("fn", "text"), MISTAKES)
def test_widths_that_do_not_fit_are_told(fn, text):
    with pytest.raises(InputError) as caught:
        infer_widths(rg.program(fn).root, KNOWN)
    assert text in str(caught.value)


def test_channel_number_alone_is_told():
    root = rg.program(lambda p: rg.softmax(rg.sum(rg.channel * 2) + p.j)).root
    with pytest.raises(InputError) as caught:
        resolve_channels(root, infer_widths(root, KNOWN))
    assert str(caught.value) == (
        "nothing decides how many channels rg.channel counts here; combine it with a row"
    )
