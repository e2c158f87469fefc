"""How a variant is called in its test: sizes, knobs, and what it reads beside q, k and v."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """The lengths of a call, by the letters of the language."""

    B: int = 2
    H: int = 4
    G: int = 2
    N: int = 16
    M: int = 16
    D: int = 8
    E: int = 8


class Draw:
    """Draws the tensors of a call, the same ones each time."""

    def __init__(self, sizes: Sizes) -> None:
        """Start from the same seed for every call."""
        self.sizes = sizes
        self.generator = torch.Generator().manual_seed(0)

    def learned(self, *shape: int, low: float | None = None, high: float = 1.0) -> Tensor:
        """Return normal numbers, or uniform ones between two bounds, that want a gradient."""
        if low is None:
            drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        else:
            drawn = low + (high - low) * torch.rand(
                shape, generator=self.generator, dtype=torch.float64
            )
        return drawn.requires_grad_()

    def given(self, *shape: int, low: float | None = None, high: float = 1.0) -> Tensor:
        """Return the same without a gradient."""
        return self.learned(*shape, low=low, high=high).detach()

    def integers(self, *shape: int, below: int) -> Tensor:
        """Return whole numbers from 0."""
        return torch.randint(0, below, shape, generator=self.generator)

    def truth(self, *shape: int, chance: float = 0.7) -> Tensor:
        """Return truth values."""
        return torch.rand(shape, generator=self.generator) < chance


@dataclass(frozen=True)
class Call:
    """How one variant is called.

    Attributes:
        inputs: From a Draw to what the variant reads by name, beside q, k and v.
        knobs: Small ones, so that few rows meet every case.
        sizes: The lengths.
        options: Further arguments of `rg.attend`, which the formula does not take.
    """

    inputs: Callable[[Draw], dict[str, Tensor]] = lambda draw: {}
    knobs: dict[str, Any] = field(default_factory=dict)
    sizes: Sizes = Sizes()
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return q, k, v and the rest, by name."""
        s = self.sizes
        draw = Draw(s)
        rows = {
            "q": draw.learned(s.B, s.H, s.N, s.D),
            "k": draw.learned(s.B, s.G, s.M, s.D),
            "v": draw.learned(s.B, s.G, s.M, s.E),
        }
        return {**rows, **self.inputs(draw)}
