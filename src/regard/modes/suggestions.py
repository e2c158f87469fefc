"""Which ready modes suit a task that is told in words, and why; offline.

Words of the task are looked for among cues, each of which speaks for some modes with a reason.
Leaves to others: the modes (`collection`), which of them is best on data (training).
"""

import re
from dataclasses import dataclass

from regard.errors import InputError
from regard.modes.collection import READY
from regard.modes.ready import ReadyMode


@dataclass(frozen=True)
class Cue:
    """Words of a task, and what they speak for.

    Attributes:
        words: Beginnings of words, in lower case; one of them is enough.
        reasons: By name of a ready mode, why it suits.
    """

    words: tuple[str, ...]
    reasons: dict[str, str]


_CHEAP = "its cost grows with the length and not its square"
CUES = (
    Cue(
        ("long", "document", "contract", "book", "novel", "chapter", "report", "transcript"),
        {
            "anchored": f"long inputs: {_CHEAP}, and the first tokens gather the whole",
            "hierarchical": "long inputs: short heads read phrases, the last one the whole",
            "local": f"long inputs: {_CHEAP}",
            "contrastive": "long inputs: what all keys attract by habit is cancelled",
        },
    ),
    Cue(
        ("few", "key", "phrase", "decide", "decisive", "clause", "evidence", "explain", "rationale",
         "noise", "noisy", "irrelevant", "distract"),
        {
            "focused": "few words decide: all others get a weight of exactly 0",
            "contrastive": "much that resembles what is looked for: a second map cancels it",
            "selective": "what is looked for may be absent: then nothing is passed on",
        },
    ),
    Cue(
        ("topic", "tone", "style", "genre", "mood", "summar", "impression", "overall", "robust"),
        {
            "broad": "an impression of the whole: no token outweighs the others",
            "reader": "a text as a whole, nearness learned",
        },
    ),
    Cue(
        ("tag", "entit", "label each", "part of speech", "address", "slot", "segment", "character",
         "speech", "audio", "signal", "sensor", "dna", "protein"),
        {
            "local": "the evidence for a token lies near it",
            "reader": "nearness counts, and how much is learned",
            "hierarchical": "evidence at several ranges at once",
        },
    ),
    Cue(
        ("translat", "transcri", "align", "pronunciation", "grapheme", "monoton", "dub", "convert"),
        {"aligned": "what is written follows what is read, mostly in order"},
    ),
    Cue(
        ("generat", "language model", "autocomplet", "write", "next token", "causal", "time series",
         "forecast", "session", "click"),
        {
            "sequential": "what came before counts, the more recent the stronger",
            "anchored": "endless streams: a window, and anchors that never leave it",
        },
    ),
    Cue(
        ("stream", "endless", "live", "chat", "memory", "cache", "infinite"),
        {
            "anchored": "a bounded cache: a window, and anchors that never leave it",
            "local": "a bounded cache: a window",
        },
    ),
    Cue(
        ("recall", "retriev", "lookup", "look up", "match", "search", "similar", "duplicate",
         "question", "answer", "needle", "copy", "induction", "few-shot", "associat"),
        {
            "associative": "looking things up by likeness; lengths of rows do not count",
            "contrastive": "finding one thing among many like it",
            "focused": "one place holds the answer",
        },
    ),
    Cue(
        ("rule", "keyword", "rare", "absent", "optional", "trigger", "alarm", "anomal", "quanti"),
        {"selective": "what is looked for is often absent: then nothing is passed on"},
    ),
    Cue(
        ("graph", "tree", "dialog", "speaker", "table", "structure", "nested", "hierarch", "packed",
         "section", "paragraph", "html", "code"),
        {
            "structured": "a given structure: each step in it counts what is learned for it",
            "hierarchical": "structure at many scales",
        },
    ),
    Cue(
        ("classif", "sentiment", "understand", "intent", "categor", "opinion", "review", "news"),
        {
            "reader": "a text as a whole, both ways",
            "focused": "a few words often decide",
            "broad": "the sum of small signs",
        },
    ),
    Cue(
        ("unstable", "diverge", "small data", "few examples", "few labels", "low resource"),
        {"associative": "scores stay bounded, so nothing saturates by accident"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Suggestion:
    """A ready mode that suits.

    Attributes:
        mode: The mode.
        score: How strongly it was spoken for: a cue's first mode counts most.
        reasons: Why, one for each cue that spoke for it.
    """

    mode: ReadyMode
    score: float
    reasons: tuple[str, ...]


def suggest(task: str) -> list[Suggestion]:
    """Rank ready modes for a task that is told in words.

    Args:
        task: The task, e.g. "long contracts where a few phrases decide"; in English.

    Returns:
        The modes that a word speaks for, best first; none if no word is known.

    Raises:
        InputError: If no task is told.
    """
    if not isinstance(task, str) or not task.strip():
        raise InputError('tell the task in words, e.g. "long contracts where a few phrases decide"')
    scores: dict[str, float] = {}
    reasons: dict[str, list[str]] = {}
    for cue in CUES:
        if not any(re.search(rf"\b{re.escape(word)}", task.lower()) for word in cue.words):
            continue
        for rank, (name, reason) in enumerate(cue.reasons.items()):
            scores[name] = scores.get(name, 0.0) + 1 / (1 + rank)
            reasons.setdefault(name, []).append(reason)
    # Equal ones stay in the order of the collection.
    names = sorted((name for name in READY if name in scores), key=lambda name: -scores[name])
    return [Suggestion(READY[name], scores[name], tuple(reasons[name])) for name in names]
