"""The stemmer, beside NLTK's, on our own pages' words and on made ones with all suffixes."""

import random
import re
from pathlib import Path

import pytest
from nltk.stem.porter import PorterStemmer

from regard.metrics.porter import stem

SUFFIXES = (
    "ational tional enci anci izer bli alli entli eli ousli ization ation ator alism iveness "
    "fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance "
    "ence er ic able ible ant ement ment ent ou ism ate iti ous ive ize ion ed ing eed ied ies "
    "sses s y ll e"
).split()


def words():
    pages = (Path(__file__).parents[2] / "docs").glob("*.md")
    text = " ".join(page.read_text("utf-8").lower() for page in pages)
    found = set(re.findall("[a-z]+", text))
    chosen = random.Random(0)
    for _ in range(5000):
        start = "".join(chosen.choices("aeiouybtlszwx1", k=chosen.randint(0, 5)))
        found.add(start + "".join(chosen.choices(SUFFIXES, k=2)))
    return sorted(found)


def test_stems_are_those_of_nltk():
    theirs = PorterStemmer()
    assert {word: stem(word) for word in words()} == {word: theirs.stem(word) for word in words()}


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("skies", "sky"), ("dying", "die"), ("news", "news"), ("innings", "inning"), ("is", "is"),
        ("caresses", "caress"), ("ponies", "poni"), ("relational", "relat"), ("hopping", "hop"),
        ("happy", "happi"), ("enjoy", "enjoy"), ("controlling", "control"), ("tied", "tie"),
    ],
)  # fmt: skip
def test_known_words_have_their_known_stems(word, right):
    assert stem(word) == right
