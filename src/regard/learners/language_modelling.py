"""Words from their neighbours: those before them, or all that are not hidden.

Training texts are one stream, an end token after each, cut into blocks of `model.positions`
tokens. Held-out texts are scored whole, one by one, and every token once.
"""

import abc
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from regard.data.record import Record
from regard.errors import TaskError
from regard.learners.batches import IGNORED, Collate, Example
from regard.learners.encoders import new_encoder
from regard.learners.learner import BATCH, Learner, evaluating
from regard.learners.text_model import WordModel
from regard.learners.tokenizer import train_byte_tokenizer
from regard.learners.whole import load_whole
from regard.tasks.kind_settings import LanguageModelSettings
from regard.tasks.kinds import Task

# Of hidden tokens, the shares that are shown as another token, and as they are (BERT, 3.1).
_SWAPPED, _SHOWN = 0.1, 0.1


class Cost(NamedTuple):
    """What tokens cost a model.

    Attributes:
        loss: The sum of their negative log likelihoods, in nats.
        tokens: How many.
    """

    loss: float
    tokens: int


class LanguageLearner(Learner):
    """Tokens from other tokens."""

    baseline_name: ClassVar[str] = "how frequent each token is"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the text."""
        yield record.values["text"]

    @classmethod
    def make_tokenizer(cls, task: Task, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """Learn subwords of bytes: a likelihood of all bytes needs a token for each of them.

        Args:
            task: The task.
            texts: Those of the training records.

        Returns:
            The tokenizer.

        Raises:
            TaskError: If the task wants fewer subwords than there are bytes.
        """
        return train_byte_tokenizer(texts, task.tokenizer.size)

    @property
    def shape(self) -> LanguageModelSettings:
        """What the task says of the model."""
        assert isinstance(self.task.model, LanguageModelSettings)
        return self.task.model

    @property
    def batch(self) -> int:
        """As many examples at once as training takes: a vocabulary of numbers for each token."""
        return max(1, min(BATCH, self.task.training.batch_tokens // self.limit))

    @property
    def end(self) -> int:
        """The token that ends a text.

        Raises:
            TaskError: If the tokenizer has none.
        """
        known: Any = self.tokenizer
        for token in (known.eos_token_id, known.sep_token_id):
            if token is not None:
                return int(token)
        raise TaskError(
            f"the tokenizer of {self.shape.pretrained} has neither an end token nor a separator, "
            "which texts are told apart by; add an eos_token to its tokenizer_config.json"
        )

    def ids_of(self, rows: Sequence[Record]) -> list[list[int]]:
        """Return the tokens of texts, without marks.

        Args:
            rows: Any number of records.

        Returns:
            Token ids for each.
        """
        if not rows:
            return []
        texts = [row.values["text"] for row in rows]
        found: Any = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        return found["input_ids"]

    def answer(self, model: PreTrainedModel, rows: Sequence[Record]) -> list[dict[str, Any]]:
        """Return what each whole text costs.

        Args:
            model: The model.
            rows: Any number of records.

        Returns:
            For each `loss`, in nats, and how many `tokens` that is of.
        """
        pieces = [list(self.scored(ids)) for ids in self.ids_of(rows)]
        costs = iter(self.read_all(model, [example for one in pieces for example in one]))
        return [_total([next(costs) for _ in one]) for one in pieces]

    @abc.abstractmethod
    def scored(self, ids: list[int]) -> Iterator[Example]:
        """Return the pieces a text is scored by.

        Args:
            ids: Its tokens.

        Returns:
            Examples whose `labels` together hold each token once.
        """

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[Cost]:
        """Return what the labels of each example cost."""
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"]
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        sums = losses.view(labels.shape).double().sum(1).tolist()
        counts = labels.ne(IGNORED).sum(1).tolist()
        return [Cost(*one) for one in zip(sums, counts, strict=True)]

    def record(self, row: Record, answer: dict[str, Any]) -> dict[str, Any]:
        """Keep the text, its size and its cost."""
        text = row.values["text"]
        return {
            "input": text,
            "reference": {"bytes": len(text.encode("utf-8"))},
            "prediction": answer,
        }

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[dict[str, Any]]:
        """Charge each token by how often training texts have it, plus one: a unigram model."""
        counts: Counter[int] = Counter()
        for ids in self.ids_of(train):
            counts.update(self.priced(ids))
        total = math.log(counts.total() + len(self.tokenizer))
        found = []
        for ids in self.ids_of(rows):
            priced = self.priced(ids)
            loss = sum(total - math.log(counts[token] + 1) for token in priced)
            found.append(_total([Cost(loss, len(priced))]))
        return found

    def priced(self, ids: list[int]) -> list[int]:
        """Return the tokens of a text that are predicted.

        Args:
            ids: The tokens of the text.

        Returns:
            These, and what else is paid for.
        """
        return ids


class CausalLearner(LanguageLearner):
    """Each token from those before it."""

    def build(self) -> PreTrainedModel:
        """Return an untrained Llama with tied embeddings, or the pretrained model."""
        if self.shape.pretrained is None:
            return LlamaForCausalLM(self._config())
        model = load_whole(self.task, AutoModelForCausalLM)
        if _looks_ahead(model):
            raise TaskError(
                f"the model of {self.shape.pretrained} sees what comes later, so it cannot predict "
                "it; set model.objective=masked"
            )
        return model

    @property
    def begin(self) -> int:
        """The token that stands before a text: a mark of its own, or the end of another."""
        own: Any = self.tokenizer.bos_token_id
        return self.end if own is None else int(own)

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return blocks of all texts, each token once with the next one in `labels`."""
        stream: list[int] = []
        for ids in self.ids_of(rows):
            if not stream or self.begin != self.end:
                stream.append(self.begin)
            stream += [*ids, self.end]
        read, written = stream[:-1], stream[1:]
        return [
            {
                "input_ids": read[start : start + self.limit],
                "labels": written[start : start + self.limit],
            }
            for start in range(0, len(read), self.limit)
        ]

    @property
    def collate(self) -> Collate:
        """Batches of blocks."""
        return Collate({"input_ids": self.pad})

    def scored(self, ids: list[int]) -> Iterator[Example]:
        """Yield windows that move by half their length: a token has half a window before it.

        Only the beginning of a text has less.

        Args:
            ids: Its tokens.

        Yields:
            Examples whose `labels` together hold each token and the end once.
        """
        read, written = [self.begin, *ids], [*ids, self.end]
        done = 0
        for start in range(0, len(read), max(1, self.limit // 2)):
            stop = min(start + self.limit, len(read))
            labels = [IGNORED] * (done - start) + written[done:stop]
            yield {"input_ids": read[start:stop], "labels": labels}
            done = stop
            if done == len(read):
                return

    def priced(self, ids: list[int]) -> list[int]:
        """Return the tokens of a text and its end.

        Args:
            ids: The tokens of the text.

        Returns:
            One more.
        """
        return [*ids, self.end]

    def _config(self) -> LlamaConfig:
        shape = self.shape
        return LlamaConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.ffn,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=shape.positions,
            # A Llama drops nothing else.
            attention_dropout=shape.dropout,
            tie_word_embeddings=True,
            pad_token_id=self.pad,
            bos_token_id=self.begin,
            eos_token_id=self.end,
        )


class MaskedLearner(LanguageLearner):
    """Hidden tokens from all others."""

    part_class: ClassVar[type | None] = WordModel

    @property
    def outputs(self) -> int:
        """One a token of the vocabulary."""
        return len(self.tokenizer)

    def check(self) -> None:
        """Refuse a tokenizer that cannot hide a token."""
        super().check()
        if self.tokenizer.mask_token_id is None:
            raise TaskError(
                f"the tokenizer of {self.shape.pretrained} has no mask token to hide others by; "
                "set model.objective=causal, or take a model with a mask"
            )

    def build(self) -> PreTrainedModel:
        """Return an untrained BERT, or the pretrained model."""
        self.check()
        if self.shape.pretrained is None:
            config: Any = new_encoder(self.shape, len(self.tokenizer), self.pad)
            return BertForMaskedLM(config)
        return load_whole(self.task, AutoModelForMaskedLM)

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The marks that a pretrained encoder is used to before and after what it reads."""
        known: Any = self.tokenizer
        if known.cls_token_id is None or known.sep_token_id is None:
            return [], []
        return [known.cls_token_id], [known.sep_token_id]

    @property
    def room(self) -> int:
        """How many tokens of a text the model reads at once."""
        return max(1, self.limit - sum(map(len, self.frame)))

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return blocks of all texts, with their own tokens in `labels`; `vary` hides some."""
        stream = [token for ids in self.ids_of(rows) for token in (*ids, self.end)]
        before, after = self.frame
        return [
            {
                "input_ids": [*before, *block, *after],
                "labels": [IGNORED] * len(before) + block + [IGNORED] * len(after),
            }
            for start in range(0, len(stream), self.room)
            for block in [stream[start : start + self.room]]
        ]

    def vary(self, example: Example, seed: str) -> Example:
        """Hide some tokens, which alone are learned.

        Args:
            example: A block.
            seed: Chooses them.

        Returns:
            A block in which most of these are the mask, some are other tokens, and some are shown.
        """
        draw = random.Random(seed)
        places = [k for k, label in enumerate(example["labels"]) if label != IGNORED]
        hidden = set(draw.sample(places, max(1, round(self.shape.masked * len(places)))))
        ids, labels = list(example["input_ids"]), [IGNORED] * len(example["labels"])
        for place in sorted(hidden):
            labels[place] = example["labels"][place]
            chance = draw.random()
            if chance < _SWAPPED:
                ids[place] = draw.randrange(len(self.tokenizer))
            elif chance >= _SWAPPED + _SHOWN:
                ids[place] = self._mask
        return {"input_ids": ids, "labels": labels}

    @property
    def _mask(self) -> int:
        return int(self.tokenizer.mask_token_id)  # type: ignore[arg-type]

    @property
    def collate(self) -> Collate:
        """Batches of blocks."""
        return Collate({"input_ids": self.pad})

    def scored(self, ids: list[int]) -> Iterator[Example]:
        """Yield windows without overlap, each as often as it takes to hide every token once.

        As large a share is hidden at a time as in training, chosen by the tokens alone.

        Args:
            ids: Its tokens.

        Yields:
            Examples whose `labels` together hold each token once.
        """
        before, after = self.frame
        rounds = math.ceil(1 / self.shape.masked)
        for start in range(0, len(ids), self.room):
            block = ids[start : start + self.room]
            order = random.Random(f"{block}").sample(range(len(block)), len(block))
            for number in range(min(rounds, len(block))):
                hidden = set(order[number::rounds])
                shown = [self._mask if k in hidden else token for k, token in enumerate(block)]
                asked = [token if k in hidden else IGNORED for k, token in enumerate(block)]
                yield {
                    "input_ids": [*before, *shown, *after],
                    "labels": [IGNORED] * len(before) + asked + [IGNORED] * len(after),
                }


def _total(costs: Sequence[Cost]) -> dict[str, Any]:
    return {"loss": sum(one.loss for one in costs), "tokens": sum(one.tokens for one in costs)}


def _looks_ahead(model: PreTrainedModel) -> bool:
    """Return whether what a model says of a token depends on the one after it."""
    one = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 2]], device=model.device)
    with evaluating(model):
        first, other = model(one).logits[:, :-1]
    return not torch.allclose(first, other, atol=1e-4)
