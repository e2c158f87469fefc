"""The schema of a whole task, one class for each kind.

A new kind is one class here, one in `data_settings`, and one entry in the room `data`.
"""

# Fields of frozen models may be narrowed; pyright takes them for mutable.
# pyright: reportIncompatibleVariableOverride=false

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from regard.errors import nearest
from regard.modes import ROLES
from regard.tasks.attention_settings import AttentionSettings, fit_terms
from regard.tasks.data_settings import (
    AnswerData,
    ClassificationData,
    DataSettings,
    LanguageData,
    PairsData,
    RetrievalData,
    SummarisationData,
    TaggingData,
    TranslationData,
)
from regard.tasks.kind_settings import (
    AnswerSettings,
    LanguageModelSettings,
    RetrievalMetrics,
    RetrievalSettings,
    SummaryMetrics,
    WritingSettings,
)
from regard.tasks.model_settings import ModelSettings
from regard.tasks.search_settings import SearchSettings
from regard.tasks.settings import (
    Paths,
    Settings,
    TokenizerSettings,
    TrainingSettings,
    absolute_mode,
)
from regard.tasks.tracking_settings import TrackingSettings
from regard.tasks.tuning_settings import TuningSettings


class Task(Settings):
    """A whole task of any kind.

    Attributes:
        task: Its kind.
        data: Where the rows are.
        tokenizer: Subwords.
        model: The shape of the model.
        mode: None for plain attention; a mode's .json file; or for each role a ready mode's name or
            a program: a name of the catalogue, `file.py:name` or a program's .json file.
        training: How it is trained.
        search: Which of these settings are tried, and how; of no weight in a single training.
        attention: What attention should do, and what is written down of it.
        tracking: Who is told of the run beside its log.
        tuning: Which of the model's weights are trained.
        stands_on: What a head of the model reads, "texts" or "tokens"; None: there is no such head.
    """

    stands_on: ClassVar[Literal["texts", "tokens"] | None] = None

    task: str
    data: DataSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    mode: Annotated[str | dict[str, str] | None, Paths(absolute_mode)] = None
    training: TrainingSettings = TrainingSettings()
    tuning: TuningSettings = TuningSettings()
    search: SearchSettings | None = None
    attention: AttentionSettings = AttentionSettings()
    tracking: TrackingSettings = TrackingSettings()

    @property
    def fingerprint(self) -> str | None:
        """That of the data, if the task says it."""
        return self.data.sha256

    @field_validator("attention")
    @classmethod
    def _fits_data_and_model(
        cls, value: AttentionSettings, known: ValidationInfo
    ) -> AttentionSettings:
        # A part that is wrong itself is not there.
        if not {"data", "model", "training"} <= known.data.keys():
            return value
        if value.log and not known.data["training"].eval_every:
            raise ValueError("log goes with evaluations; set training.eval_every, or delete log")
        return fit_terms(value, known.data["data"].data_kind(), known.data["model"])

    @field_validator("mode", mode="before")
    @classmethod
    def _is_a_mode(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, dict) or not value:
            raise ValueError("should be a mode's .json file, or a program for each role")
        for role, program in value.items():
            if role not in ROLES:
                raise ValueError(f"'{role}' is no role of attention; {nearest(str(role), ROLES)}")
            if not isinstance(program, str):
                raise ValueError(
                    f"the program of role '{role}' should be a name of the catalogue, "
                    "file.py:name or a .json file"
                )
        return value

    @model_validator(mode="after")
    def _head_fits(self) -> "Task":
        stands_on, model = type(self).stands_on, self.model
        if stands_on is None and (model.head or model.pooling is not None):
            named = "head" if model.head else "pooling"
            raise ValueError(f"model.{named}: {self.task} has no such thing; delete it")
        if stands_on == "tokens" and (model.pools_by_attention or model.pooling is not None):
            named = "pooling" if model.pooling is not None else "head: the attention layer"
            raise ValueError(
                f"model.{named} makes one vector of a text, and {self.task} needs one of each "
                "token; delete it"
            )
        return self

    @model_validator(mode="after")
    def _few_weights_are_of_a_pretrained_model(self) -> "Task":
        method = self.tuning.method
        if method != "full" and self.model.pretrained is None:
            raise ValueError(
                f"tuning.method: {method} keeps most weights as they are, and those of a new model "
                "are random; give model.pretrained, or delete tuning"
            )
        return self


class TranslationTask(Task):
    """Texts into texts of another language."""

    task: Literal["translation"]
    data: TranslationData
    model: WritingSettings = WritingSettings()


class ClassificationTask(Task):
    """A label for each text."""

    stands_on: ClassVar[Literal["texts", "tokens"] | None] = "texts"

    task: Literal["classification"]
    data: ClassificationData


class TaggingTask(Task):
    """A tag for each token."""

    stands_on: ClassVar[Literal["texts", "tokens"] | None] = "tokens"

    task: Literal["tagging"]
    data: TaggingData


class QuestionAnsweringTask(Task):
    """The answer to a question, found in its context."""

    stands_on: ClassVar[Literal["texts", "tokens"] | None] = "tokens"

    task: Literal["question_answering"]
    data: AnswerData
    model: AnswerSettings = AnswerSettings()


class SummarisationTask(Task):
    """Long texts into short ones.

    Attributes:
        metrics: How summaries are scored.
    """

    task: Literal["summarisation"]
    data: SummarisationData
    model: WritingSettings = WritingSettings()
    metrics: SummaryMetrics = SummaryMetrics()


class LanguageModellingTask(Task):
    """The words of texts from their neighbours."""

    task: Literal["language_modelling"]
    data: LanguageData
    model: LanguageModelSettings = LanguageModelSettings()


class PairsTask(Task):
    """A label or a score for two texts."""

    stands_on: ClassVar[Literal["texts", "tokens"] | None] = "texts"

    task: Literal["pairs"]
    data: PairsData


class RetrievalTask(Task):
    """The passages that answer a query.

    Attributes:
        metrics: How rankings are scored.
    """

    task: Literal["retrieval"]
    data: RetrievalData
    model: RetrievalSettings = RetrievalSettings()
    metrics: RetrievalMetrics = RetrievalMetrics()


AnyTask = Annotated[
    TranslationTask
    | ClassificationTask
    | TaggingTask
    | QuestionAnsweringTask
    | SummarisationTask
    | LanguageModellingTask
    | PairsTask
    | RetrievalTask,
    Field(discriminator="task"),
]
KINDS: dict[str, type[Task]] = {
    "translation": TranslationTask,
    "classification": ClassificationTask,
    "tagging": TaggingTask,
    "question_answering": QuestionAnsweringTask,
    "summarisation": SummarisationTask,
    "language_modelling": LanguageModellingTask,
    "pairs": PairsTask,
    "retrieval": RetrievalTask,
}
