"""Translation: from a task's data to splits, from a model to translations and their scores.

Leaves to others: the model (`train`), the training run (`train`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard.data import Report, load_corpus
from regard.data.split import Splits
from regard.metrics.translation import Scores, score
from regard.tasks.batches import PadExamples, encode_pairs
from regard.tasks.data import Pair, pairs_of
from regard.tasks.data_settings import DataSettings
from regard.tasks.plan_data import plan_data

# Texts translated at once.
BATCH = 64


@dataclass(frozen=True)
class Corpus:
    """The data of a task, ready for use.

    Attributes:
        splits: The pairs.
        report: What was found, and how many rows were read, kept and left out.
        sha256: Of the files, in hexadecimal digits.
    """

    splits: Splits[Pair]
    report: Report
    sha256: str

    def counts(self) -> dict[str, Any]:
        """Return how many rows were read, how many each split has, and how many were left out.

        Returns:
            Counts by name.
        """
        return self.report.counts()


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of pairs.

    Attributes:
        scores: Of the model.
        copy: Of copying each source, the baseline without a model.
        translations: One for each pair.
    """

    scores: Scores
    copy: Scores
    translations: list[str]

    def metrics(self) -> dict[str, float]:
        """Return the numbers.

        Returns:
            Scores by name, and how many pairs they are of.
        """
        copy = {f"copy_{name}": value for name, value in self.copy._asdict().items()}
        return {"pairs": len(self.translations), **self.scores._asdict(), **copy}


def read_corpus(settings: DataSettings, positions: int | None = None) -> Corpus:
    """Read, check, select and split the data of a task.

    Args:
        settings: The part `data` of a task file.
        positions: The most tokens the model reads; longer texts are reported.

    Returns:
        The data.

    Raises:
        DataError: If the files are not as the settings say; the message names file and line.
    """
    found = load_corpus(plan_data(settings, positions))
    found.report.refuse()
    return Corpus(Splits(*map(pairs_of, found.splits)), found.report, found.sha256)


def most_tokens(source: int, limit: int) -> int:
    """Return how many tokens a translation may have.

    Args:
        source: Tokens of its source.
        limit: The most tokens the model reads.

    Returns:
        Enough for any fair translation; one that has not ended by then never will.
    """
    return min(2 * source + 8, limit - 1)


def translate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[str]:
    """Translate texts, each by its most likely next token, with the model's cache.

    Args:
        model: An encoder-decoder model; it is left in the mode, training or not, it was in.
        tokenizer: Its tokenizer.
        texts: Any number of texts.

    Returns:
        The translations in the order of the texts.

    Raises:
        DataError: If a text is longer than the model reads.
    """
    limit = model.config.max_position_embeddings
    pairs = [Pair(text, "", line) for line, text in enumerate(texts, 1)]
    ids = [example["input_ids"] for example in encode_pairs(pairs, tokenizer, limit)]
    written = [""] * len(texts)
    training = model.training
    model.eval()
    for places in _alike(ids):
        rows = _generate(model, [ids[place] for place in places], limit)
        for place, row in zip(places, rows, strict=True):
            # A text's own bound, whatever longer neighbours were allowed to write.
            own = row[: 1 + most_tokens(len(ids[place]), limit)]
            written[place] = str(tokenizer.decode(own, skip_special_tokens=True))
    model.train(training)
    return written


def _alike(ids: list[list[int]]) -> Iterator[list[int]]:
    """Yield places of texts of like length, `BATCH` at a time."""
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


@torch.no_grad()
def _generate(model: Any, ids: list[list[int]], limit: int) -> Any:
    batch = PadExamples(model.config.pad_token_id)(
        [{"input_ids": row, "labels": [model.config.pad_token_id]} for row in ids]
    )
    return model.generate(
        input_ids=batch["input_ids"].to(model.device),
        attention_mask=batch["attention_mask"].to(model.device),
        # The decoder's start counts as well.
        max_length=1 + most_tokens(batch["input_ids"].shape[1], limit),
        num_beams=1,
        do_sample=False,
    )


def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair]
) -> Evaluation:
    """Translate the sources of pairs and compare with the targets.

    Args:
        model: An encoder-decoder model.
        tokenizer: Its tokenizer.
        pairs: At least one pair.

    Returns:
        The translations and their scores.
    """
    sources = [pair.source for pair in pairs]
    references = [pair.target for pair in pairs]
    translations = translate(model, tokenizer, sources)
    return Evaluation(score(translations, references), score(sources, references), translations)
