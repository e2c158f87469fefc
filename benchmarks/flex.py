"""`rg.flex_attention` beside torch's FlexAttention, compiled and eager, on this CPU.

Torch's has no backward on CPUs, so training is measured for Regard and the eager code alone. Ratios
above 1 mean that Regard is faster.
"""

import math
import warnings
from functools import partial
from pathlib import Path

import torch
from _measure import interleaved_ms, report
from torch import Tensor
from torch._higher_order_ops.flex_attention import math_attention
from torch.nn.attention.flex_attention import create_block_mask, flex_attention, noop_mask

import regard as rg

HEADS, ROWS, WIDTH = 8, 2048, 64
SLOPES = torch.tensor([2.0 ** -(head + 1) for head in range(HEADS)])
DOCUMENT = torch.repeat_interleave(torch.arange(5), torch.tensor([300, 500, 148, 700, 400]))


def causal(b, h, q_idx, kv_idx):
    """See what came before."""
    return q_idx >= kv_idx


def alibi(score, b, h, q_idx, kv_idx):
    """Fall with the distance, by a captured slope."""
    return score + SLOPES[h] * (kv_idx - q_idx)


def soft_cap(score, b, h, q_idx, kv_idx):
    """Cap scores softly."""
    return 20 * torch.tanh(score / 20)


def documents(b, h, q_idx, kv_idx):
    """See what came before in the same document."""
    return (DOCUMENT[q_idx] == DOCUMENT[kv_idx]) & (q_idx >= kv_idx)


CASES = {
    "causal": (None, causal),
    "alibi": (alibi, causal),
    "soft_cap": (soft_cap, None),
    "documents": (None, documents),
}


def eager(q: Tensor, k: Tensor, v: Tensor, score_mod, mask_mod) -> Tensor:
    """Return what FlexAttention computes without compiling."""
    identity = lambda score, *places: score  # noqa: E731
    mask = (None, mask_mod or noop_mask)
    return math_attention(q, k, v, score_mod or identity, mask, 1 / math.sqrt(WIDTH), {})[0]


def trained(run, leaves: list[Tensor]):
    """Return a function that runs forward and backward."""
    return lambda: torch.autograd.grad(run().sum(), leaves)


def line_of(name: str, what: str, found: dict[str, float]) -> dict[str, object]:
    """Return a line of the table."""
    line: dict[str, object] = {"function": name, "what": what, "regard ms": found["regard"]}
    for peer in ("compiled", "eager"):
        ratio = found[peer] / found["regard"] if peer in found else "-"
        line[f"{peer} / regard"] = ratio
    return line


def main() -> None:
    """Measure and report."""
    torch.manual_seed(0)
    # Torch tells of functions that its compiler looks through.
    warnings.simplefilter("ignore")
    leaves = [torch.randn(1, HEADS, ROWS, WIDTH) for _ in range(3)]
    compiled = torch.compile(flex_attention)
    lines = []
    for name, (score_mod, mask_mod) in CASES.items():
        block_mask = None
        if mask_mod is not None:
            block_mask = create_block_mask(mask_mod, None, None, ROWS, ROWS, device="cpu")
        call = {"score_mod": score_mod, "block_mask": block_mask}
        with torch.no_grad():
            contenders = {
                "regard": partial(rg.flex_attention, *leaves, **call),
                "compiled": partial(compiled, *leaves, **call),
                "eager": partial(eager, *leaves, score_mod, mask_mod),
            }
            lines.append(line_of(name, "forward", interleaved_ms(contenders)))
        rows = [leaf.clone().requires_grad_() for leaf in leaves]
        contenders = {
            "regard": trained(partial(rg.flex_attention, *rows, **call), rows),
            "eager": trained(partial(eager, *rows, score_mod, mask_mod), rows),
        }
        lines.append(line_of(name, "training", interleaved_ms(contenders)))
    title = f"flex_attention, B1 H{HEADS} N{ROWS} D{WIDTH} float32"
    report(title, lines, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
