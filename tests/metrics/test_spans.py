"""Spans from tags, worked out by hand; malformed tags as conlleval reads them."""

import pytest

from regard.errors import DataError
from regard.metrics import read_spans


def spans(tags, scheme):
    found, repaired = read_spans(tags.split(), scheme)
    return " ".join(f"{start}:{stop}:{label}" for start, stop, label in found), repaired


@pytest.mark.parametrize(
    ("scheme", "tags", "right", "repaired"),
    [
        ("BIO", "B-X I-X O B-X B-X I-X", "0:2:X 3:4:X 4:6:X", 0),
        ("BIO", "O O", "", 0),
        ("BIO", "", "", 0),
        # An I begins a span after O, at the start, and after another type.
        ("BIO", "I-X I-X O I-Y", "0:2:X 3:4:Y", 2),
        ("BIO", "B-X I-Y I-Y", "0:1:X 1:3:Y", 1),
        ("BIO", "B-X-Y I-X-Y", "0:2:X-Y", 0),
        ("IOBES", "S-X B-X E-X B-Y I-Y E-Y O", "0:1:X 1:3:X 3:6:Y", 0),
        # What lacks its E ends where the next begins; an I or E after an E or S is another span.
        ("IOBES", "B-X I-X S-X", "0:2:X 2:3:X", 0),
        ("IOBES", "B-X E-X I-X E-X", "0:2:X 2:4:X", 1),
        ("IOBES", "S-X E-X", "0:1:X 1:2:X", 1),
        ("IOBES", "E-X E-X", "0:1:X 1:2:X", 2),
        ("IOBES", "B-X E-Y", "0:1:X 1:2:Y", 1),
        (
            "plain",
            "Number Street Street O Street City",
            "0:1:Number 1:3:Street 4:5:Street 5:6:City",
            0,
        ),
        ("plain", "B-X I-X", "0:1:B-X 1:2:I-X", 0),
    ],
)
def test_tags_mark_the_spans_worked_out(scheme, tags, right, repaired):
    assert spans(tags, scheme) == (right, repaired)


def conlleval(tags):
    """Spans by the two tables of conlleval.pl: where a chunk starts, and where it ends."""
    ends = {
        "BB",
        "BO",
        "IB",
        "IO",
        "EE",
        "EI",
        "EO",
        "EB",
        "SB",
        "SI",
        "SE",
        "SS",
        "SO",
        "BS",
        "IS",
        "ES",
    }
    starts = {
        "BB",
        "IB",
        "OB",
        "OI",
        "EE",
        "EI",
        "OE",
        "EB",
        "SB",
        "SI",
        "SE",
        "SS",
        "OS",
        "BS",
        "IS",
        "ES",
    }
    found, start, before = [], None, ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        now = (tag[0], tag[2:])
        other = before[1] != now[1]
        if start is not None and (before[0] + now[0] in ends or other):
            found.append((start, place, before[1]))
            start = None
        if now[0] != "O" and (before[0] + now[0] in starts or other):
            start = place
        before = now
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_short_run_of_tags_is_read_as_conlleval_does(length):
    import itertools

    kinds = ["O", *(f"{mark}-{label}" for mark in "BIES" for label in "XY")]
    for tags in itertools.product(kinds, repeat=length):
        assert [tuple(span) for span in read_spans(tags, "IOBES")[0]] == conlleval(tags), tags


@pytest.mark.parametrize(
    ("scheme", "tags", "message"),
    [
        ("BIO", ["O", "E-X"], r"^tag 2 is 'E-X'; BIO tags are B-TYPE, I-TYPE and O$"),
        ("IOBES", ["B"], r"^tag 1 is 'B'; IOBES tags are I-TYPE, B-TYPE, E-TYPE, S-TYPE and O$"),
        ("BIO", ["B-"], r"^tag 1 is 'B-'; BIO tags are"),
        ("BIO", ["BI-X"], r"^tag 1 is 'BI-X'; BIO tags are"),
        ("plain", [""], r"^tag 1 is ''; write O for a token outside of spans$"),
        ("BIO", [None], r"^tag 1 is None; write O for"),
        (
            "BIOES",
            ["O"],
            r"^there is no scheme 'BIOES'; did you mean 'IOBES'\? known: BIO, IOBES, plain$",
        ),
    ],
)
def test_unknown_tag_or_scheme_is_refused(scheme, tags, message):
    with pytest.raises(DataError, match=message):
        read_spans(tags, scheme)
