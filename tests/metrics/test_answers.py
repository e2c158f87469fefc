"""Exact match and F1, worked out by hand with SQuAD's rules."""

import pytest

from regard.errors import DataError
from regard.metrics import answer_f1, exact_match, normalise_answer


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The  Cat,", "cat"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("twenty-one", "twentyone"),
        ("the", ""),
        # Curly quotes are no ASCII punctuation: SQuAD keeps them.
        ("“A” b", "“ ” b"),
    ],
)
def test_answers_lose_case_punctuation_articles_and_blanks(text, right):
    assert normalise_answer(text) == right


@pytest.mark.parametrize(
    ("answer", "right", "exact", "f1"),
    [
        ("the Eiffel Tower", ["Eiffel Tower!"], 1, 1),
        ("Eiffel Tower in Paris", ["Eiffel Tower"], 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("to be or not to be", ["to be"], 0, 2 * (2 / 6) * 1 / (2 / 6 + 1)),
        ("1889", ["in 1889", "1889"], 1, 1),
        ("London", ["Paris", "the Seine"], 0, 0),
        ("", [], 1, 1),
        ("", [""], 1, 1),
        ("The.", ["", "the"], 1, 1),
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        # Something is right, so nothing is not.
        ("", ["Paris", ""], 0, 0),
    ],
)
def test_one_answer_scores_as_worked_out(answer, right, exact, f1):
    assert exact_match([answer], [right]).score().value == exact
    assert answer_f1([answer], [right]).score().value == pytest.approx(f1)


def test_scores_are_means_and_count_questions_without_answer():
    found = answer_f1(["a cat", "", "dog"], [["cat"], [], ["big dog"]]).score()
    assert found.value == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert found.counts == {"examples": 3, "without answer": 1}


def test_answers_that_are_no_texts_are_refused():
    with pytest.raises(DataError, match=r"^answer 2 is NoneType, not text$"):
        exact_match(["a", None], [["a"], ["b"]])
    with pytest.raises(DataError, match=r"^of question 1, right answer 2 is int, not text$"):
        exact_match(["a"], [["a", 4]])
    with pytest.raises(DataError, match="there are 1 answers and 2 references; each needs the"):
        answer_f1(["a"], [["a"], ["b"]])
