"""attend_recurrent(): a causal program a few tokens at a time, from a state of fixed size.

Leaves to others: what a state holds (`backends/linear`), which programs have one
(`passes/recognise_linear`).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Declined
from regard.backends.linear.forward import continue_causally
from regard.backends.linear.kernel import Kernel, Memory, compile_kernel, empty_memory, move_memory
from regard.backends.values.layout import Tile
from regard.errors import InputError, UnsupportedError
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.program import AttentionProgram
from regard.ops.bind import Options
from regard.ops.prepare import check_options, prepare
from regard.passes.recognise_linear import recognise_linear


@dataclass(frozen=True)
class RecurrentState:
    """What a program needs to know of the tokens so far; its size does not depend on their number.

    Attributes:
        program: The hash of the program whose state it is.
        length: How many tokens it has seen.
        memory: Sums over them: for each product of the program (B, H, D, E) and, where it is
            divided by its sum, (B, H, D).
    """

    program: str
    length: int
    memory: Memory

    def reorder(self, rows: Tensor) -> "RecurrentState":
        """Return the state of the given batch rows, in order (beam search).

        Args:
            rows: Integers (B',).

        Returns:
            The state.
        """
        return replace(self, memory=move_memory(self.memory, lambda part: part[rows]))

    def detach(self) -> "RecurrentState":
        """Return the same state, through which no gradient flows."""
        return replace(self, memory=move_memory(self.memory, lambda part: part.detach()))


def attend_recurrent(
    program: AttentionProgram,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: RecurrentState | None = None,
    *,
    first_head: int = 0,
    total_heads: int = 0,
    **named_inputs: Any,
) -> tuple[Tensor, RecurrentState]:
    """Attend with the next tokens, row by row what `attend` gives for all tokens at once.

    Its time and memory do not depend on how many tokens came before. Weights must be a sum of
    products of what one query and one key decides, seen where j <= i. Gradients flow by torch's
    autograd, also through the state.

    Args:
        program: The program.
        q: Queries of the next tokens, (B, H, N, D).
        k: Their keys, (B, G, N, D).
        v: Their values, (B, G, N, E).
        state: What came before, from the last call; None at the start.
        first_head: As for `attend`.
        total_heads: As for `attend`.
        **named_inputs: The program's inputs by name; those of rows are of these tokens.

    Returns:
        The output (B, H, N, E) in q's dtype, and the state after these tokens.

    Raises:
        InputError: If an input does not fit the program, or the state is another program's or of
            other sizes, or there are not as many keys as queries.
        UnsupportedError: If the program has no such state; the message gives the reason.

    Source: Katharopoulos et al. 2020, arXiv 2006.16236, equations 16 to 20.
    """
    length = 0 if state is None else state.length
    positions = torch.arange(length, length + k.shape[2], device=k.device)
    heads = (first_head, total_heads)
    options = Options(length, None, positions, None, None, *heads, backend="reference")
    check_options(program, options)
    kind, bound = prepare(program, q, k, v, named_inputs, options)
    kernel = _kernel(kind.facts.root, program.name)
    try:
        with torch.autocast(bound.q.device.type, enabled=False):
            output, memory = _continue(program, kernel, bound, state)
    except Declined as reason:
        raise UnsupportedError(f"attend_recurrent cannot run this call: {reason}") from None
    return output.to(q.dtype), RecurrentState(program.hash, length + bound.keys, memory)


def _continue(
    program: AttentionProgram, kernel: Kernel, bound: Bound, state: RecurrentState | None
) -> tuple[Tensor, Memory]:
    """Return the output of the next tokens, and the memory after them."""
    if bound.queries != bound.keys:
        raise InputError(
            f"attend_recurrent takes queries and keys of the same tokens; "
            f"found {bound.queries} queries and {bound.keys} keys"
        )
    before = empty_memory(kernel, kernel.part(bound, Tile(0, 0, 0, 0)))
    if state is not None:
        _check_state(state, program, before)
        before = state.memory
    return continue_causally(kernel, bound, before)


@lru_cache(maxsize=512)
def _kernel(root: n.Output, name: str) -> Kernel:
    parts = recognise_linear(root)
    where = f"program '{name}' has no state of fixed size: "
    if isinstance(parts, str):
        raise UnsupportedError(where + parts)
    if not parts.causal:
        raise UnsupportedError(
            f"{where}it is not causal, so a token changes rows before it; "
            "give it where=pair.j <= pair.i"
        )
    if any(node is n.Index("keys") or node is n.Index("queries") for node in n.walk(root)):
        raise UnsupportedError(where + "it reads how many tokens there are in all")
    return compile_kernel(root, parts, frozenset())


def _check_state(state: RecurrentState, program: AttentionProgram, fresh: Memory) -> None:
    if state.program != program.hash:
        raise InputError(
            f"this state is another program's, not that of '{program.name}'; start with state=None"
        )
    for held, own in zip(state.memory.states, fresh.states, strict=True):
        if held.sums.shape != own.sums.shape or held.sums.dtype != own.sums.dtype:
            raise InputError(
                f"the state holds {tuple(held.sums.shape)} {held.sums.dtype} (B, H, D, E); "
                f"these tokens need {tuple(own.sums.shape)} {own.sums.dtype}"
            )
