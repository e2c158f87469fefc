"""attend(): run an attention program on tensors.

Leaves to others: each step, in the order check, bind, plan, run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Request
from regard.errors import InputError
from regard.ir.bound import Bound
from regard.ir.program import AttentionProgram
from regard.ir.verify import CALL_OPTIONS
from regard.ops.bind import Rows, as_tensor, bind
from regard.ops.check import Facts, Signature, check, check_names, full_names
from regard.ops.plan import make_plan
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
        observe: What to return beside the output: "lse", "max", "entropy", "sink" (each (B, H, N),
            of the program's softmax, or of the one named as in "lse:a") and "weights" (B, H, N, M),
            the final weights before dropout, at the cost of a dense tensor.
        backend: "auto", or "sdpa", "tiled", "reference".
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
    _check_options(observe, seed)
    facts, bound, names = prepare(
        program, q, k, v, named_inputs, first_head=first_head, total_heads=total_heads,
        query_offset=query_offset, query_positions=query_positions, key_positions=key_positions,
        query_lengths=query_lengths, key_lengths=key_lengths, observe=tuple(observe), seed=seed,
    )  # fmt: skip
    full = tuple(names.values())
    request = make_request(facts, bound, full, query_offset, query_positions, key_positions)
    found = run(make_plan(request, backend), bound)
    if not observe:
        return found["output"]
    return found["output"], {given: found[full] for given, full in names.items()}


def _check_options(observe: Any, seed: Any) -> None:
    if isinstance(observe, str) or not isinstance(observe, Sequence):
        raise InputError(f'observe takes a list of names, e.g. observe=["lse"]; found {observe!r}')
    if seed is not None and not hasattr(seed, "__index__"):
        raise InputError(f"seed must be a whole number, or None to draw nothing; found {seed!r}")


def prepare(
    program: AttentionProgram,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    named_inputs: dict[str, Any],
    *,
    observe: tuple[str, ...] = (),
    first_head: int = 0,
    total_heads: int = 0,
    **options: Any,
) -> tuple[Facts, Bound, dict[str, str]]:
    """Check and bind a call without running it.

    Args:
        program: The program.
        q: Queries.
        k: Keys.
        v: Values.
        named_inputs: The program's inputs by name.
        observe: What is observed.
        first_head: The number of head 0 in the layer.
        total_heads: How many heads the layer has.
        **options: The other options of `attend`.

    Returns:
        What follows from the shapes, the bound call, and the full names of what is observed.

    Raises:
        InputError: If an input is missing, unknown or does not fit.
    """
    if not isinstance(program, AttentionProgram):
        raise InputError(f"attend runs a program, which @rg.program makes; found {program!r}")
    root = program.root
    check_names(root, named_inputs, CALL_OPTIONS)
    tensors = {
        name: as_tensor(name, value, q)
        for name, value in {"q": q, "k": k, "v": v, **named_inputs}.items()
    }
    described = tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items())
    facts = check(Signature(root, described, str(q.device), first_head, total_heads))
    names = full_names(root, observe)
    bound = bind(facts, tensors, first_head=first_head, total_heads=total_heads, **options)
    return facts, bound, names


def make_request(
    facts: Facts,
    bound: Bound,
    observe: tuple[str, ...],
    query_offset: Rows = 0,
    query_positions: Tensor | None = None,
    key_positions: Tensor | None = None,
) -> Request:
    """Return the kind of a bound call.

    Args:
        facts: What follows from the shapes.
        bound: The call.
        observe: Full names of what is observed.
        query_offset: As given to `attend`.
        query_positions: As given to `attend`.
        key_positions: As given to `attend`.

    Returns:
        The request that plans are kept by.
    """
    grad = torch.is_grad_enabled()
    wanted = frozenset(
        name for name, tensor in bound.tensors.items() if grad and tensor.requires_grad
    )
    default = isinstance(query_offset, int) and query_offset == 0
    sizes = facts.sizes
    return Request(
        written=facts.written,
        root=facts.root,
        observe=tuple(dict.fromkeys(observe)),
        wanted=wanted,
        dtype=bound.q.dtype,
        device=bound.q.device.type,
        batch=sizes["B"],
        heads=sizes["H"],
        groups=sizes["G"],
        queries=sizes["N"],
        keys=sizes["M"],
        width=sizes["D"],
        value_width=sizes["E"],
        pair_channels=facts.pair_channels,
        seeded=bound.seed is not None,
        lengths=bound.query_lengths is not None or bound.key_lengths is not None,
        plain_positions=default and query_positions is None and key_positions is None,
    )
