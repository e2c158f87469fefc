"""A text encoder of any architecture with one linear head: for each text, or for each token.

Leaves to others: what the outputs mean (each learner).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

Pooling = Literal["mean", "first", "last", "max"]


class TextConfig(PreTrainedConfig):
    """The shape of a `TextModel`.

    Attributes:
        encoder: The configuration of the encoder.
        outputs: Numbers of a text, or of a token.
        pooling: How a text's vectors become one; None: each token has outputs of its own.
        dropout: Probability of dropping a channel before the head.
    """

    model_type = "regard_text"
    sub_configs = {"encoder": AutoConfig}  # type: ignore[assignment] # noqa: RUF012

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        outputs: int = 2,
        pooling: Pooling | None = "mean",
        dropout: float = 0.0,
        **more: Any,
    ) -> None:
        """Fill in the shape.

        Args:
            encoder: A configuration, or its plain data with `model_type`.
            outputs: As the attribute.
            pooling: As the attribute.
            dropout: As the attribute.
            **more: What every configuration may hold.
        """
        if encoder is None:
            encoder = {"model_type": "bert"}
        if isinstance(encoder, dict):
            encoder = AutoConfig.for_model(**encoder)
        self.encoder, self.outputs = encoder, outputs
        self.pooling, self.dropout = pooling, dropout
        super().__init__(**more)


class TextModel(PreTrainedModel):
    """An encoder, pooling, and a linear head."""

    config_class = TextConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: TextConfig) -> None:
        """Build it.

        Args:
            config: Its shape.
        """
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(_width(config.encoder), config.outputs)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> TokenClassifierOutput:
        """Return the outputs of texts, or of their tokens.

        Args:
            input_ids: (B, N), whole numbers.
            attention_mask: (B, N), 0 where there is padding.
            token_type_ids: (B, N), which of two texts a token is of; None: there is one.

        Returns:
            `logits`, (B, C) with pooling, (B, N, C) without.
        """
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        seen = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        rows = seen.last_hidden_state
        if self.config.pooling is not None:
            there = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            rows = pool(rows, there, self.config.pooling)
        return TokenClassifierOutput(logits=self.head(self.dropout(rows)))


def pool(rows: Tensor, there: Tensor, how: Pooling) -> Tensor:
    """Return one vector for each text.

    Args:
        rows: (B, N, D).
        there: (B, N), 0 where there is padding.
        how: The mean or the largest of each channel over tokens; the first or the last token.

    Returns:
        (B, D).
    """
    if how == "mean":
        share = there / there.sum(1, keepdim=True)
        return (rows * share[..., None].to(rows.dtype)).sum(1)
    if how == "max":
        return rows.masked_fill(there[..., None] == 0, float("-inf")).amax(1)
    places = torch.arange(there.shape[1], device=there.device)
    chosen = (there * places).argmax(1) if how == "last" else there.argmax(1)
    return rows[torch.arange(len(rows), device=rows.device), chosen]


def _width(config: Any) -> int:
    return int(getattr(config, "hidden_size", None) or config.d_model)
