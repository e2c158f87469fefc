"""Texts as pieces of equal length: those to train on, those to choose by, those held out.

Leaves to others: what is done with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.errors import DataError

# Of all pieces, at most so many choose, and at most so many are held out: what a loss needs to be
# known well, and no more, as each is read many times.
_CHOOSE, _HELD_OUT, _FEWEST = 8, 16, 6
# Texts are the same where so many tokens in a row are, and too much of them is, from this share on.
_RUN, _SHARED = 32, 0.1


@dataclass(frozen=True)
class Pieces:
    """Pieces of text, by what they are for.

    Attributes:
        train: Whole numbers (P, N): what a model may be trained on.
        choose: (P, N): what the loss is measured on that decides.
        held_out: (P, N): what nothing sees before the last figures.
    """

    train: Tensor
    choose: Tensor
    held_out: Tensor

    def __post_init__(self) -> None:
        """Check shapes, and that nothing held out was seen before.

        Raises:
            DataError: If shapes or dtypes do not fit, a part is empty, or texts are in both.
        """
        parts = {"train": self.train, "choose": self.choose, "held_out": self.held_out}
        for name, part in parts.items():
            if not isinstance(part, Tensor) or part.dtype != torch.long or part.dim() != 2:
                raise DataError(f"{name} must be whole numbers (pieces, tokens), of torch.long")
            # How sure a loss is, one piece alone does not tell.
            if len(part) < (1 if name == "train" else 2) or not part.numel():
                raise DataError(f"{name} holds {len(part)} pieces; give more text")
            if part.shape[1] != self.choose.shape[1]:
                raise DataError(
                    f"{name} has pieces of {part.shape[1]} tokens, choose of {self.choose.shape[1]}"
                )
        share = _shared(torch.cat([self.train, self.choose]), self.held_out)
        if share > _SHARED:
            raise DataError(
                f"{share:.0%} of what is held out stands among the other texts too; hold out texts "
                "of their own"
            )

    @property
    def tokens(self) -> int:
        """N, how many tokens a piece has."""
        return self.choose.shape[1]

    @classmethod
    def of(cls, ids: Tensor, held_out: Tensor | None = None) -> "Pieces":
        """Divide pieces: the last quarter is held out, and every few of the others choose.

        Args:
            ids: Whole numbers (P, N), in the order of the text.
            held_out: (P, N), of other texts, to be held out instead.

        Returns:
            The pieces.

        Raises:
            DataError: If there are too few.
        """
        if ids.dim() != 2 or ids.shape[0] < _FEWEST:
            raise DataError(
                f"there are {ids.shape[0] if ids.dim() == 2 else 0} pieces; at least {_FEWEST} are "
                "needed: give more text, or fewer tokens a piece"
            )
        if held_out is None:
            last = min(_HELD_OUT, max(2, ids.shape[0] // 4))
            ids, held_out = ids[:-last], ids[-last:]
        chosen = _spread(len(ids), min(_CHOOSE, max(2, len(ids) // 4)))
        rest = sorted({*range(len(ids))} - {*chosen})
        return cls(ids[rest], ids[chosen], held_out[_spread(len(held_out), _HELD_OUT)])


def cut(
    tokenizer: Any,
    texts: str | Sequence[str],
    tokens: int,
    held_out: str | Sequence[str] | None = None,
) -> Pieces:
    """Cut texts into pieces of equal length, one after another, and divide them.

    Args:
        tokenizer: The model's, of transformers; its special tokens stand around each piece.
        texts: One text or several; the ends of several are joined.
        tokens: How many a piece has.
        held_out: Other texts to be held out; unless given, the last quarter is.

    Returns:
        The pieces.

    Raises:
        DataError: If there is too little text, or texts held out stand among the others.
    """
    if type(tokens) is not int or tokens < 8:
        raise DataError(f"a piece has at least 8 tokens, not {tokens!r}")
    other = None if held_out is None else _pieces(tokenizer, held_out, tokens, "held_out")
    return Pieces.of(_pieces(tokenizer, texts, tokens, "texts"), other)


def _pieces(tokenizer: Any, texts: str | Sequence[str], tokens: int, name: str) -> Tensor:
    listed = [texts] if isinstance(texts, str) else list(texts)
    if not all(isinstance(text, str) for text in listed):
        raise DataError(f"{name} must be texts, not {type(listed[0]).__name__}")
    before, after = _around(tokenizer, listed[0][:100] if listed else "")
    ids: list[int] = []
    for text in listed:
        ids += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    inside = tokens - len(before) - len(after)
    count = len(ids) // inside
    if not count:
        raise DataError(f"{name} have {len(ids)} tokens; a piece takes {inside}: give more text")
    return torch.tensor(
        [[*before, *ids[at * inside : (at + 1) * inside], *after] for at in range(count)]
    )


def _around(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Return the special tokens that stand before and after a text."""
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = tokenizer(text)["input_ids"]
    for at in range(len(whole) - len(plain) + 1):
        if whole[at : at + len(plain)] == plain:
            return whole[:at], whole[at + len(plain) :]
    return [], []


def _spread(count: int, most: int) -> list[int]:
    """Return at most so many numbers below a count, evenly apart."""
    most = min(count, most)
    return [at * count // most for at in range(most)]


def _shared(known: Tensor, held_out: Tensor) -> float:
    """Return which share of runs of tokens in texts held out stands anywhere in the others."""
    run = min(_RUN, known.shape[1])
    weights = np.random.default_rng(0).integers(1, 2**62, run)

    def hashes(ids: Tensor, step: int) -> np.ndarray:
        runs = np.lib.stride_tricks.sliding_window_view(ids.numpy(), run, axis=1)[:, ::step]
        # Sums that overflow wrap around, which a hash may.
        return (runs * weights).sum(-1).ravel()

    return float(np.isin(hashes(held_out, run), hashes(known, 1)).mean())
