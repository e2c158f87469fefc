"""The part `data` of a task file: one schema for each kind of data.

Leaves to others: what is done with it (`plan_data`, and the room `data`).
"""

# Fields of frozen models may be narrowed; pyright takes them for mutable.
# pyright: reportIncompatibleVariableOverride=false

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from regard.data.kinds import (
    CLASSIFICATION,
    LANGUAGE_MODELLING,
    PAIRS,
    QUESTION_ANSWERING,
    RETRIEVAL,
    SCORED_PAIRS,
    SUMMARISATION,
    TAGGING,
    TRANSLATION,
    DataKind,
)
from regard.data.plan import ACTIONS
from regard.errors import nearest
from regard.tasks.settings import Count, CountOrNone, Paths, Settings

Action = Literal["refuse", "warn", "leave_out"]
# Where a row cannot be used at all.
Hard = Literal["refuse", "leave_out"]
Step = Literal["nfc", "nfkc", "one_line", "strip"]
_NO_SPLIT = "say where the rows are: data.path, or data.train with data.valid and data.test"


def _check_files(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return value
    raise ValueError(f"should be a path or a list of paths, found {value!r}")


def _check_column(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"should be a column's name, or its number from 1, found {value!r}")
    return value


def _check_share(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if whole or (isinstance(value, float) and 0 <= value < 1):
        return value
    raise ValueError(f"should be a number of rows or a fraction below 1, found {value!r}")


Files = Annotated[str | list[str] | None, BeforeValidator(_check_files), Paths()]
ColumnName = Annotated[int | str, BeforeValidator(_check_column)]
Share = Annotated[int | float, BeforeValidator(_check_share)]


class SplitSettings(Settings):
    """What is held out of the training files for splits that have no files of their own.

    Attributes:
        test: How many rows, or which fraction of them, for the result.
        valid: Likewise, for watching the training.
        seed: Chooses them.
        stratify: Whether each label is held out in its share.
        group: A column; rows alike in it stay on one side.
    """

    test: Share = 0.1
    valid: Share = 0.1
    seed: int = 0
    stratify: bool = True
    group: Annotated[int | str | None, BeforeValidator(_check_column)] = None


class CheckSettings(Settings):
    """What is done about a row that fails a check: refuse the data, warn, or leave the row out.

    Attributes:
        malformed: It cannot be read.
        empty: A field is empty.
        leak: Its input is held out as well.
        near_leak: Likewise, but for case, blanks and ways of encoding.
        long: It has more words than the model reads tokens.
        mojibake: Its text was read in a wrong encoding before it was saved.
    """

    malformed: Hard = Field(default=ACTIONS["malformed"])
    empty: Hard = Field(default=ACTIONS["empty"])
    leak: Action = Field(default=ACTIONS["leak"])
    near_leak: Action = Field(default=ACTIONS["near_leak"])
    long: Action = Field(default=ACTIONS["long"])
    mojibake: Action = Field(default=ACTIONS["mojibake"])


class LabelChecks(CheckSettings):
    """Checks of rows with labels.

    Attributes:
        conflict: Its input has another label elsewhere.
        unknown_label: Its label is not among the known ones.
    """

    conflict: Action = Field(default=ACTIONS["conflict"])
    unknown_label: Hard = Field(default=ACTIONS["unknown_label"])


class TagChecks(LabelChecks):
    """Checks of rows with tags.

    Attributes:
        lengths: It has not as many tags as tokens.
        bio: A tag I-x goes on with a span that nothing began.
    """

    lengths: Hard = Field(default=ACTIONS["lengths"])
    bio: Action = Field(default=ACTIONS["bio"])


class AnswerChecks(CheckSettings):
    """Checks of questions and answers.

    Attributes:
        answer: The answer is not in the context, or not where it is said to be.
    """

    answer: Hard = Field(default=ACTIONS["answer"])


class TranslationChecks(CheckSettings):
    """Checks of translations.

    Attributes:
        letters: One side has no letter.
    """

    letters: Action = "leave_out"


class DataSettings(Settings):
    """Where the rows are, how they are laid out and which of them are used.

    Attributes:
        path: Files that are split, in place of `train`.
        train: Files to train on.
        valid: Files to watch the training with; if there are none, rows of `train` are held out.
        test: Files for the result; likewise.
        columns: By field, the column's name or number from 1, or a key, where they differ.
        header: Whether the first line of a .csv or .tsv names the columns; None: as needed.
        delimiter: Between the columns of a .csv.
        encoding: Of text files.
        normalise: What is done to every text, in order.
        max_words: The most words of an input; longer rows are left out.
        duplicates: Rows that come again: "refuse" them, take the "first" or "keep" them all.
        checks: What is done about rows that fail one.
        sha256: If given, the files must have this fingerprint.
    """

    kind: ClassVar[DataKind]

    path: Files = None
    train: Files = None
    valid: Files = None
    test: Files = None
    columns: dict[str, ColumnName] = Field(default={})
    header: bool | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    normalise: list[Step] = Field(default=["strip"])
    max_words: Count | None = None
    duplicates: Literal["refuse", "first", "keep"] = "keep"
    checks: CheckSettings = CheckSettings()
    sha256: str | None = None

    def data_kind(self) -> DataKind:
        """Return what rows hold.

        Returns:
            The kind of the class, unless a column says otherwise.
        """
        return type(self).kind

    @model_validator(mode="after")
    def _says_where_rows_are(self) -> "DataSettings":
        if self.path is None and self.train is None:
            raise ValueError(_NO_SPLIT)
        if self.path is not None and self.train is not None:
            raise ValueError("path and train are two names of one thing; set the other to null")
        return self

    @model_validator(mode="after")
    def _columns_are_of_fields(self) -> "DataSettings":
        kind = self.data_kind()
        fields = [field.name for field in (*kind.fields, *kind.guides)]
        for name in self.columns:
            if name not in fields:
                raise ValueError(f"columns.{name}: there is no such field; {nearest(name, fields)}")
        if self.header is False and any(isinstance(x, str) for x in self.columns.values()):
            raise ValueError("columns are named, but header is false; give them by number")
        return self


class TranslationData(DataSettings):
    """Texts and their translations.

    Attributes:
        source: The column of the text: the same as columns.source.
        target: The column of its translation.
        test_pairs: How many pairs are held out for the result.
        valid_pairs: How many are held out for watching the training.
        seed: Chooses the held-out pairs.
    """

    kind: ClassVar[DataKind] = TRANSLATION

    source: Annotated[int | str | None, BeforeValidator(_check_column)] = None
    target: Annotated[int | str | None, BeforeValidator(_check_column)] = None
    normalise: list[Step] = Field(default=["one_line", "strip"])
    duplicates: Literal["refuse", "first", "keep"] = "refuse"
    checks: TranslationChecks = TranslationChecks()
    test_pairs: Count = 400
    valid_pairs: CountOrNone = 200
    seed: int = 0

    @model_validator(mode="after")
    def _columns_are_named_once(self) -> "TranslationData":
        for name in ("source", "target"):
            if getattr(self, name) is not None and name in self.columns:
                raise ValueError(f"{name} and columns.{name} are one setting; leave one out")
        return self


class _Splittable(DataSettings):
    split: SplitSettings = SplitSettings()


class SummarisationData(_Splittable):
    """Texts and their summaries."""

    kind: ClassVar[DataKind] = SUMMARISATION


class LanguageData(_Splittable):
    """Texts."""

    kind: ClassVar[DataKind] = LANGUAGE_MODELLING


class RetrievalData(_Splittable):
    """Queries and passages that answer them."""

    kind: ClassVar[DataKind] = RETRIEVAL


class _Labelled(_Splittable):
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    checks: LabelChecks = LabelChecks()

    @model_validator(mode="after")
    def _labels_differ(self) -> "_Labelled":
        labels = self.labels or []
        again = next((x for k, x in enumerate(labels) if x in labels[:k]), None)
        if again is not None:
            raise ValueError(f"labels: '{again}' is listed twice; delete one")
        return self


class ClassificationData(_Labelled):
    """Texts and their labels.

    Attributes:
        labels: All there are, in the order of the model's outputs; None: those found, sorted.
    """

    kind: ClassVar[DataKind] = CLASSIFICATION


class TaggingData(_Labelled):
    """Tokens and a tag for each.

    Attributes:
        labels: All tags there are; None: those found, sorted.
    """

    kind: ClassVar[DataKind] = TAGGING

    checks: TagChecks = TagChecks()


class PairsData(_Labelled):
    """Pairs of texts and a label, or a score if columns.score is given.

    Attributes:
        labels: All there are; None: those found, sorted.
    """

    kind: ClassVar[DataKind] = PAIRS

    def data_kind(self) -> DataKind:
        """Return what rows hold.

        Returns:
            Pairs with scores if there is a column for them.
        """
        return SCORED_PAIRS if "score" in self.columns else PAIRS


class AnswerData(_Splittable):
    """Questions, contexts and answers that stand in them.

    Attributes:
        no_answer: Whether a question may have no answer.
        normalise: What is done to every text; answers are found again in the new context.
    """

    kind: ClassVar[DataKind] = QUESTION_ANSWERING

    normalise: list[Step] = Field(default=[])
    no_answer: bool = False
    checks: AnswerChecks = AnswerChecks()
