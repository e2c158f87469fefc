"""Encoder and decoder layers: attention, feed-forward, residuals and norms (Vaswani et al. 2017).

Leaves to others: attention itself (`attention`).
"""

from typing import Any

from torch import Tensor, nn

from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.nn.attention import Attention
from regard.nn.cache import KeyValueCache
from regard.nn.programmed import HeadGroups

# What says where the rows of x stand.
_PLACES = ("query_offset", "query_positions")


class _Block(nn.Module):
    """A residual around a function, with the norm before or after."""

    def __init__(self, width: int, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.norm, self.dropout, self.norm_first = (
            nn.LayerNorm(width),
            nn.Dropout(dropout),
            norm_first,
        )

    def forward(self, x: Tensor, function: Any) -> Tensor:
        """Return norm(x + function(x)), or x + function(norm(x))."""
        if self.norm_first:
            return x + self.dropout(function(self.norm(x)))
        return self.norm(x + self.dropout(function(x)))


def _feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
    )


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network.

    Args:
        program: The self-attention's program, or programs on groups of heads.
        width: The width of the model, W.
        heads: H.
        hidden: The width inside the feed-forward network; 4 W unless given.
        dropout: For residual branches, the feed-forward network and weights.
        norm_first: Whether norms stand before the branches (pre-norm) or after (post-norm).
        **attention: Further arguments of `Attention`.
    """

    def __init__(
        self,
        program: AttentionProgram | HeadGroups,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.attention = Attention(program, width, heads, dropout=dropout, **attention)
        self.attention_block = _Block(width, dropout, norm_first)
        self.feed_forward = _feed_forward(width, hidden or 4 * width, dropout)
        self.feed_forward_block = _Block(width, dropout, norm_first)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """Run the layer.

        Args:
            x: (B, N, W).
            **options: As for `Attention`: lengths, mask, cache, inputs of the program.

        Returns:
            (B, N, W).

        Raises:
            InputError: If something is to be observed; ask the layer's `attention` for that.
        """
        _refuse_observe(options)
        x = self.attention_block(x, lambda y: self.attention(y, **options))
        return self.feed_forward_block(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and a feed-forward network.

    The layer masks nothing by itself: causality belongs to the program.

    Args:
        program: The self-attention's program, or programs on groups of heads.
        cross_program: The cross-attention's.
        width: The width of the model, W.
        heads: H.
        hidden: The width inside the feed-forward network; 4 W unless given.
        dropout: For residual branches, the feed-forward network and weights.
        norm_first: Whether norms stand before the branches (pre-norm) or after (post-norm).
        context_width: The width of the encoder's output; W unless given.
        **attention: Further arguments of both `Attention`s.
    """

    def __init__(
        self,
        program: AttentionProgram | HeadGroups,
        cross_program: AttentionProgram | HeadGroups,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        norm_first: bool = True,
        context_width: int | None = None,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.attention = Attention(program, width, heads, dropout=dropout, **attention)
        self.attention_block = _Block(width, dropout, norm_first)
        self.cross = Attention(
            cross_program, width, heads, dropout=dropout, context_width=context_width, **attention
        )
        self.cross_block = _Block(width, dropout, norm_first)
        self.feed_forward = _feed_forward(width, hidden or 4 * width, dropout)
        self.feed_forward_block = _Block(width, dropout, norm_first)

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        *,
        context_lengths: Any = None,
        cache: tuple[KeyValueCache, KeyValueCache] | None = None,
        cross_inputs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: (B, N, W).
            context: (B, M, context_width), the encoder's output.
            context_lengths: How many rows of context exist, (B,).
            cache: Caches of self- and cross-attention, to decode step by step.
            cross_inputs: Further inputs of the cross-attention's program, by name.
            **options: As for `Attention`, for the self-attention: lengths, mask, inputs of its
                program. Positions of queries hold for both attentions.

        Returns:
            (B, N, W).

        Raises:
            InputError: If something is to be observed; ask the layer's attentions for that.
        """
        _refuse_observe(options)
        own, other = cache or (None, None)
        places = {name: options[name] for name in _PLACES if name in options}
        if own is not None and not places:
            places = {"query_offset": own.length}
        more = {**places, **(cross_inputs or {})}
        x = self.attention_block(x, lambda y: self.attention(y, cache=own, **options))
        x = self.cross_block(
            x,
            lambda y: self.cross(y, context, context_lengths=context_lengths, cache=other, **more),
        )
        return self.feed_forward_block(x, self.feed_forward)


def _refuse_observe(options: dict[str, Any]) -> None:
    if options.get("observe"):
        raise InputError(
            "a layer returns its output alone; to observe, call its attention: "
            "layer.attention(x, observe=…)"
        )
