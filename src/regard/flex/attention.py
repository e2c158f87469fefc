"""flex_attention(): FlexAttention's function, run by Regard; it also trains on CPUs.

Leaves to others: tracing (`tracing`, `remember`), what a BlockMask says (`block_mask`), running.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from regard.errors import InputError, nearest
from regard.flex.block_mask import check_block_mask, table_of
from regard.flex.captured import Sizes
from regard.flex.remember import find_program
from regard.flex.tracing import Origin
from regard.ops.attend import attend
from regard.ops.autocast import as_autocast

# What torch's kernels are tuned by. All are about speed on GPUs, so none changes a result.
_KERNEL_OPTIONS = (
    "num_warps", "num_stages", "BLOCK_M", "BLOCK_N", "BLOCK_M1", "BLOCK_N1", "BLOCK_M2",
    "BLOCK_N2", "PRESCALE_QK", "ROWS_GUARANTEED_SAFE", "BLOCKS_ARE_CONTIGUOUS", "WRITE_DQ",
    "FORCE_USE_FLEX_ATTENTION", "USE_TMA", "kpack", "matrix_instr_nonkdim", "waves_per_eu",
    "BACKEND",
)  # fmt: skip


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Callable[..., Any] | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Mapping[str, Any] | None = None,
    *,
    return_aux: Any = None,
    backend: str = "auto",
) -> Any:
    """Do what `torch.nn.attention.flex_attention.flex_attention` does, and train on CPUs too.

    Args:
        query: Queries, (B, H, N, D).
        key: Keys, (B or 1, G, M, D); G is H unless `enable_gqa`.
        value: Values, (B or 1, G, M, E).
        score_mod: (score, b, h, q_idx, kv_idx) -> score; None leaves scores as they are.
        block_mask: A BlockMask; None sees every pair.
        scale: What products are multiplied by; 1 / √D unless given.
        enable_gqa: Whether G may be smaller than H, of which it must be a divisor.
        return_lse: Whether to return the log-sum-exp as well, as before torch 2.9.
        kernel_options: Accepted, and without effect: all are about the speed of torch's kernels.
        return_aux: An `AuxRequest` of lse and max_scores, natural logarithms as in torch.
        backend: As for `rg.attend`.

    Returns:
        The output (B, H, N, E); with `return_lse` also the lse (B, H, N), with `return_aux` also an
        `AuxOutput`. Rows that see no key give 0, and minus infinity as lse and max_scores.

    Raises:
        InputError: If an argument does not fit; the message says which.
        ProgramError: If a function says something that has no meaning for a pair; the message
            shows its line.
    """
    _check_options(return_lse, return_aux, kernel_options)
    # A graph that torch.compile makes breaks here: its tracing cannot look into ours.
    run = _outside_of_graphs if torch.compiler.is_compiling() else _attend
    observe = _observed(return_lse, return_aux)
    result = run(query, key, value, score_mod, block_mask, scale, enable_gqa, observe, backend)
    if return_aux is not None:
        from torch.nn.attention.flex_attention import AuxOutput

        output, seen = result if observe else (result, {})
        return output, AuxOutput(lse=seen.get("lse"), max_scores=seen.get("max"))
    return (result[0], result[1]["lse"]) if return_lse else result


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Callable[..., Any] | None,
    block_mask: Any,
    scale: float | None,
    enable_gqa: bool,
    observe: tuple[str, ...],
    backend: str,
) -> Any:
    _check_rows(query, key, value, enable_gqa, block_mask)
    query, key, value = as_autocast(query, key, value)
    if key.shape[0] != query.shape[0]:
        key, value = (rows.expand(query.shape[0], -1, -1, -1) for rows in (key, value))
    origin = origin_of(query, key, scale)
    table = None if block_mask is None else table_of(block_mask, query, key, value, origin)
    mask_mod = None if block_mask is None else block_mask.mask_mod
    found = find_program(score_mod, mask_mod, origin, table)
    inputs: dict[str, Any] = found.inputs
    return attend(found.program, query, key, value, observe=observe, backend=backend, **inputs)


_outside_of_graphs = _disable_dynamo(_attend)


def _observed(return_lse: bool, return_aux: Any) -> tuple[str, ...]:
    wanted = {"lse": return_lse, "max": False}
    if return_aux is not None:
        wanted = {"lse": return_aux.lse, "max": return_aux.max_scores}
    return tuple(name for name, asked in wanted.items() if asked)


def origin_of(query: Tensor, key: Tensor, scale: float | None) -> Origin:
    """Return what a call says beside its functions.

    Args:
        query: Queries.
        key: Keys.
        scale: What products are multiplied by, or None.

    Returns:
        Scale, dtype, device and sizes.
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    batch, heads, queries, _ = query.shape
    sizes = Sizes(batch, heads, key.shape[1], queries, key.shape[2])
    return Origin(None if scale is None else float(scale), dtype, query.device, sizes)


def _check_options(return_lse: bool, return_aux: Any, options: Mapping[str, Any] | None) -> None:
    if return_lse and return_aux is not None:
        raise InputError("return_lse and return_aux both ask for the lse; give return_aux alone")
    if return_aux is not None and not hasattr(return_aux, "max_scores"):
        raise InputError(f"return_aux must be an AuxRequest, not {return_aux!r}")
    for name in options or ():
        bare = name.removeprefix("fwd_").removeprefix("bwd_")
        if bare not in _KERNEL_OPTIONS:
            raise InputError(f"kernel_options has no '{name}'; {nearest(name, _KERNEL_OPTIONS)}")


def _check_rows(
    query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool, block_mask: Any
) -> None:
    rows = {"query": query, "key": key, "value": value}
    for name, tensor in rows.items():
        if tensor.is_nested:
            raise InputError(f"{name} is a nested tensor; rg.attend_packed takes ragged batches")
        if tensor.ndim != 4:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}; expected four axes")
        if tensor.device != query.device:
            raise InputError(f"{name} is on {tensor.device}, query is on {query.device}")
    if query.shape[3] != key.shape[3]:
        raise InputError(f"query has {query.shape[3]} channels and key has {key.shape[3]}")
    if not enable_gqa and query.shape[1] != key.shape[1]:
        raise InputError(
            f"query has {query.shape[1]} heads and key has {key.shape[1]}; "
            "give enable_gqa=True to share key heads among query heads"
        )
    if query.shape[0] != key.shape[0] and (block_mask is None or key.shape[0] != 1):
        raise InputError(
            f"query has {query.shape[0]} batch rows and key has {key.shape[0]}; "
            "one batch row of keys is shared when a block_mask is given"
        )
    if block_mask is not None:
        check_block_mask(block_mask, query, key)
