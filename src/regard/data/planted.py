"""Planted tasks: rows drawn by a rule, so that right answers and the right attention are known.

Before: "induction", a seed. After: "c f a k … b f", labelled "a", because an "a" followed the
earlier "f". Each task has exact labels, a ceiling that an oracle reaches and an obvious shortcut
does not, and a family: the traits of modes that suit it, as `search/traits` names them.
Leaves to others: learning them, and whether a mode is of the family.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from regard.data.kinds import CLASSIFICATION, TAGGING, TRANSLATION, DataKind
from regard.errors import DataError, InputError, nearest

Row = dict[str, Any]
# How many draws in a row may give inputs that were drawn before.
_MOST_REPEATS = 1000


@dataclass(frozen=True)
class Planted:
    """A task whose right mode is known.

    Attributes:
        name: What it is called.
        says: The rule, in one line.
        kind: What its rows hold.
        draw: Draws a row.
        oracle: Returns the answer to a row from its input alone.
        shortcut: Likewise, the obvious way that is wrong.
        role: Where the attention that counts is: "encoder" or "cross".
        family: Traits of programs; the right mode has those of one of these sets.
        ceiling: The share of answers that can be right.
        floor: The most that the shortcut gets right.
    """

    name: str
    says: str
    kind: DataKind
    draw: Callable[[Random], Row]
    oracle: Callable[[Row], Any]
    shortcut: Callable[[Row], Any]
    role: str
    family: tuple[frozenset[str], ...]
    floor: float
    ceiling: float = 1.0

    def rows(self, count: int, seed: int = 0) -> Iterator[Row]:
        """Draw rows whose inputs all differ.

        Args:
            count: How many.
            seed: Draws them; the same seed gives the same rows.

        Yields:
            Rows with the fields of the kind.

        Raises:
            DataError: If there are not so many.
        """
        random, seen, repeats = Random(f"{self.name} {seed}"), set(), 0
        while len(seen) < count:
            row = self.draw(random)
            key = json.dumps([row[name] for name in self.kind.inputs])
            repeats = repeats + 1 if key in seen else 0
            if repeats > _MOST_REPEATS:
                raise DataError(
                    f"planted task '{self.name}' has hardly more than {len(seen)} different rows, "
                    f"and {count} are asked for; ask for fewer"
                )
            if key not in seen:
                seen.add(key)
                yield row

    def write(self, path: str | os.PathLike, count: int, seed: int = 0) -> None:
        """Write rows to a file that a task file can name.

        Args:
            path: A .jsonl, which is replaced.
            count: How many rows.
            seed: Draws them.

        Raises:
            DataError: If there are not so many rows, or the file cannot be written.
        """
        lines = [json.dumps(row) + "\n" for row in self.rows(count, seed)]
        try:
            Path(path).write_text("".join(lines), encoding="utf-8")
        except OSError as problem:
            raise DataError(f"{path}: {(problem.strerror or str(problem)).lower()}") from None

    def share_right(self, rows: list[Row], answer: Callable[[Row], Any]) -> float:
        """Return how much of some rows is answered right.

        Args:
            rows: The rows.
            answer: Returns the label, the tags or the target of a row.

        Returns:
            The share of rows, or of tokens where each has a tag.
        """
        field = self.kind.fields[-1].name
        if self.kind is not TAGGING:
            return sum(answer(row) == row[field] for row in rows) / len(rows)
        pairs = [pair for row in rows for pair in zip(answer(row), row[field], strict=True)]
        return sum(a == b for a, b in pairs) / len(pairs)


def _words(row: Row) -> list[str]:
    return row["text"].split()


def _most_common(words: list[str]) -> str:
    return Counter(words).most_common(1)[0][0]


# ── Induction: what followed the last token the last time ────────────────────────────────────
_LETTERS = "abcdefghijkl"


def _draw_induction(random: Random) -> Row:
    cue = random.choice(_LETTERS)
    others = [one for one in _LETTERS if one != cue]
    words = random.choices(others, k=random.randint(16, 24))
    place = random.randrange(len(words) - 1)
    words[place] = cue
    return {"text": " ".join([*words, cue]), "label": words[place + 1]}


def _what_followed(row: Row) -> str:
    *before, cue = _words(row)
    return before[before.index(cue) + 1]


# ── Reversal ─────────────────────────────────────────────────────────────────────────────────
def _draw_reversal(random: Random) -> Row:
    while True:
        words = random.choices(_LETTERS, k=random.randint(6, 12))
        if words != words[::-1]:
            return {"source": " ".join(words), "target": " ".join(reversed(words))}


# ── Local majority: what most of a token and its two neighbours on each side are ─────────────
_REACH = 2


def _draw_majority(random: Random) -> Row:
    tokens = random.choices("xo", k=random.randint(30, 50))
    # Sums up to each place, so that a window is a difference of two.
    sums = [0]
    for token in tokens:
        sums.append(sums[-1] + (1 if token == "x" else -1))
    tags = []
    for place, token in enumerate(tokens):
        first, after = max(0, place - _REACH), min(len(tokens), place + _REACH + 1)
        margin = sums[after] - sums[first] or (1 if token == "x" else -1)
        tags.append("X" if margin > 0 else "O")
    return {"tokens": tokens, "tags": tags}


def _majorities(row: Row) -> list[str]:
    tokens, found = row["tokens"], []
    for place, own in enumerate(tokens):
        near = [one for at, one in enumerate(tokens) if abs(at - place) <= _REACH]
        counts = near.count("x"), near.count("o")
        found.append((own if counts[0] == counts[1] else "xo"[counts[1] > counts[0]]).upper())
    return found


# ── Needle: the value of the one key that is asked for, among many ───────────────────────────
_KEYS, _HIDDEN, _VALUES = 32, 24, 4


def _draw_needle(random: Random) -> Row:
    keys = random.sample(range(_KEYS), _HIDDEN)
    values = {key: random.randrange(_VALUES) for key in keys}
    asked = random.choice(keys)
    hay = " ".join(f"k{key}v{value}" for key, value in values.items())
    return {"text": f"k{asked} {hay}", "label": f"v{values[asked]}"}


def _found(row: Row) -> str:
    asked, *hay = _words(row)
    return next(one[len(asked) :] for one in hay if one.startswith(asked + "v"))


# ── Nested documents: the topic of the innermost section that is open ────────────────────────
_TOPICS, _FILLING, _DEEPEST = "ABCD", "uvwxyz", 3


def _draw_nested(random: Random) -> Row:
    tokens: list[str] = []
    tags: list[str] = []
    _draw_section(random, 1, tokens, tags)
    return {"tokens": tokens, "tags": tags}


def _draw_section(random: Random, depth: int, tokens: list[str], tags: list[str]) -> None:
    topic = random.choice(_TOPICS)

    def words() -> None:
        own = random.choices(_FILLING, k=random.randint(1, 3))
        tokens.extend(own)
        tags.extend([topic] * len(own))

    tokens += ["(", topic]
    tags += [topic, topic]
    words()
    for _ in range(random.randint(1, 2) if depth < _DEEPEST else 0):
        _draw_section(random, depth + 1, tokens, tags)
        words()
    tokens.append(")")
    tags.append(topic)


def _innermost(row: Row) -> list[str]:
    tokens, found, open_ = row["tokens"], [], []
    for place, token in enumerate(tokens):
        if token == "(":
            open_.append(tokens[place + 1])
        found.append(open_[-1])
        if token == ")":
            open_.pop()
    return found


def _latest_topic(row: Row) -> list[str]:
    tokens, found = row["tokens"], []
    latest = tokens[1]
    for token in tokens:
        latest = token if token in _TOPICS else latest
        found.append(latest)
    return found


# ── Transduction: letters become no, one or two signs, in order ──────────────────────────────
_SPELT = {one: [f"{one}1", f"{one}2"][: place % 3] for place, one in enumerate(_LETTERS)}


def _draw_transduction(random: Random) -> Row:
    letters: list[str] = []
    while not any(_SPELT[one] for one in letters):
        letters = random.choices(_LETTERS, k=random.randint(6, 14))
    signs = [sign for letter in letters for sign in _SPELT[letter]]
    return {"source": " ".join(letters), "target": " ".join(signs)}


def _spelt(row: Row) -> str:
    """Spell letter by letter: how many signs one has goes by its place in the alphabet."""
    signs = []
    for letter in row["source"].split():
        count = _LETTERS.index(letter) % 3
        signs += [f"{letter}{number}" for number in range(1, count + 1)]
    return " ".join(signs)


# ── Counting: how many there are, which no average tells ─────────────────────────────────────
_MOST_COUNTED, _SHORTEST, _LONGEST = 8, 10, 40


def _draw_counting(random: Random) -> Row:
    length, count = random.randint(_SHORTEST, _LONGEST), random.randint(1, _MOST_COUNTED)
    words = random.choices("abc", k=length)
    for place in random.sample(range(length), count):
        words[place] = "x"
    return {"text": " ".join(words), "label": str(count)}


def _by_average(row: Row) -> str:
    """Guess a count from the share of what is counted, as if all texts were equally long."""
    words = _words(row)
    guess = round(words.count("x") / len(words) * (_SHORTEST + _LONGEST) / 2)
    return str(min(max(guess, 1), _MOST_COUNTED))


# ── Several ranges: the token before, the eighth before, and the first ───────────────────────
_STEPS = (1, 8)


def _draw_ranges(random: Random) -> Row:
    tokens = random.choices("01", k=random.randint(24, 40))
    padded = [tokens[0]] * max(_STEPS) + tokens
    tags = [
        "".join(padded[place + max(_STEPS) - step] for step in _STEPS) + tokens[0]
        for place in range(len(tokens))
    ]
    return {"tokens": tokens, "tags": tags}


def _at_ranges(row: Row) -> list[str]:
    tokens, found = row["tokens"], []
    for place in range(len(tokens)):
        seen = [tokens[max(0, place - step)] for step in _STEPS]
        found.append("".join([*seen, tokens[0]]))
    return found


def _nearest_alone(row: Row) -> list[str]:
    tokens = row["tokens"]
    return [tokens[max(0, place - 1)] * 3 for place in range(len(tokens))]


def _any_of(*families: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(one.split()) for one in families)


_ALL = (
    Planted(
        "induction", "what followed the last token when it stood there before", CLASSIFICATION,
        _draw_induction, _what_followed, lambda row: _most_common(_words(row)), "encoder",
        _any_of("positions"), 0.3,
    ),
    Planted(
        "reversal", "the same letters backwards", TRANSLATION,
        _draw_reversal, lambda row: " ".join(row["source"].split()[::-1]),
        lambda row: row["source"], "cross", _any_of("positions"), 0.0,
    ),
    Planted(
        "majority", "what most of a token and its two neighbours on each side are", TAGGING,
        _draw_majority, _majorities, lambda row: [one.upper() for one in row["tokens"]],
        "encoder", _any_of("window", "distance", "ranges"), 0.75,
    ),
    Planted(
        "needle", "the value of the one key that is asked for, among many", CLASSIFICATION,
        _draw_needle, _found,
        lambda row: _most_common(["v" + one.rpartition("v")[2] for one in _words(row)[1:]]),
        "encoder", _any_of("sparse", "contrast", "cosine"), 0.5,
    ),
    Planted(
        "nested", "the topic of the innermost section that is open", TAGGING,
        _draw_nested, _innermost, _latest_topic, "encoder", _any_of("segments", "ranges"), 0.8,
    ),
    Planted(
        "transduction", "letters become no, one or two signs, in order", TRANSLATION,
        _draw_transduction, _spelt,
        lambda row: " ".join(f"{one}1" for one in row["source"].split()), "cross",
        _any_of("distance"), 0.1,
    ),
    Planted(
        "counting", "how many x there are, in texts of any length", CLASSIFICATION,
        _draw_counting, lambda row: str(_words(row).count("x")), _by_average, "encoder",
        _any_of("unaveraged"), 0.5,
    ),
    Planted(
        "ranges", "the token before, the eighth before, and the first", TAGGING,
        _draw_ranges, _at_ranges, _nearest_alone, "encoder", _any_of("ranges", "distance"), 0.5,
    ),
)  # fmt: skip

PLANTED: Mapping[str, Planted] = MappingProxyType({one.name: one for one in _ALL})
"""The planted tasks by name."""


def find_planted(name: str) -> Planted:
    """Return a planted task.

    Args:
        name: Its name.

    Returns:
        The task.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in PLANTED:
        raise InputError(f"there is no planted task '{name}'; {nearest(name, PLANTED)}")
    return PLANTED[name]
