"""Splits: no held-out source is trained on, and the choice is the seed's alone."""

import random

import pytest

from regard.errors import DataError
from regard.tasks.data import Pair
from regard.tasks.splits import drop_repeated_sources, normal_form, select_pairs, split_pairs

PAIRS = [Pair(f"text {number}", f"texte {number}", number) for number in range(60)]


def test_texts_that_differ_in_case_and_blanks_have_one_normal_form():
    assert normal_form("  Save\u00a0 AS … ") == normal_form("save as ...")
    assert normal_form("save") != normal_form("safe")


def test_every_pair_goes_to_one_split():
    splits = split_pairs(PAIRS, 10, 5)
    assert [len(part) for part in splits] == [45, 5, 10]
    assert sorted(pair for part in splits for pair in part) == sorted(PAIRS)


def test_no_held_out_source_is_trained_on_in_another_spelling():
    spelled = [pair._replace(source=f" {pair.source.upper()}  ") for pair in PAIRS]
    train, valid, test = split_pairs([*PAIRS, *spelled], 10, 5)
    assert [len(train), len(valid), len(test)] == [90, 5, 10]
    sources = [{normal_form(pair.source) for pair in part} for part in (train, valid, test)]
    assert not sources[0] & (sources[1] | sources[2]) and not sources[1] & sources[2]


def test_choice_does_not_depend_on_the_order_of_the_file():
    shuffled = random.Random(0).sample(PAIRS, len(PAIRS))
    one, other = split_pairs(PAIRS, 10, 5, seed=3), split_pairs(shuffled, 10, 5, seed=3)
    assert one.test == other.test and one.valid == other.valid


def test_choice_does_not_change_much_when_the_file_grows():
    before, after = split_pairs(PAIRS[:59], 10, 5), split_pairs(PAIRS, 10, 5)
    assert len(set(before.test) & set(after.test)) >= 9


def test_another_seed_is_another_choice():
    assert split_pairs(PAIRS, 10, 5, seed=1).test != split_pairs(PAIRS, 10, 5, seed=2).test


def test_too_few_pairs_are_refused_with_what_to_do():
    with pytest.raises(
        DataError,
        match=r"^60 different sources are too few to hold out 31 and train on as many; lower "
        r"data\.test_pairs or data\.valid_pairs, or raise data\.max_words$",
    ):
        split_pairs(PAIRS, 20, 11)


def test_repeated_source_is_refused_with_both_lines():
    pairs = [Pair("Save", "Enregistrer", 1), Pair("Open", "Ouvrir", 2), Pair("save ", "Sauver", 3)]
    with pytest.raises(
        DataError,
        match=r"^line 3: the source 'save ' stands on line 1 already; delete one, or set "
        r"data\.duplicates to first$",
    ):
        drop_repeated_sources(pairs)
    assert drop_repeated_sources(pairs, "first") == pairs[:2]


def test_long_pairs_and_pairs_without_letters_are_left_out():
    good = [Pair("two words", "deux mots"), Pair("one", "deux de trop")]
    bad = [
        Pair("three words here", "a"),
        Pair("50 %", "50 %"),
        Pair("a b", "five words are too many"),
    ]
    assert select_pairs([*good[:1], *bad], 2) == good[:1]
    assert select_pairs([*good, *bad], None) == [*good, bad[0], bad[2]]
