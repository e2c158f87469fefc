"""attend(): run an attention program on tensors.

Leaves to others: each step, in the order check, bind, plan, run; only the first call of a kind
checks and plans.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.ir.program import AttentionProgram
from regard.ops.bind import Options, Rows
from regard.ops.compile import attend_in_trace
from regard.ops.observe import finish, packed
from regard.ops.prepare import check_options, prepare
from regard.ops.run import run


def attend(
    program: AttentionProgram,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    query_offset: Rows = 0,
    query_positions: Tensor | None = None,
    key_positions: Tensor | None = None,
    query_lengths: Rows = None,
    key_lengths: Rows = None,
    first_head: int = 0,
    total_heads: int = 0,
    observe: Sequence[str] = (),
    backend: str = "auto",
    seed: int | None = None,
    **named_inputs: Any,
) -> Any:
    """Run an attention program.

    Args:
        program: The program.
        q: Queries, (B, H, N, D).
        k: Keys, (B, G, M, D); G divides H.
        v: Values, (B, G, M, E).
        query_offset: The position of query row 0, an int or one per batch row, (B,).
        query_positions: Positions of the query rows instead, integers (N,) or (B, N).
        key_positions: Positions of the key rows, integers (M,) or (B, M); 0 … M-1 unless given.
        query_lengths: How many query rows exist, (B,); later rows give 0.
        key_lengths: How many key rows exist, (B,); later rows are as if absent.
        first_head: The number of head 0 of these tensors in the whole layer.
        total_heads: How many heads the whole layer has; H unless given.
        observe: What to return beside the output, e.g. "lse", "entropy:a", "distance", "mass:f",
            "received", "top:8", "map:64x64", the dense "weights"; docs/observing.md has them all.
        backend: "auto", or "linear", "sdpa", "triton", "cpu", "tiled", "reference".
        seed: What random booleans (dropout, keep) are drawn from; None draws none.
        **named_inputs: The program's parameters (from their initialisers unless given), tables,
            run-time scalars, features, vectors and pair inputs, by name.

    Returns:
        The output (B, H, N, E) in q's dtype; with `observe`, the output and a dict of what was
        observed, by the names given.

    Raises:
        InputError: If an input is missing, unknown or does not fit; the message names it.
        UnsupportedError: If the backend cannot run the program; the message gives the reason.
    """
    options = Options(
        query_offset, query_positions, key_positions, query_lengths, key_lengths,
        first_head, total_heads, observe, backend, seed,
    )  # fmt: skip
    check_options(program, options)
    if torch.compiler.is_compiling():
        return attend_in_trace(program, q, k, v, named_inputs, options)
    kind, bound = prepare(program, q, k, v, named_inputs, options)
    found = run(kind, bound)
    if not observe:
        return found["output"]
    seen = finish(kind.observed, found, bound)
    return found["output"], {given: packed(values) for given, values in seen.items()}
