"""What the rows of each kind of task hold, and which of it must not come twice.

A new kind is one entry here, and one schema in `tasks/kinds`.
"""

from dataclasses import dataclass, replace

from regard.data.fields import (
    Field,
    read_answers,
    read_label,
    read_number,
    read_text,
    read_tokens,
    read_whole_number,
)
from regard.data.guides import ALIGNMENT, RATIONALE, WORD_WEIGHTS


@dataclass(frozen=True)
class DataKind:
    """The rows of a kind of task.

    Attributes:
        name: The kind.
        fields: What a row has.
        inputs: The fields a model reads; rows alike in them must not be in two splits.
        repeats: Rows alike in these fields are duplicates.
        labels: The field that holds a label or tags, or None.
        numbered: Whether a .tsv is taken to have no header and the fields in its first columns.
        guides: What rows may say of attention as well, for tasks that ask for it.
    """

    name: str
    fields: tuple[Field, ...]
    inputs: tuple[str, ...]
    repeats: tuple[str, ...]
    labels: str | None = None
    numbered: bool = False
    guides: tuple[Field, ...] = ()

    @property
    def optional(self) -> frozenset[str]:
        """The fields a row may lack."""
        return frozenset(field.name for field in self.fields if not field.required)

    def asked(self) -> "DataKind":
        """Return what rows hold that nobody has answered yet.

        Returns:
            The same kind with the fields a model reads alone.
        """
        fields = tuple(field for field in self.fields if field.name in self.inputs)
        return replace(self, fields=fields, repeats=self.inputs, labels=None)


TRANSLATION = DataKind(
    "translation",
    (Field("source", read_text, share=1), Field("target", read_text, share=2)),
    ("source",),
    ("source",),
    numbered=True,
    guides=(ALIGNMENT,),
)
SUMMARISATION = DataKind(
    "summarisation",
    (Field("text", read_text, share=1), Field("summary", read_text)),
    ("text",),
    ("text",),
)
CLASSIFICATION = DataKind(
    "classification",
    (Field("text", read_text, share=1), Field("label", read_label)),
    ("text",),
    ("text", "label"),
    "label",
    guides=(RATIONALE, WORD_WEIGHTS),
)
TAGGING = DataKind(
    "tagging",
    (Field("tokens", read_tokens, share=1), Field("tags", read_tokens)),
    ("tokens",),
    ("tokens", "tags"),
    "tags",
    guides=(RATIONALE, WORD_WEIGHTS),
)
QUESTION_ANSWERING = DataKind(
    "question_answering",
    (
        Field("question", read_text),
        Field("context", read_text, share=1),
        Field("answers", read_answers),
        Field("start", read_whole_number, required=False),
    ),
    ("question", "context"),
    ("question", "context", "answers"),
)
LANGUAGE_MODELLING = DataKind(
    "language_modelling", (Field("text", read_text, share=1),), ("text",), ("text",)
)
PAIRS = DataKind(
    "pairs",
    (
        Field("first", read_text, share=1),
        Field("second", read_text, share=1),
        Field("label", read_label),
    ),
    ("first", "second"),
    ("first", "second", "label"),
    "label",
)
SCORED_PAIRS = DataKind(
    "pairs",
    (*PAIRS.fields[:2], Field("score", read_number)),
    ("first", "second"),
    ("first", "second", "score"),
)
RETRIEVAL = DataKind(
    "retrieval",
    (Field("query", read_text, share=1), Field("passage", read_text, share=1)),
    ("query",),
    ("query", "passage"),
)
