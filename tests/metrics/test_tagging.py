"""Span F1 and reports, worked out by hand."""

import pytest

from regard.errors import DataError
from regard.metrics import compare, span_f1, span_report, tag_accuracy, tag_report

RIGHT = [["B-P", "I-P", "O", "B-L"], ["O", "B-P"], ["O", "O"]]
# One of two P and no L right; one P too long, one L of the wrong type.
FOUND = [["B-P", "I-P", "O", "B-P"], ["I-P", "I-P"], ["O", "O"]]


def test_span_f1_is_as_worked_out():
    # Right 1, predicted 3, real 3; P: 1 of 3 predicted, 2 real; L: 0 predicted, 1 real.
    found = span_f1(FOUND, RIGHT).score()
    assert found.value == pytest.approx(1 / 3)
    assert found.counts == {"examples": 3, "spans": 3, "repaired": 1}
    assert span_f1(FOUND, RIGHT, average="macro").score().value == pytest.approx((2 / 5 + 0) / 2)


def test_report_has_a_line_for_each_type():
    report = span_report(FOUND, RIGHT)
    assert report.types["P"] == pytest.approx((1 / 3, 1 / 2, 2 / 5, 2))
    assert report.types["L"] == (0, 0, 0, 1)
    assert (report.micro_f1, report.repaired) == (pytest.approx(1 / 3), 1)
    heading, *lines = str(report).splitlines()
    assert heading.split() == ["precision", "recall", "F1", "support"]
    assert lines[1].split() == ["P", "0.333", "0.500", "0.400", "2"]
    assert lines[2].split() == ["micro", "0.333"]


def test_schemes_that_mark_the_same_spans_score_alike():
    bio = span_f1([["B-P", "I-P", "B-P"]], [["B-P", "I-P", "O"]]).score()
    iobes = span_f1([["B-P", "E-P", "S-P"]], [["B-P", "E-P", "O"]], "IOBES").score()
    assert bio.value == iobes.value == pytest.approx(2 / 3)
    assert span_f1([["P", "P", "L"]], [["P", "P", "O"]], "plain").score().value == iobes.value


def test_nothing_to_find_and_nothing_found_scores_zero():
    assert span_f1([["O"]], [["O"]]).score().value == 0


def test_tag_accuracy_counts_tokens_and_the_report_tags():
    found = tag_accuracy(FOUND, RIGHT).score()
    assert (found.value, found.counts["tokens"]) == (pytest.approx(5 / 8), 8)
    report = tag_report(FOUND, RIGHT)
    assert report.accuracy == pytest.approx(5 / 8)
    assert report.classes["O"] == pytest.approx((1, 3 / 4, 6 / 7, 4))


def test_macro_f1_of_two_systems_is_compared_once_all_types_are_named():
    one, other = (span_f1(x, RIGHT, average="macro") for x in (FOUND, [["B-X"] * 4, *RIGHT[1:]]))
    with pytest.raises(DataError, match="counts different classes; name all classes of both when"):
        compare(one, other)
    named = [span_f1(x, RIGHT, average="macro", types=["L", "P"]) for x in (FOUND, RIGHT)]
    assert compare(*named).difference == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize(
    ("found", "right", "message"),
    [
        ([["O"]], [["O", "O"]], r"^sentence 1 has 1 predicted tags and 2 references; each token"),
        ([["O"], ["E-X"]], [["O"], ["O"]], r"^prediction 2: tag 1 is 'E-X'; BIO tags are"),
        ([["O"]], [["X"]], r"^reference 1: tag 1 is 'X'; BIO tags are"),
        (["O"], [["O"]], r"^sentence 1 is one text; a list of tags is needed$"),
        ([[]], [[]], r"^no sentence has a token; there is nothing to score$"),
        ([], [], r"^there are no tagged sentences to score; at least one is needed$"),
    ],
)
def test_unusable_tags_are_refused(found, right, message):
    with pytest.raises(DataError, match=message):
        span_f1(found, right)


def test_unknown_type_or_average_is_refused():
    with pytest.raises(DataError, match=r"^type 1 is 'L', which is not known; known: P$"):
        span_f1(FOUND, RIGHT, types=["P"])
    with pytest.raises(DataError, match=r"^there is no average 'mean'; known: macro, micro$"):
        span_f1(FOUND, RIGHT, average="mean")
