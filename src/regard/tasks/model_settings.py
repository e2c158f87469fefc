"""The part `model` of a task file: a new model or a pretrained one, and what stands on it.

Leaves to others: the modules themselves (`learners`).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from regard.tasks.settings import Count, Fraction, Paths, Settings

Pooling = Literal["mean", "first", "last", "max"]
Activation = Literal["gelu", "relu", "silu", "tanh"]


def _is_odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"a kernel reads as far to either side, so it is odd; found {kernel}")
    return kernel


class LinearLayer(Settings):
    """Each token, or the pooled text, through a linear map and an activation.

    Attributes:
        layer: Its kind.
        width: Channels it gives.
        activation: What follows.
    """

    layer: Literal["linear"]
    width: Count = 128
    activation: Activation = "gelu"


class ConvolutionLayer(Settings):
    """Each token from its neighbours.

    Attributes:
        layer: Its kind.
        kernel: How many tokens it reads, itself included.
        width: Channels it gives.
        activation: What follows.
    """

    layer: Literal["convolution"]
    kernel: Annotated[Count, AfterValidator(_is_odd)] = 3
    width: Count = 128
    activation: Activation = "relu"


class RecurrentLayer(Settings):
    """Each token from those before it, or from all.

    Attributes:
        layer: Its kind.
        cell: What carries the state.
        width: Channels of the state in each direction.
        bidirectional: Whether another one reads backwards; it gives as many channels again.
    """

    layer: Literal["recurrent"]
    cell: Literal["gru", "lstm"] = "gru"
    width: Count = 128
    bidirectional: bool = True


class AttentionLayer(Settings):
    """Pools a text: the mean of its tokens by learned weights. Only linear layers can follow.

    Attributes:
        layer: Its kind.
        width: Channels in which a token's weight is found.
    """

    layer: Literal["attention"]
    width: Count = 128


# Those that may stand between an encoder and its last linear layer.
HeadLayer = Annotated[
    LinearLayer | ConvolutionLayer | RecurrentLayer | AttentionLayer,
    Field(discriminator="layer"),
]


class ModelSettings(Settings):
    """The model that is trained: a new one of some shape, or one of a folder.

    Attributes:
        pretrained: A folder that holds a model and its tokenizer; None: a new model.
        width: Channels of a token.
        layers: Of the encoder, and as many of the decoder.
        heads: Of each attention; they share the width.
        ffn: Channels between the two layers of a feed-forward network.
        dropout: Probability of dropping a channel: in a new model, and before the last layer.
        positions: The most tokens of a text; what a pretrained model cannot read is not counted.
        pooling: How a text's vectors become one; None: the last of a model that reads from left to
            right, and else their mean.
        head: Layers between the encoder and the last linear layer.
    """

    pretrained: Annotated[str | None, Paths()] = None
    width: Count = 128
    layers: Count = 2
    heads: Count = 4
    ffn: Count = 512
    dropout: Fraction = 0.1
    positions: Count = 256
    pooling: Pooling | None = None
    head: list[HeadLayer] = Field(default=[])

    @property
    def pools_by_attention(self) -> bool:
        """Whether a layer of the head makes one vector of a text."""
        return any(one.layer == "attention" for one in self.head)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "ModelSettings":
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} cannot be shared by {self.heads} heads; try a multiple"
            )
        return self

    @model_validator(mode="after")
    def _a_pretrained_model_has_its_shape(self) -> "ModelSettings":
        own = [
            name
            for name in ("width", "layers", "heads", "ffn")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.pretrained is not None and own:
            raise ValueError(
                f"a pretrained model has its own shape; delete {' and '.join(own)}, or pretrained"
            )
        return self

    @model_validator(mode="after")
    def _a_text_is_pooled_once(self) -> "ModelSettings":
        kinds = [one.layer for one in self.head]
        if "attention" not in kinds:
            return self
        if self.pooling is not None:
            raise ValueError(
                f"the attention layer of head pools a text already; delete pooling: {self.pooling}"
            )
        later = kinds[kinds.index("attention") + 1 :]
        wrong = next((kind for kind in later if kind != "linear"), None)
        if wrong is not None:
            raise ValueError(
                f"head: the {wrong} layer after attention reads tokens, of which attention has "
                "made one vector; move it to the front, or leave it out"
            )
        return self
