"""A small translator built from rg.nn layers, all of whose attention runs one mechanism.

Leaves to others: the mechanisms (`programs`), which runs to make (`benchmarks/mechanisms.py`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import programs
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

import regard as rg
from regard.data import load_corpus
from regard.data.record import Record
from regard.learners.batches import IGNORED, Collate, Example, TokenBudgetBatches
from regard.learners.tokenizer import train_tokenizer
from regard.metrics.translation import Scores, score
from regard.tasks.data_settings import TranslationData
from regard.tasks.plan_data import plan_data

DATA = Path(__file__).parents[1] / "translation" / "interface.en-fr.tsv.gz"
MOST_WORDS, TEST, DEV, SUBWORDS = 10, 600, 300, 1000
WIDTH, HEADS, HIDDEN, LAYERS = 64, 4, 256, 1
BATCH_TOKENS, WARMUP, SMOOTHING = 600, 100, 0.1
# Positions: more than any text of at most MOST_WORDS words has tokens, or any translation of one.
LONGEST = 128


class Data(NamedTuple):
    """Pairs as tokens.

    Attributes:
        train: For training.
        dev: For choosing the learning rate.
        test: For the result.
        sources: The texts of `test`.
        targets: Their translations by a person.
        tokenizer: The subwords, learned from `train`.
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    sources: list[str]
    targets: list[str]
    tokenizer: PreTrainedTokenizerBase


def load_data() -> Data:
    """Read the pairs, split them by their sources, and learn subwords."""
    settings = TranslationData(
        path=str(DATA), max_words=MOST_WORDS, duplicates="first", test_pairs=TEST, valid_pairs=DEV
    )
    train, dev, test = load_corpus(plan_data(settings)).splits
    texts = (row.values[side] for row in train for side in ("source", "target"))
    tokenizer = train_tokenizer(texts, SUBWORDS)
    parts = [_encode(part, tokenizer) for part in (train, dev, test)]
    sources, targets = ([row.values[side] for row in test] for side in ("source", "target"))
    return Data(*parts, sources, targets, tokenizer)


