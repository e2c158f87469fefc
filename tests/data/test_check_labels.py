"""Misspelled labels: what one edit is, and which labels differ on purpose."""

import pytest

from regard.data.check_labels import find_typos, is_one_edit, spans_of


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ("label", "labels", True),
        ("label", "abel", True),
        ("label", "libel", True),
        ("label", "lable", True),
        ("label", "label", False),
        ("label", "libels", False),
        ("label", "albel", True),
        ("label", "lbeal", False),
        ("", "a", True),
    ],
)
def test_one_edit_adds_drops_replaces_or_swaps(one, other, answer):
    assert is_one_edit(one, other) is answer and is_one_edit(other, one) is answer


@pytest.mark.parametrize(
    ("counts", "typos"),
    [
        ({"positive": 50, "postive": 2}, [("postive", "positive")]),
        ({"positive": 50, "postive": 40}, []),
        ({"World": 1, "world": 1}, [("world", "World")]),
        ({"yes ": 2, "yes": 9}, [("yes ", "yes")]),
        ({"class_1": 90, "class_2": 1}, []),
        ({"1": 90, "2": 1}, []),
        ({"in": 90, "on": 1}, []),
    ],
)
def test_misspelled_labels_are_found(counts, typos):
    assert list(find_typos(counts)) == typos


def test_spans_are_counted_by_what_they_are():
    assert spans_of(("B-a", "I-a", "B-a", "O", "I-b", "I-b")) == {"a": 2, "b": 1}
