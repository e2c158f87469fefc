"""An attention layer: projections around a program.

Leaves to others: the program's parameters (`programmed`), residuals and norms (`layers`).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.nn.cache import KeyValueCache
from regard.nn.programmed import HeadGroups, Programmed


class Attention(nn.Module):
    """Multi-head attention with a program of your own.

    Args:
        program: A program, or programs on groups of heads, see `Programmed`.
        width: The width of the model, W.
        heads: H; W is a multiple of it unless head_width is given.
        key_heads: G, for grouped heads; H unless given.
        head_width: D; W / H unless given.
        context_width: The width of what keys and values are made of; W unless given.
        bias: Whether projections have a bias.
        dropout: The probability of dropping a weight while training.
        widths: By name, widths of further vectors that parameters meet, and of parameters that
            meet no row.

    Raises:
        InputError: If widths and heads do not fit.
    """

    def __init__(
        self,
        program: AttentionProgram | HeadGroups,
        width: int,
        heads: int,
        *,
        key_heads: int | None = None,
        head_width: int | None = None,
        context_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        widths: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        groups = heads if key_heads is None else key_heads
        source = width if context_width is None else context_width
        _check_sizes(width=width, heads=heads, key_heads=groups, context_width=source)
        if head_width is None and width % heads:
            raise InputError(f"width {width} is no multiple of {heads} heads; give head_width")
        each = width // heads if head_width is None else head_width
        _check_sizes(head_width=each)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout {dropout} is outside 0 … 1")
        self.heads, self.key_heads, self.head_width = heads, groups, each
        self.dropout = dropout
        self.q = nn.Linear(width, heads * self.head_width, bias=bias)
        self.k = nn.Linear(source, groups * self.head_width, bias=bias)
        self.v = nn.Linear(source, groups * self.head_width, bias=bias)
        self.o = nn.Linear(heads * self.head_width, width, bias=bias)
        self.programmed = Programmed(program, heads, each, key_heads=groups, widths=widths)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        lengths: Any = None,
        context_lengths: Any = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        observe: Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """Attend from x to itself, or to a context.

        Args:
            x: (B, N, W).
            context: (B, M, W') for cross-attention; x itself unless given.
            lengths: How many rows of x exist, (B,).
            context_lengths: How many rows of context exist, (B,).
            mask: Further pairs to hide, bool (B or 1, H or 1, N, M), true where visible.
            cache: Tokens seen so far; x is appended and its positions follow them. With a context,
                its keys and values are computed once and kept.
            observe: As for `rg.attend`.
            **options: Further inputs of the program, and options of `rg.attend`.

        Returns:
            (B, N, W); with `observe`, also a dict of what was observed.

        Raises:
            InputError: If lengths are given together with a cache of self-attention, or lengths of
                a context without one.
        """
        if context is None and context_lengths is not None:
            raise InputError("context_lengths are given without a context; for x itself, lengths=…")
        q = self._split(self.q(x), self.heads)
        if cache is not None and context is None:
            if lengths is not None:
                raise InputError(
                    "with a cache every row of x is new; give lengths as key positions or a mask"
                )
            if options.get("query_positions") is None:
                options.setdefault("query_offset", cache.length)
        k, v = self._keys_and_values(x, context, cache)
        key_lengths = lengths if context is None else context_lengths
        found = self.programmed(
            q, k, v, mask=mask, dropout=self.dropout, observe=observe,
            query_lengths=lengths, key_lengths=key_lengths, **options,
        )  # fmt: skip
        rows, seen = found if observe else (found, None)
        output = self.o(rows.transpose(1, 2).flatten(2))
        return (output, seen) if observe else output

    def _split(self, rows: Tensor, heads: int) -> Tensor:
        return rows.unflatten(-1, (heads, self.head_width)).transpose(1, 2)

    def _keys_and_values(
        self, x: Tensor, context: Tensor | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, Tensor]:
        if cache is not None and context is not None and cache.length:
            return cache.held()
        source = x if context is None else context
        k, v = (self._split(make(source), self.key_heads) for make in (self.k, self.v))
        return (k, v) if cache is None else cache.append(k, v)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name}={size} must be at least 1")
