"""The layers of a task between an encoder and its last linear layer; padding changes nothing.

Leaves to others: what the outputs mean (each learner).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.activations import ACT2FN


class HeadLayer(nn.Module):
    """A layer that reads (B, N, D) with (B, N), 0 where there is padding.

    Attributes:
        outputs: How many channels it gives.
    """

    outputs: int


class Linear(HeadLayer):
    """Each vector by itself: (…, D) to (…, width)."""

    def __init__(self, inputs: int, width: int, activation: str) -> None:
        super().__init__()
        self.outputs = width
        self.linear, self.activation = nn.Linear(inputs, width), ACT2FN[activation]

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """Return the new vectors."""
        return self.activation(self.linear(rows))


class Convolution(HeadLayer):
    """Each token from its neighbours; beyond the text there are zeros. (B, N, D) to (B, N, width).

    Source: Kim 2014 (arXiv 1408.5882), equation 2, for every token.
    """

    def __init__(self, inputs: int, kernel: int, width: int, activation: str) -> None:
        super().__init__()
        self.outputs = width
        self.convolution = nn.Conv1d(inputs, width, kernel, padding="same")
        self.activation = ACT2FN[activation]

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """Return the new vectors."""
        rows = rows * there[..., None].to(rows.dtype)
        return self.activation(self.convolution(rows.mT)).mT


class Recurrent(HeadLayer):
    """Each token from those before it, or from all. (B, N, D) to (B, N, width or 2 · width).

    Padding must stand behind the text.
    """

    def __init__(self, inputs: int, cell: str, width: int, bidirectional: bool) -> None:
        super().__init__()
        self.outputs = width * (1 + bidirectional)
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.cell = kind(inputs, width, batch_first=True, bidirectional=bidirectional)

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """Return the states; zeros where there is padding."""
        lengths = there.sum(1).cpu()
        packed = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.cell(packed)[0], batch_first=True, total_length=rows.shape[1]
        )
        return states


class AttentionPooling(HeadLayer):
    """One vector of a text: the mean of its tokens by learned weights. (B, N, D) to (B, D).

    Source: Yang et al. 2016, Hierarchical Attention Networks, equations 5 to 7.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.outputs = inputs
        self.inner, self.score = nn.Linear(inputs, width), nn.Linear(width, 1, bias=False)

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """Return the pooled vectors."""
        scores = self.score(torch.tanh(self.inner(rows)))[..., 0]
        weights = scores.masked_fill(there == 0, float("-inf")).softmax(1)
        # Padding may hold anything, even what is not a number.
        kept = rows.masked_fill(there[..., None] == 0, 0.0)
        return (weights[..., None] * kept).sum(1)


_LAYERS: dict[str, Callable[..., HeadLayer]] = {
    "linear": Linear,
    "convolution": Convolution,
    "recurrent": Recurrent,
    "attention": AttentionPooling,
}


class HeadLayers(nn.Module):
    """Layers one after the other.

    Attributes:
        outputs: How many channels the last one gives.
    """

    def __init__(self, inputs: int, layers: Sequence[Mapping[str, Any]]) -> None:
        """Make them.

        Args:
            inputs: Channels of the encoder.
            layers: For each its kind as `layer`, and what the kind takes.
        """
        super().__init__()
        self.outputs, made = inputs, []
        for settings in layers:
            rest = {name: value for name, value in settings.items() if name != "layer"}
            made.append(_LAYERS[settings["layer"]](self.outputs, **rest))
            self.outputs = made[-1].outputs
        self.layers = nn.ModuleList(made)

    def forward(self, rows: Tensor, there: Tensor) -> Tensor:
        """Return what the last layer makes of an encoder's vectors.

        Args:
            rows: (B, N, D).
            there: (B, N), 0 where there is padding.

        Returns:
            (B, N, outputs), or (B, outputs) if a layer pools.
        """
        for layer in self.layers:
            rows = layer(rows, there)
        return rows
