"""The Triton backend on one NVIDIA GPU, beside torch's own kernels and compiled FlexAttention.

Times are those of the device, by its events, every contender in turn; ratios above 1 mean that
Regard is faster. `--quick` measures fewer rounds. With REGARD_TUNE=60 tiles are measured first, and
so is which backend runs "causal, routed". Without a GPU it says so and ends.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _measure import report
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import regard as rg

BATCH, HEADS, ROWS = 4, 16, 4096
WIDTHS = (64, 128)
WINDOW, CAP = 256, 20.0
DECODED, DECODING_BATCH = 32768, 8
# Bytes a second that an H200's memory moves, as published.
BANDWIDTH = 4.8e12
FUSED = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
Row = dict[str, object]


def score(pair):
    """Return the scaled dot product."""
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def before(pair):
    """Tell whether the key is not later than the query."""
    return pair.j <= pair.i


@rg.program
def everything(pair):
    """See every key."""
    return rg.softmax(score(pair))


@rg.program
def causal(pair):
    """See what came before."""
    return rg.softmax(score(pair), where=before(pair))


@rg.program
def alibi(pair):
    """Fall with the distance, by a given slope."""
    slope = rg.table("slope", per="head")
    return rg.softmax(score(pair) - slope * (pair.i - pair.j), where=before(pair))


@rg.program
def soft_cap(pair):
    """Cap scores softly."""
    return rg.softmax(CAP * rg.tanh(score(pair) / CAP), where=before(pair))


@rg.program
def window(pair):
    """See a window of what came before."""
    return rg.softmax(score(pair), where=before(pair) & (pair.i - pair.j < WINDOW))


@rg.program
def documents(pair):
    """See what came before in the same document."""
    same = rg.query_feature("of_query") == rg.key_feature("of_key")
    return rg.softmax(score(pair), where=before(pair) & same)


BESIDE_FLEX = {"alibi": alibi, "soft_cap": soft_cap, "window": window, "documents": documents}
# Measured beside our own causal softmax.
OTHERS = {
    "sigmoid": rg.catalogue.sigmoid(),
    "softpick": rg.catalogue.softpick(),
    "learned_sink": rg.catalogue.learned_sink(),
}
# Eager additive scores hold a number of every channel of every pair: few rows of one sequence.
ADDITIVE_ROWS = 1024


@rg.program
def sparse(pair):
    """See few of the keys that came before."""
    return rg.entmax(score(pair), 1.5, where=before(pair))


@rg.program
def additive(pair):
    """Score by tanh units of the sum of the rows."""
    return rg.softmax(rg.sum(rg.tanh(pair.q + pair.k)))


def eager_additive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the same by dense torch."""
    scores = (q[:, :, :, None] + k[:, :, None]).tanh().sum(-1, dtype=torch.float32)
    return scores.softmax(-1).to(v.dtype) @ v


def adasplash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return entmax-1.5 by the package of that name (Gonçalves, Treviso & Martins 2025)."""
    from adasplash import adasplash_no_block_mask  # type: ignore[import-not-found]

    return adasplash_no_block_mask(q, k, v, alpha=1.5, is_causal=True)


def device_ms(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each on the device, every one in turn, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    flush = torch.empty(1 << 26, dtype=torch.int32, device="cuda")
    for turn in range(-3, rounds):
        for name, run in contenders.items():
            flush.zero_()  # Nothing is to lie in the cache from the contender before.
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            if turn >= 0:
                times[name].append(start.elapsed_time(end))
    return {name: statistics.median(found) for name, found in times.items()}


def rows(width: int, batch: int = BATCH, queries: int = ROWS, keys: int = ROWS) -> list[Tensor]:
    """Return q, k and v in bfloat16."""
    torch.manual_seed(0)
    shapes = [(batch, HEADS, count, width) for count in (queries, keys, keys)]
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in shapes]


def named(name: str) -> dict[str, Tensor]:
    """Return the further inputs of a program."""
    kinds = torch.arange(ROWS, device="cuda").div(700, rounding_mode="floor").view(1, 1, -1)
    return {
        "alibi": {"slope": slopes()},
        "documents": {"of_query": kinds, "of_key": kinds},
        "learned_sink": {"sink": torch.zeros(HEADS, device="cuda")},
    }.get(name, {})


def slopes() -> Tensor:
    """Return a slope for each head."""
    return torch.exp2(-8 * torch.arange(1, HEADS + 1, device="cuda") / HEADS)


def flex_of(name: str) -> Callable[..., Tensor]:
    """Return the same mechanism by compiled FlexAttention."""
    own, kinds = slopes(), torch.arange(ROWS, device="cuda") // 700
    scores = {
        "alibi": lambda s, b, h, i, j: s + own[h] * (j - i),
        "soft_cap": lambda s, b, h, i, j: CAP * torch.tanh(s / CAP),
    }
    masks = {
        "window": lambda b, h, i, j: (i >= j) & (i - j < WINDOW),
        "documents": lambda b, h, i, j: (i >= j) & (kinds[i] == kinds[j]),
    }
    mask = masks.get(name, lambda b, h, i, j: i >= j)
    block = create_block_mask(mask, None, None, ROWS, ROWS, device="cuda")
    call = torch.compile(flex_attention, dynamic=False)
    return partial(call, score_mod=scores.get(name), block_mask=block)


def best_sdpa(kernel: SDPBackend) -> Callable[..., Tensor]:
    """Return causal attention by one of torch's fused kernels."""

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(kernel):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

    return run


