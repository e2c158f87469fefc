"""What some kinds of tasks say of their model, and of their metrics, beside what all say.

Leaves to others: what all kinds share (`settings`), which kind has which (`kinds`).
"""

from typing import Annotated, Literal

from pydantic import Field

from regard.tasks.model_settings import ModelSettings
from regard.tasks.settings import Count, Settings


class WritingSettings(ModelSettings):
    """A model that writes texts.

    Attributes:
        beams: How many beginnings of an answer are followed at once; 1: the likeliest next token
            each time.
        longest: The most tokens that are written; None: as many as fit the kind of task.
        prefix: What stands before each text that is read, such as T5's "summarize: ".
    """

    beams: Count = 1
    longest: Count | None = None
    prefix: str = ""


class LanguageModelSettings(ModelSettings):
    """A model that predicts words from their neighbours.

    Attributes:
        objective: "causal": each token from those before it; "masked": hidden tokens from all
            others.
        masked: Which share of tokens is hidden, if they are.
    """

    objective: Literal["causal", "masked"] = "causal"
    masked: Annotated[float, Field(gt=0, lt=1)] = 0.15


class AnswerSettings(ModelSettings):
    """A model that finds answers in texts.

    Attributes:
        answer_tokens: The most tokens of an answer.
    """

    answer_tokens: Count = 30


class RetrievalSettings(ModelSettings):
    """A model that finds passages.

    Attributes:
        temperature: What likenesses, from −1 to 1, are divided by in training.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.05


class SummaryMetrics(Settings):
    """How summaries are scored.

    Attributes:
        stemmer: Whether words are compared by their stems.
    """

    stemmer: bool = False


class RetrievalMetrics(Settings):
    """How rankings are scored.

    Attributes:
        k: Among how many first passages the right one is looked for.
    """

    k: Annotated[list[Count], Field(min_length=1)] = Field(default=[1, 5, 10])
