"""From the arguments of a call to its kind and its numbers.

Leaves to others: checks (`check`), what is decided once (`kind`), standard shapes (`bind`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.errors import InputError, no_program
from regard.ir.bound import Bound
from regard.ir.program import AttentionProgram
from regard.ir.verify import CALL_OPTIONS
from regard.ops.bind import Options, as_tensor, bind
from regard.ops.check import Described, Signature, check_names
from regard.ops.kind import Kind, kind_of


def check_options(program: Any, options: Options) -> None:
    """Check what no tensor decides.

    Args:
        program: What is to be run.
        options: The options of the call.

    Raises:
        InputError: If one is not what it should be.
    """
    observe, seed = options.observe, options.seed
    # A tuple is a Sequence, but asking the abstract class takes long.
    if isinstance(observe, str) or not isinstance(observe, tuple | list | Sequence):
        raise InputError(f'observe takes a list of names, e.g. observe=["lse"]; found {observe!r}')
    # While torch traces, a seed that it draws is an int without attributes.
    if not (seed is None or isinstance(seed, int) or hasattr(seed, "__index__")):
        raise InputError(f"seed must be a whole number, or None to draw nothing; found {seed!r}")
    if not isinstance(program, AttentionProgram):
        raise InputError(
            f"attend runs a program, which @rg.program makes; found {no_program(program)}"
        )


def prepare(
    program: AttentionProgram,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    named_inputs: dict[str, Any],
    options: Options,
) -> tuple[Kind, Bound]:
    """Check and bind a call without running it.

    Args:
        program: The program.
        q: Queries.
        k: Keys.
        v: Values.
        named_inputs: The program's inputs by name.
        options: The other options of `attend`.

    Returns:
        What is decided for all calls of this kind, and the bound call.

    Raises:
        InputError: If an input is missing, unknown or does not fit.
    """
    given = {"q": q, "k": k, "v": v, **named_inputs}
    tensors, described = _describe(program, q, given, tuple(options.observe))
    offset, *sides, first_head, total_heads, observe, backend, seed = options
    query_positions, key_positions, query_lengths, key_lengths = sides
    moved = not isinstance(offset, int) or offset != 0
    lengths = query_lengths is not None or key_lengths is not None
    plain = not moved and query_positions is None and key_positions is None
    # By position, because every warm call makes one and names take twice as long.
    kind = kind_of(
        Signature(
            program.root, described, first_head, total_heads, tuple(observe), backend,
            seed is not None, lengths, plain,
        )
    )  # fmt: skip
    return kind, bind(kind.facts, tensors, options)


def _describe(
    program: AttentionProgram, q: Tensor, given: dict[str, Any], observe: tuple[str, ...]
) -> tuple[dict[str, Tensor], Described]:
    """Return the inputs as tensors, and what a signature says of them."""
    grad = torch.is_grad_enabled()
    described = []
    for name, value in given.items():
        if not isinstance(value, Tensor):
            check_names(program.root, observe, tuple(given)[3:], CALL_OPTIONS)
            value = given[name] = as_tensor(name, value, q)
        wanted = grad and value.requires_grad
        described.append((name, value.shape, value.dtype, value.device, wanted))
    return given, tuple(described)