def both_ways(
    run: Callable[..., Tensor], given: list[Tensor], grad: Tensor
) -> Callable[[], object]:
    """Return a function that runs forward and backward."""
    leaves = [x.detach().requires_grad_() for x in given]
    return lambda: torch.autograd.grad(run(*leaves), leaves, grad)


def compared(
    width: int,
    case: str,
    runs: dict[str, Callable[..., Tensor]],
    rounds: int,
    sizes: tuple[int, int] = (BATCH, ROWS),
) -> list[Row]:
    """Return a row forward and a row forward and backward; the first runner is ours."""
    batch, count = sizes
    given = rows(width, batch, count, count)
    grad = torch.randn_like(given[2])
    expected = next(iter(runs.values()))(*given).float()
    usable = {}
    for name, run in runs.items():
        try:
            off = (run(*given).float() - expected).abs().max().item()
        except (RuntimeError, ImportError, TypeError) as reason:
            print(f"{case} D{width}: {name} does not run: {str(reason).splitlines()[0]}")
            continue
        if name in ("triton", "flex", "auto", "eager", "adasplash") or case == "causal":
            assert off < 0.05, f"{case} D{width}: {name} differs by {off}"
        usable[name] = run
    found = []
    for what, make in (
        ("forward", lambda run: partial(run, *given)),
        ("forward and backward", lambda run: both_ways(run, given, grad)),
    ):
        times = device_ms({name: make(run) for name, run in usable.items()}, rounds)
        ours, *others = times
        if not others:
            continue
        best = min(others, key=lambda name: times[name])
        found.append(
            {
                "case": case, "D": width, "what": what, "ms": times[ours], "beside": best,
                "its ms": times[best], "ratio": times[best] / times[ours],
            }
        )  # fmt: skip
        print(found[-1], flush=True)
    return found


def attending(program, more: dict[str, Tensor], backend: str = "triton") -> Callable[..., Tensor]:
    """Return a program as a function of q, k and v."""
    return lambda q, k, v: rg.attend(program, q, k, v, backend=backend, **more)


def decoding(rounds: int) -> list[Row]:
    """Return how much of the memory's bandwidth one query row a head uses."""
    found = []
    for width in WIDTHS:
        q, k, v = rows(width, DECODING_BATCH, 1, DECODED)
        run = partial(rg.attend, everything, q, k, v, backend="triton")
        times = device_ms({"triton": run}, rounds)
        moved = (k.numel() + v.numel()) * k.element_size() / (times["triton"] * 1e-3)
        found.append(
            {
                "case": f"decoding, M {DECODED}", "D": width, "what": "forward",
                "ms": times["triton"], "beside": f"{moved / 1e12:.2f} TB/s of",
                "its ms": BANDWIDTH / 1e12, "ratio": moved / BANDWIDTH,
            }
        )  # fmt: skip
        print(found[-1], flush=True)
    return found


def host_us() -> float:
    """Return the microseconds a warm call takes on the host."""
    q, k, v = (torch.randn(1, 2, 64, 64, device="cuda", dtype=torch.bfloat16) for _ in "qkv")
    run = partial(rg.attend, causal, q, k, v, backend="triton")
    for _ in range(20):
        run()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(200):
        run()
    spent = time.perf_counter() - begun
    torch.cuda.synchronize()
    return spent / 200 * 1e6


def main() -> None:
    """Measure, print and write the table."""
    if not torch.cuda.is_available():
        print("torch sees no GPU: nothing is measured")
        return
    rounds = 7 if "--quick" in sys.argv else 21
    table: list[Row] = []
    for width in WIDTHS:
        fused = {str(kind).rpartition(".")[2].lower(): best_sdpa(kind) for kind in FUSED}
        auto = {"auto": attending(causal, {}, "auto")}
        table += compared(width, "causal, routed", {**auto, **fused}, rounds)
        own = {"triton": attending(causal, {})}
        table += compared(width, "causal", {**own, **fused}, rounds)
        for case, program in BESIDE_FLEX.items():
            runs = {"triton": attending(program, named(case)), "flex": flex_of(case)}
            table += compared(width, case, runs, rounds)
        for case, program in OTHERS.items():
            runs = {"triton": attending(program, named(case)), "our softmax": own["triton"]}
            table += compared(width, case, runs, rounds)
        runs = {"triton": attending(sparse, {}), "adasplash": adasplash}
        table += compared(width, "entmax-1.5", runs, rounds)
        runs = {"triton": attending(additive, {}), "eager": eager_additive}
        table += compared(width, "additive", runs, rounds, (1, ADDITIVE_ROWS))
    table += decoding(rounds)
    warm = host_us()
    print(f"a warm call takes {warm:.0f} µs on the host")
    tuned = os.environ.get("REGARD_TUNE") or "not set"
    title = f"bfloat16, B{BATCH} H{HEADS} N{ROWS}, {torch.cuda.get_device_name()}"
    title += f", REGARD_TUNE {tuned}"
    report(title, table, Path(__file__).with_suffix(".json"), host_us=warm)


if __name__ == "__main__":
    main()
