"""What the sdpa backend compiles: a recognised program.

Leaves to others: recognition (`passes/recognise_sdpa`), calling torch (the package).
"""

from dataclasses import dataclass

from regard.backends.base import Request
from regard.passes.recognise_sdpa import DotProductSoftmax


@dataclass(frozen=True)
class Kernel:
    """A recognised program and the call's kind."""

    parts: DotProductSoftmax
    request: Request

    @property
    def is_causal(self) -> bool:
        """Whether torch's own causal mask says all that is hidden."""
        return self.parts.causal and self.request.plain_positions and not self.request.lengths

    @property
    def dense(self) -> bool:
        """Whether torch is given a mask or bias as a tensor."""
        masked = self.parts.where is not None or self.request.lengths
        return self.parts.bias is not None or (masked and not self.is_causal)
