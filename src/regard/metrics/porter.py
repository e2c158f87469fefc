"""Porter's stemmer with the extensions that NLTK made its default, as ROUGE uses it.

Source: M. F. Porter, "An algorithm for suffix stripping", 1980. A word is a string of consonants
and vowels; its measure is how often a vowel is followed by a consonant.
"""

from collections.abc import Callable
from functools import lru_cache

_VOWELS = frozenset("aeiou")
_IRREGULAR = {
    "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "innings": "inning",
    "outings": "outing", "cannings": "canning",
} | {
    word: word
    for word in (
        "sky", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed",
    )
}  # fmt: skip

Condition = Callable[[str], bool]
Rule = tuple[str, str, Condition | None]


def _kinds(word: str) -> str:
    """Return "v" or "c" for each letter; a y after a consonant is a vowel."""
    found: list[str] = []
    for letter in word:
        vowel = letter in _VOWELS or (letter == "y" and found[-1:] == ["c"])
        found.append("v" if vowel else "c")
    return "".join(found)


def _measure(word: str) -> int:
    return _kinds(word).count("vc")


def _is_long(stem: str) -> bool:
    return _measure(stem) > 0


def _is_longer(stem: str) -> bool:
    return _measure(stem) > 1


def _ends_short(word: str) -> bool:
    """Return whether a word ends consonant, vowel, consonant, or is a vowel and a consonant."""
    kinds = _kinds(word)
    return kinds == "vc" or (kinds.endswith("cvc") and word[-1] not in "wxy")


def _replace(word: str, rules: list[Rule]) -> str:
    """Apply the first rule whose suffix the word has, if its stem meets the condition."""
    for suffix, other, condition in rules:
        if word.endswith(suffix):
            stem = word.removesuffix(suffix)
            return stem + other if condition is None or condition(stem) else word
    return word


_PLURALS: list[Rule] = [
    ("sses", "ss", None),
    ("ies", "i", None),
    ("ss", "ss", None),
    ("s", "", None),
]
_DOUBLE: list[Rule] = [
    (suffix, other, _is_long)
    for suffix, other in (
        ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"),
        ("izer", "ize"), ("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"),
        ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
        ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
        ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
    )
]  # fmt: skip
# Its l belongs to the stem that is measured.
_DOUBLE.append(("logi", "log", lambda stem: _is_long(stem + "l")))
_SINGLE: list[Rule] = [
    (suffix, other, _is_long)
    for suffix, other in (
        ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"),
        ("ful", ""), ("ness", ""),
    )
]  # fmt: skip
_LAST: list[Rule] = [
    (suffix, "", _is_longer)
    for suffix in (
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ou",
        "ism", "ate", "iti", "ous", "ive", "ize",
    )
]  # fmt: skip
_LAST.append(("ion", "", lambda stem: _is_longer(stem) and stem[-1] in "st"))


def _drop_past(word: str) -> str:
    """Remove -ed and -ing, and mend what is left."""
    if word.endswith("ied"):
        return word.removesuffix("ied") + ("ie" if len(word) == 4 else "i")
    if word.endswith("eed"):
        return _replace(word, [("eed", "ee", _is_long)])
    for suffix in ("ed", "ing"):
        stem = word.removesuffix(suffix)
        if stem != word and "v" in _kinds(stem):
            return _mend(stem)
    return word


def _mend(stem: str) -> str:
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and _kinds(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _ends_short(stem) else stem


def _turn_y(word: str) -> str:
    return _replace(word, [("y", "i", lambda stem: len(stem) > 1 and _kinds(stem)[-1] == "c")])


def _drop_double(word: str) -> str:
    if word.endswith("alli") and _is_long(word[:-4]):
        word = word[:-2]
    return _replace(word, _DOUBLE)


def _drop_e(word: str) -> str:
    stem = word.removesuffix("e")
    if stem == word:
        return word
    measure = _measure(stem)
    return stem if measure > 1 or (measure == 1 and not _ends_short(stem)) else word


def _drop_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _is_longer(word[:-1]) else word


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem of a word.

    Args:
        word: In lower case.

    Returns:
        Its stem, which need not be a word.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    if word.endswith("ies") and len(word) == 4:
        word = word[:-1]
    else:
        word = _replace(word, _PLURALS)
    word = _drop_double(_turn_y(_drop_past(word)))
    return _drop_l(_drop_e(_replace(_replace(word, _SINGLE), _LAST)))
