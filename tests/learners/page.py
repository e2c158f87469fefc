"""The task files of docs/tasks.md, and the toys they are about."""

import itertools
import json
import re
from pathlib import Path

from tests.learners.toys import (
    COLOURS,
    THINGS,
    labelled_pairs,
    queries,
    questions,
    scored_pairs,
    sentences,
    summaries,
    texts,
)

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
SHOWN = re.compile(r"```yaml\n(task: [^`]*)```\n\n```text\n([^`]*)```")


def shown():
    """Each task file of the page with what it is said to print."""
    return SHOWN.findall(PAGE.read_text(encoding="utf-8"))


def labelled():
    for text, _, colour in sentences():
        yield {"text": text, "label": colour}


def tagged():
    """A rose may be a thing and a colour."""
    for thing, colour in itertools.product(THINGS, (*COLOURS, "rose")):
        for words, tagged in (
            (["the", thing, "is", colour], 3),
            (["a", colour, thing], 1),
        ):
            tags = ["B-colour" if place == tagged else "O" for place in range(len(words))]
            yield {"tokens": words, "tags": tags}


def write_rows(folder):
    """Write the files that the page's tasks name."""
    lines = "".join(f"{row['text']}\n" for row in texts())
    (folder / "texts.txt").write_text(lines, encoding="utf-8")
    made = {
        "summaries": summaries(), "labels": labelled(), "tags": tagged(),
        "questions": questions(), "pairs": labelled_pairs(), "scores": scored_pairs(),
        "queries": queries(),
    }  # fmt: skip
    for name, rows in made.items():
        text = "".join(json.dumps(row) + "\n" for row in itertools.chain(rows))
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