def _encode(rows: Sequence[Record], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    sides = [
        tokenizer([row.values[side] for row in rows])["input_ids"] for side in ("source", "target")
    ]
    return [{"input_ids": read, "labels": written} for read, written in zip(*sides, strict=True)]


def collate(pad: int) -> Collate:
    """Return what makes tensors of examples; padding also starts the decoder."""
    return Collate({"input_ids": pad}, start=pad)


# ── The model ─────────────────────────────────────────────────────────────────────────────────
class Mechanism(NamedTuple):
    """What a layer runs.

    Attributes:
        make: Gives the program of a layer, counted from 0.
        settings: Of `rg.nn.Attention`.
    """

    make: Callable[[int], rg.AttentionProgram]
    settings: dict[str, Any]


def _mechanism(program: rg.AttentionProgram) -> Mechanism:
    return Mechanism(lambda layer: program, {"heads": HEADS})


# As published, half as many heads of twice the width; two products a head, of half of it each.
_WIDE = 2 * WIDTH // HEADS
_AGREEING = {f"{side}{which}": _WIDE // 2 for side in ("query", "key") for which in (1, 2)}
MECHANISMS = {
    "plain": _mechanism(programs.plain),
    "additive": _mechanism(programs.additive),
    "MLP": _mechanism(programs.mlp),
    "entmax": _mechanism(programs.entmax),
    "sparsemax": _mechanism(programs.sparsemax),
    "sparsemax, soft start": _mechanism(programs.soft_sparsemax),
    "sigmoid": _mechanism(programs.sigmoid),
    "sigmoid, norm": _mechanism(programs.normed_sigmoid),
    "softpick": _mechanism(programs.softpick),
    "differential": Mechanism(
        lambda layer: programs.differential(layer, _WIDE),
        {"heads": HEADS // 2, "widths": _AGREEING},
    ),
    "linear": _mechanism(programs.linear),
    "uniform": _mechanism(programs.uniform),
}


def _waves(rows: int) -> Tensor:
    """Return sines and cosines of each position (Vaswani et al. 2017), (rows, WIDTH)."""
    rates = 10000.0 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    angles = torch.arange(rows)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


class Translator(nn.Module):
    """An encoder and a decoder that share one table of words.

    Args:
        mechanism: What self-attention on both sides and cross-attention run.
        words: How many subwords there are.
        backend: Of `rg.attend`.
    """

    def __init__(self, mechanism: Mechanism, words: int, backend: str = "auto") -> None:
        super().__init__()
        sizes = {"width": WIDTH, "hidden": HIDDEN, **mechanism.settings}
        self.words = nn.Embedding(words, WIDTH)
        nn.init.normal_(self.words.weight, std=WIDTH**-0.5)
        self.register_buffer("positions", _waves(LONGEST), persistent=False)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for layer in range(LAYERS):
            program = mechanism.make(layer)
            self.encoder.append(rg.nn.EncoderLayer(program, **sizes))
            self.decoder.append(rg.nn.DecoderLayer(program, program, **sizes))
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.backend = {"backend": backend}

    def read(self, source: Tensor, lengths: Tensor) -> Tensor:
        """Run the encoder on (B, M) sources of these lengths: (B, M, WIDTH)."""
        rows = self._embed(source, 0)
        for layer in self.encoder:
            rows = layer(rows, lengths=lengths, **self.backend)
        return self.norms[0](rows)

    def write(
        self, target: Tensor, context: Tensor, lengths: Tensor, caches: list | None = None
    ) -> Tensor:
        """Return logits of the word after each of (B, N) targets: (B, N, words)."""
        rows = self._embed(target, caches[0][0].length if caches else 0)
        count = target.shape[1]
        options: dict[str, Any] = {"cross_inputs": self.backend, **self.backend}
        if not caches:
            options["mask"] = torch.ones(1, 1, count, count, dtype=torch.bool).tril()
        for k, layer in enumerate(self.decoder):
            cache = caches[k] if caches else None
            rows = layer(rows, context, context_lengths=lengths, cache=cache, **options)
        return self.norms[1](rows) @ self.words.weight.T

    def _embed(self, words: Tensor, start: int) -> Tensor:
        positions = self.positions[start : start + words.shape[1]]
        return self.words(words) * math.sqrt(WIDTH) + positions

    def loss(self, batch: dict[str, Tensor], smoothing: float = 0.0) -> Tensor:
        """Return the mean negative log-likelihood of the target's subwords."""
        lengths = batch["attention_mask"].sum(1)
        context = self.read(batch["input_ids"], lengths)
        logits = self.write(batch["decoder_input_ids"], context, lengths)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1),
            batch["labels"].flatten(),
            ignore_index=IGNORED,
            label_smoothing=smoothing,
        )

    def translate(
        self, batch: dict[str, Tensor], start: int, end: int, most: int = LONGEST // 2
    ) -> list[list[int]]:
        """Return the likeliest subwords, one after another, of each source of a batch.

        Args:
            batch: The sources, as `collate` gives them.
            start: The subword before the first.
            end: The one that ends a text.
            most: How many are written at most.

        Returns:
            The subwords before the end.
        """
        lengths = batch["attention_mask"].sum(1)
        context = self.read(batch["input_ids"], lengths)
        caches = [(rg.nn.KeyValueCache(), rg.nn.KeyValueCache()) for _ in self.decoder]
        written = [torch.full((len(lengths), 1), start)]
        ended = torch.zeros(len(lengths), dtype=torch.bool)
        while not ended.all() and len(written) <= most:
            word = self.write(written[-1], context, lengths, caches)[:, -1].argmax(-1)
            ended |= word == end
            written.append(word[:, None])
        rows = torch.cat(written[1:], 1).tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]


# ── Training ──────────────────────────────────────────────────────────────────────────────────
def batches(examples: Sequence[Example], pad: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield batches without end, in an order that the seed decides."""
    sampler = TokenBudgetBatches(examples, BATCH_TOKENS, seed)
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        for chosen in sampler:
            yield collate(pad)([examples[k] for k in chosen])
        epoch += 1


def train(
    model: Translator, examples: Sequence[Example], pad: int, rate: float, steps: int, seed: int
) -> list[float]:
    """Train a model in place: Adam, a linear warm-up and a linear decay to 0.

    Args:
        model: The model.
        examples: What it learns from.
        pad: What texts are padded with.
        rate: The largest learning rate.
        steps: How many batches.
        seed: Of their order.

    Returns:
        The loss of each step.
    """
    model.train()
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), fused=True)
    warmup = min(WARMUP, steps // 2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: min((step + 1) / (warmup + 1), (steps - step) / (steps - warmup))
    )
    losses = []
    for _, batch in zip(range(steps), batches(examples, pad, seed), strict=False):
        loss = model.loss(batch, SMOOTHING)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def perplexity(model: Translator, examples: Sequence[Example], pad: int) -> float:
    """Return the perplexity of a subword of the targets, given those before it."""
    model.eval()
    return math.exp(model.loss(collate(pad)(examples)).item())


@torch.no_grad()
def score_translations(model: Translator, data: Data) -> Scores:
    """Translate the test part and score that."""
    model.eval()
    pad, end = data.tokenizer.pad_token_id, data.tokenizer.eos_token_id
    found = model.translate(collate(pad)(data.test), pad, end)
    return score([data.tokenizer.decode(row) for row in found], data.targets)
