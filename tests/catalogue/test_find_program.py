"""Names of variants, with knobs, where a program is asked for; files are tests/cli's."""

import re

import pytest

import regard as rg
from regard.catalogue.find_program import find_variant, load_program, names_variant


def test_name_is_the_published_program():
    assert load_program("sliding_window") == rg.catalogue.sliding_window.program
    assert load_program("sliding_window()") == rg.catalogue.sliding_window.program


def test_knobs_are_set_in_brackets():
    wanted = rg.catalogue.dilated_window(window=8, dilation=3)
    assert load_program(" dilated_window( window=8,\n dilation = 3 ) ") == wanted
    wanted = rg.catalogue.rotary_sections(sections=(2, 1, 1))
    assert load_program("rotary_sections(sections=(2, 1, 1))") == wanted


def test_whole_number_may_stand_for_a_fraction():
    assert load_program("soft_cap(cap=30)") == rg.catalogue.soft_cap(cap=30.0)


def test_form_tells_a_name_from_a_file():
    found = find_variant("soft_cap(cap=30.0)")
    assert found is not None
    assert (found[0].name, found[1]) == ("soft_cap", {"cap": 30.0})
    for file in ("soft_cap.py", "soft_cap.json", "./soft_cap", "a.py:soft_cap", "soft cap", ""):
        assert find_variant(file) is None and not names_variant(file)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("sliding_windw", "the catalogue has no 'sliding_windw'; did you mean 'sliding_window'"),
        ("qqqq", "the catalogue has no 'qqqq'; `regard catalogue` lists all"),
        ("sliding_window(windw=3)", "'windw' is no knob of sliding_window; did you mean 'window'"),
        ("scaled_dot_product(x=3)", "'x' is no knob of scaled_dot_product; it has none"),
        ("sliding_window(64)", "'sliding_window(64)' cannot be read; write knobs as name=number"),
        ("sliding_window(window=)", "cannot be read; write knobs as name=number"),
        ("sliding_window(window=n)", "cannot be read; write knobs as name=number"),
        ("sliding_window(**{})", "cannot be read; write knobs as name=number"),
        ("sliding_window(window=3)(4)", "cannot be read; write knobs as name=number"),
        ("sliding_window(window=print())", "cannot be read; write knobs as name=number"),
        (
            "sliding_window(window='3')",
            "window='3' of sliding_window is of type str; the published",
        ),
        ("sliding_window(window=True)", "window=True of sliding_window is of type bool"),
        ("sliding_window(window=2.5)", "window=2.5 of sliding_window is of type float"),
    ],
)
def test_reference_that_names_no_variant_is_an_error(reference, message):
    with pytest.raises(rg.InputError, match=re.escape(message)):
        load_program(reference)
