"""What the flex backend compiles: the functions of a program, made anew of each call's tensors.

torch compiles a function's code once and takes the tensors it holds as inputs, so the code stays
the same from call to call. Leaves to others: writing the functions (`write`), calling them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Request
from regard.backends.flex.in_torch import made_of
from regard.backends.flex.write import write_functions
from regard.ir import nodes as n
from regard.ir.bound import Bound

# torch compiles one code for a few kinds of calls alone, so each kernel has a code of its own.
_RUN = """
def run(q, k, v, score_mod, block_mask, scale, shared):
    return flex_attention(q, k, v, score_mod, block_mask, scale, shared)
"""


@dataclass(frozen=True)
class FlexKernel:
    """A program that FlexAttention can say.

    Attributes:
        request: The call's kind.
        term: Its softmax.
    """

    request: Request
    term: n.Softmax

    @cached_property
    def run(self) -> Callable[..., Tensor]:
        """FlexAttention as torch runs it without compiling, with dense scores."""
        from torch.nn.attention.flex_attention import flex_attention

        return made_of(_RUN, {"flex_attention": flex_attention})["run"]

    @cached_property
    def compiled(self) -> Callable[..., Tensor]:
        """The same, which torch compiles when it is first called."""
        return torch.compile(self.run, dynamic=False)

    def functions(self, bound: Bound) -> tuple[Any, Any, float | None]:
        """Return the score_mod and the mask_mod of a call, None for none, and the scale.

        Args:
            bound: The call.

        Returns:
            Functions that hold the call's tensors; of the same code in each call of a kind.
        """
        sizes = {
            "heads": bound.heads, "groups": bound.groups, "queries": bound.queries,
            "keys": bound.keys, "width": bound.q.shape[-1],
        }  # fmt: skip
        source, names, scale = write_functions(self.term, bound.tensors, sizes)
        wide, device = bound.compute_dtype, bound.q.device
        held = {
            name: value.to(device, wide if value.is_floating_point() else None)
            for name, value in names.items()
        }
        made = _maker(source, tuple(held))(**held)
        return made.get("score_mod"), made.get("mask_mod"), scale


@lru_cache(maxsize=512)
def _maker(source: str, names: tuple[str, ...]) -> Callable[..., dict[str, Any]]:
    """Return a function that makes what a source defines of the tensors it reads."""
    lines = [*source.splitlines(), "return locals()"]
    body = "\n".join("    " + line for line in lines)
    return made_of(f"def make({', '.join(names)}):\n{body}\n", {})["make"]
