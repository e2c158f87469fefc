"""Splits: alike rows on one side, the choice the seed's alone, labels in their shares."""

import random
from collections import Counter

import pytest

from regard.data.normalise import normal_form
from regard.data.split import HeldOut, split_rows
from regard.errors import DataError

ROWS = [f"text {number}" for number in range(60)]


def split(rows, test=10, valid=5, seed=0, **more):
    return split_rows(rows, HeldOut(test, valid, seed), normal_form, **more)


def test_texts_that_differ_in_case_and_blanks_have_one_normal_form():
    assert normal_form("  Save\u00a0 AS … ") == normal_form("save as ...")
    assert normal_form("save") != normal_form("safe")


def test_every_row_goes_to_one_split():
    splits = split(ROWS)
    assert [len(part) for part in splits] == [45, 5, 10]
    assert sorted(row for part in splits for row in part) == sorted(ROWS)


def test_no_held_out_row_is_trained_on_in_another_spelling():
    splits = split([*ROWS, *(f" {row.upper()}  " for row in ROWS)])
    assert sum(map(len, splits)) == 120
    train, valid, test = ({normal_form(row) for row in part} for part in splits)
    assert not train & (valid | test) and not valid & test


def test_choice_does_not_depend_on_the_order_of_the_rows():
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    assert split(ROWS, seed=3)[1:] == split(shuffled, seed=3)[1:]


def test_choice_does_not_change_much_when_rows_are_added():
    assert len(set(split(ROWS[:59]).test) & set(split(ROWS).test)) >= 9


def test_another_seed_is_another_choice():
    assert split(ROWS, seed=1).test != split(ROWS, seed=2).test


def test_fractions_are_of_all_rows_and_at_least_one():
    assert [len(part) for part in split(ROWS, 0.25, 0.1)] == [39, 6, 15]
    assert [len(part) for part in split(ROWS[:4], 0.01, 0)] == [3, 0, 1]


def test_nothing_is_held_out_when_nothing_is_asked_for():
    assert split(ROWS[:1], 0, 0) == (ROWS[:1], [], [])


def label_of(row):
    return "rare" if int(row.split()[1]) % 10 == 0 else "often"


def test_each_label_is_held_out_in_its_share():
    splits = split(ROWS, 20, 10, stratum=label_of)
    assert [Counter(map(label_of, part)) for part in splits] == [
        {"often": 27, "rare": 3},
        {"often": 9, "rare": 1},
        {"often": 18, "rare": 2},
    ]


def test_label_with_one_row_is_trained_on():
    splits = split(ROWS, 20, 10, stratum=lambda row: "one" if row == "text 7" else "other")
    assert "text 7" in splits.train


def test_rows_of_which_no_two_are_labelled_alike_are_held_out_all_the_same():
    splits = split(ROWS, 20, 10, stratum=lambda row: row)
    assert (len(splits.test), len(splits.valid)) == (20, 10)


def test_groups_stay_together():
    splits = split_rows(ROWS, HeldOut(10, 10), lambda row: row[-1])
    sides = [{row[-1] for row in part} for part in splits]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert [len(part) for part in splits[1:]] == [12, 12]


def test_too_few_rows_are_refused_with_what_to_do():
    with pytest.raises(
        DataError,
        match=r"^60 rows with 60 different inputs are too few to hold out 31 and train on as many; "
        r"lower data\.split\.test or data\.split\.valid$",
    ):
        split(ROWS, 20, 11)
    with pytest.raises(DataError, match="4 rows with 1 different inputs are too few to hold out 1"):
        split(["a"] * 4, 1, 0)
