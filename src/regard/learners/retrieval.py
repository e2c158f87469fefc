"""The passage that answers a query, found by one encoder for both (a bi-encoder)."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from regard.data.record import Record
from regard.errors import TaskError
from regard.learners.batches import Collate, Example
from regard.learners.choices import choice_loss
from regard.learners.encoders import text_model
from regard.learners.learner import Learner
from regard.learners.text_model import TextConfig, TextModel, pool
from regard.learners.words import WordIndex
from regard.metrics.retrieval import ranks_of
from regard.tasks.kinds import RetrievalTask

# Rows of a batch: the fewest that leave a choice, and how many to ask for.
_TWO, _USUAL = 2, 16


class BiEncoder(TextModel):
    """An encoder of texts into vectors of length 1: the mean over tokens, without a head."""

    def __init__(self, config: TextConfig, encoder: nn.Module | None = None) -> None:
        """Build it.

        Args:
            config: Its shape.
            encoder: That of another model, or None for a new one.
        """
        super().__init__(config, encoder)
        self.head = nn.Identity()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        passage_ids: Tensor | None = None,
        passage_mask: Tensor | None = None,
        **_: Any,
    ) -> TokenClassifierOutput:
        """Return the vectors of texts, or their likenesses to passages.

        Args:
            input_ids: (B, N), whole numbers.
            attention_mask: (B, N), 0 where there is padding.
            token_type_ids: Not read: each text stands alone.
            passage_ids: (P, M), passages; None: none are compared with.
            passage_mask: (P, M), likewise.

        Returns:
            `logits`: (B, D) vectors; with passages (B, P) cosines.
        """
        found = self._vectors(input_ids, attention_mask)
        if passage_ids is not None:
            found = found @ self._vectors(passage_ids, passage_mask).T
        return TokenClassifierOutput(logits=found)  # type: ignore[arg-type]

    def _vectors(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        mask = torch.ones_like(ids) if mask is None else mask
        rows = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = pool(rows, mask, self.config.pooling)
        return F.normalize(self.dropout(pooled), dim=-1)


class RetrievalLearner(Learner):
    """The passage that answers a query; the passages of a batch are each other's wrong answers."""

    model_class: ClassVar[type | None] = BiEncoder
    baseline_name: ClassVar[str] = "words in common (BM25)"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the query and the passage."""
        yield record.values["query"]
        yield record.values["passage"]

    def build(self) -> BiEncoder:
        """Return an encoder without a head."""
        return text_model(self.task, self.tokenizer, self.outputs, self.pad, kind=BiEncoder)

    @property
    def outputs(self) -> int:
        """None are used: a text is its vector."""
        return 1

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return `input_ids` of queries, and if learning `passage_ids` and in `labels` the group.

        Rows of one group share a query or a passage, and are not each other's wrong answers.

        Args:
            rows: Any number of records.
            learning: With passages.

        Returns:
            One example a record; texts are cut to what the model reads.

        Raises:
            TaskError: If no two examples would fit into a batch: there is nothing to choose from.
        """
        examples: list[Example] = [
            {"input_ids": ids} for ids in self._ids([row.values["query"] for row in rows])
        ]
        if learning:
            passages = self._ids([row.values["passage"] for row in rows])
            groups = _groups(rows)
            for example, ids, group in zip(examples, passages, groups, strict=True):
                example |= {"passage_ids": ids, "labels": group}
            self._check_choice(examples)
        return examples

    def _ids(self, texts: list[str]) -> Any:
        if not texts:
            return []
        return self.tokenizer(texts, truncation=True, max_length=self.limit)["input_ids"]

    def _check_choice(self, examples: Sequence[Example]) -> None:
        longest = sorted(max(len(one["input_ids"]), len(one["passage_ids"])) for one in examples)
        budget = self.task.training.batch_tokens
        if len(longest) > 1 and _TWO * longest[1] > budget:
            enough = _USUAL * longest[len(longest) // 2]
            raise TaskError(
                f"training.batch_tokens is {budget}, too few for two rows, but a query chooses "
                f"among the passages of its batch; make it {enough} or more"
            )

    @property
    def collate(self) -> Collate:
        """Batches of queries and passages, each with its mask."""
        return Collate(
            {"input_ids": self.pad, "passage_ids": self.pad},
            masks={"input_ids": "attention_mask", "passage_ids": "passage_mask"},
        )

    def loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Return the cross-entropy of choosing each query's passage among those of the batch.

        Args:
            outputs: Of the model, with `logits` (B, B), the cosines of queries and passages.
            labels: (B,): the group of each row.
            num_items_in_batch: What to divide by where a batch comes in parts; None: the rows.

        Returns:
            A scalar (van den Oord et al., "Representation learning with contrastive predictive
            coding", 2018).
        """
        assert isinstance(self.task, RetrievalTask)
        places = torch.arange(len(labels), device=labels.device)
        related = (labels[:, None] == labels) & (places[:, None] != places)
        logits = outputs.logits / self.task.model.temperature
        smoothing = self.task.training.label_smoothing
        logits = logits.masked_fill(related, float("-inf"))
        return choice_loss(logits, places, smoothing, num_items_in_batch)

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[np.ndarray]:
        """Return the vector of each text."""
        return list(model(**batch).logits.float().cpu().numpy())

    def answer(self, model: PreTrainedModel, rows: Sequence[Record]) -> list[list[int]]:
        """Return where each query's passage stands among all passages of `rows`.

        Args:
            model: The model.
            rows: Any number of records.

        Returns:
            For each record one rank, from 1; other passages that answer its query are passed over.
        """
        if not rows:
            return []
        passages = _passages(rows)
        texts = [{"input_ids": ids} for ids in self._ids(passages)]
        vectors = np.stack(self.read_all(model, texts))
        queries = self.read_all(model, self.encode(rows, learning=False))
        scores = (vectors @ query for query in queries)
        return _ranks(rows, passages, scores)

    def record(self, row: Record, answer: list[int]) -> dict[str, Any]:
        """Keep the query, its passage and the rank of the passage."""
        values = row.values
        return {"input": values["query"], "reference": values["passage"], "prediction": answer}

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[list[int]]:
        """Rank the same passages by the words they share with the query."""
        passages = _passages(rows)
        index = WordIndex(passages)
        return _ranks(rows, passages, (index.scores(row.values["query"]) for row in rows))

    @property
    def options(self) -> dict[str, Any]:
        """Among how many first passages the right one is looked for."""
        assert isinstance(self.task, RetrievalTask)
        return self.task.metrics.model_dump()


def _passages(rows: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(row.values["passage"] for row in rows))


def _ranks(
    rows: Sequence[Record], passages: list[str], scores: Iterator[np.ndarray]
) -> list[list[int]]:
    """Return the rank of each row's passage; the query's other passages are no candidates."""
    place = {passage: number for number, passage in enumerate(passages)}
    relevant: dict[str, set[int]] = {}
    for row in rows:
        relevant.setdefault(row.values["query"], set()).add(place[row.values["passage"]])
    found = []
    for row, given in zip(rows, scores, strict=True):
        own = place[row.values["passage"]]
        others = np.array(sorted(relevant[row.values["query"]] - {own}), int)
        rest = np.delete(given, others)
        found.append(ranks_of(rest, [own - int((others < own).sum())]).tolist())
    return found


def _groups(rows: Sequence[Record]) -> list[int]:
    """Number rows so that those agree that share a query or a passage, be it through others."""
    first: dict[tuple[str, str], int] = {}
    parent = list(range(len(rows)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place, row in enumerate(rows):
        for name in ("query", "passage"):
            other = first.setdefault((name, row.values[name]), place)
            parent[root(place)] = root(other)
    return [root(place) for place in range(len(rows))]
