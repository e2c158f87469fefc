"""A text encoder of any architecture with a head of its own: for each text, or for each token.

Leaves to others: what the outputs mean (each learner), the layers of the head (`head`), where a
pretrained encoder comes from (`pretrained`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from regard.hf import tuning
from regard.learners.head import HeadLayers
from regard.tasks.model_settings import Pooling


class TextConfig(PreTrainedConfig):
    """The shape of a `TextModel`.

    Attributes:
        encoder: The configuration of the encoder; of a model with a decoder its encoder is taken.
        outputs: Numbers of a text, or of a token.
        pooling: How a text's vectors become one; None: each token has outputs of its own, or a
            layer of the head pools.
        dropout: Probability of dropping a channel before the last linear layer.
        head: The layers before that one, as `model.head` of a task file has them.
        bottleneck: Options of `BottleneckConfig` if the encoder has adapters that cannot be merged.
    """

    model_type = "regard_text"
    sub_configs = {"encoder": AutoConfig}  # type: ignore[assignment] # noqa: RUF012

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        outputs: int = 2,
        pooling: Pooling | None = "mean",
        dropout: float = 0.0,
        head: Sequence[Mapping[str, Any]] = (),
        bottleneck: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Fill in the shape.

        Args:
            encoder: A configuration, or its plain data with `model_type`.
            outputs: As the attribute.
            pooling: As the attribute.
            dropout: As the attribute.
            head: As the attribute.
            bottleneck: As the attribute.
            **more: What every configuration may hold.
        """
        if encoder is None:
            encoder = {"model_type": "bert"}
        if isinstance(encoder, dict):
            encoder = AutoConfig.for_model(**encoder)
        self.encoder, self.outputs = encoder, outputs
        self.pooling, self.dropout = pooling, dropout
        self.head = [dict(one) for one in head]
        self.bottleneck = None if bottleneck is None else dict(bottleneck)
        super().__init__(**more)


class TextModel(PreTrainedModel):
    """An encoder, the layers of a task, pooling, and a linear layer."""

    config_class = TextConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: TextConfig, encoder: nn.Module | None = None) -> None:
        """Build it.

        Args:
            config: Its shape.
            encoder: That of another model, which this one reads with and does not hold; None: a
                new one.
        """
        super().__init__(config)
        if encoder is None:
            self.encoder = encoder_in(AutoModel.from_config(config.encoder))
        else:
            # Past torch, which would take it for a part.
            self.__dict__["encoder"] = encoder
        self.head_layers = HeadLayers(width_of(config.encoder), config.head)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.head_layers.outputs, config.outputs)
        if config.bottleneck is not None:
            tuning.build_in(self, tuning.BottleneckConfig(**config.bottleneck))
        self.post_init()

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.encoder.device

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
        rows = self.rows_of(input_ids, attention_mask, token_type_ids)
        return TokenClassifierOutput(logits=self.head(rows))

    def rows_of(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Return what the last layer of the head reads.

        Args:
            input_ids: As `forward` takes them.
            attention_mask: Likewise.
            token_type_ids: Likewise.

        Returns:
            (B, D) with pooling, (B, N, D) without.
        """
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        seen = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        there = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = self.head_layers(seen.last_hidden_state, there)
        if self.config.pooling is not None:
            rows = pool(rows, there, self.config.pooling)
        return self.dropout(rows)


class WordHead(nn.Module):
    """Vectors of tokens into logits of words, by the words' own vectors (BERT's, Devlin 2019)."""

    def __init__(self, inputs: int, width: int, words: int) -> None:
        """Build it.

        Args:
            inputs: Channels that it reads.
            width: Channels of a word's vector.
            words: How many there are.
        """
        super().__init__()
        self.dense, self.norm = nn.Linear(inputs, width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, rows: Tensor, words: Tensor) -> Tensor:
        """Return logits.

        Args:
            rows: (B, N, D).
            words: (V, width), vectors of words; the first as many as there are outputs count.

        Returns:
            (B, N, outputs).
        """
        return self.norm(F.gelu(self.dense(rows))) @ words[: len(self.bias)].mT + self.bias


class WordModel(TextModel):
    """A text model that says which words stand where; its last layer is that of the encoder."""

    def __init__(self, config: TextConfig, encoder: nn.Module | None = None) -> None:
        """Build it.

        Args:
            config: Its shape.
            encoder: That of another model, or None for a new one.
        """
        super().__init__(config, encoder)
        width = self.encoder.get_input_embeddings().weight.shape[1]
        self.head = WordHead(self.head_layers.outputs, width, config.outputs)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> TokenClassifierOutput:
        """Return the logits of words, (B, N, V)."""
        rows = self.rows_of(input_ids, attention_mask, token_type_ids)
        words = self.encoder.get_input_embeddings().weight
        return TokenClassifierOutput(logits=self.head(rows, words))


# The models with an encoder for texts that are our own, by `model_type`.
OURS: dict[str, Any] = {TextConfig.model_type: TextModel}


def encoder_in(model: PreTrainedModel) -> Any:
    """Return what of a model reads texts.

    Args:
        model: A model without a head.

    Returns:
        Its encoder if it also has a decoder, or else the model.
    """
    return model.get_encoder() if model.config.is_encoder_decoder else model


def width_of(config: Any) -> int:
    """Return how many channels an encoder gives a token.

    Args:
        config: Its configuration.

    Returns:
        The number.
    """
    return int(getattr(config, "hidden_size", None) or config.d_model)


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
