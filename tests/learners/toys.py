"""A toy of each kind of task, small enough to be learned in about a second."""

import itertools
import json

import yaml

from regard.tasks import load_task

COLOURS = ("red", "green", "blue")
THINGS = ("apple", "sky", "leaf", "sea", "car", "house", "rose", "book")
WORDS = dict(
    zip(
        "one two three four five six seven eight nine ten".split(),
        "un deux trois quatre cinq six_ sept huit neuf dix".split(),
        strict=True,
    )
)
MODEL = {"width": 32, "layers": 1, "heads": 2, "ffn": 32, "dropout": 0.0, "positions": 24}
TRAINING = {
    "steps": 60, "batch_tokens": 200, "lr": 0.01, "warmup": 5, "label_smoothing": 0.0,
    "save_every": 60, "eval_every": 30, "threads": 1,
}  # fmt: skip


def sentences():
    """Each thing in each colour, in two orders of words: (words, thing, colour)."""
    for thing, colour in itertools.product(THINGS, COLOURS):
        yield f"the {thing} is {colour}", thing, colour
        yield f"a {colour} {thing}", thing, colour


def texts():
    """Sentences that end as they began."""
    for text, _, _ in sentences():
        yield {"text": f"as all of us can see {text} as all of us can see"}


def repetitions():
    """Texts of one word each, again and again."""
    for thing, count in itertools.product(THINGS, range(15, 21)):
        yield {"text": " ".join([thing] * count)}


def summaries():
    for text, _, colour in sentences():
        yield {"text": f"Behold. {text}, {colour} indeed.", "summary": f"{colour} {colour}"}


def labelled_pairs():
    """Which of two texts speaks of a colour."""
    for text, thing, _ in sentences():
        other = f"the {thing} is here"
        yield {"first": text, "second": other, "label": "first"}
        yield {"first": other, "second": text, "label": "second"}


def scored_pairs():
    """How much two colours count together."""
    for (k, one), (n, other) in itertools.product(enumerate(COLOURS), repeat=2):
        for thing in THINGS[:6]:
            yield {"first": f"{one} {thing}", "second": f"a {other} {thing}", "score": k + n / 2}


def queries():
    """Pairs of words, and the same in another language, without a word in common."""
    for one, other in itertools.combinations(WORDS, 2):
        yield {"query": f"{one} {other}", "passage": f"{WORDS[one]} {WORDS[other]}"}


def questions():
    """Which colour stands in a text that is longer than the model reads; in some there is none."""
    filler = "it was a day like any other day in the house by the sea"
    for number, (text, thing, colour) in enumerate(sentences()):
        context = f"{filler} {text} {filler}" if number % 2 else f"{text} {filler}"
        yield {"question": "which colour", "context": context, "answers": [colour]}
        if number % 6 == 0:
            yield {"question": "which colour", "context": f"{filler} {thing}", "answers": []}


TOYS = {
    "causal": ("language_modelling", texts, {"tokenizer": {"size": 320}}),
    "masked": (
        "language_modelling", repetitions,
        {
            "tokenizer": {"size": 320}, "model": {"objective": "masked"},
            "training": {"lr": 0.02, "batch_tokens": 400},
        },
    ),
    "summarisation": ("summarisation", summaries, {"training": {"lr": 0.02, "batch_tokens": 800}}),
    "pairs": ("pairs", labelled_pairs, {}),
    "scores": ("pairs", scored_pairs, {"data": {"columns": {"score": "score"}}}),
    "retrieval": ("retrieval", queries, {}),
    "question_answering": ("question_answering", questions, {"data": {"no_answer": True}}),
}  # fmt: skip


def write_toy(folder, name, **changes):
    """Write the task file of a toy and its data; `training=dict(steps=3)` changes some settings."""
    kind, rows, own = TOYS[name]
    lines = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    parts = {
        "task": kind,
        "data": {"path": "rows.jsonl", "split": {"test": 9, "valid": 6}},
        "tokenizer": {"size": 100},
        "model": dict(MODEL),
        "training": dict(TRAINING),
    }
    for given in (own, changes):
        for part, value in given.items():
            mixed = isinstance(value, dict) and part in parts
            parts[part] = {**parts[part], **value} if mixed else value
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(parts), encoding="utf-8")
    return path


def toy(folder, name, **changes):
    return load_task(write_toy(folder, name, **changes))
