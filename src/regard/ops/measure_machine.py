"""Time calls that differ in what they do most, once on a machine, and keep what each thing costs.

Leaves to others: what is made of the times (`predict`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from regard.errors import InputError, UnsupportedError
from regard.ir.program import AttentionProgram
from regard.lang.functions import dot, relu, tanh
from regard.lang.pair import Pair
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.lang.weights import softmax
from regard.ops.attend import attend
from regard.ops.bind import Options
from regard.ops.predict import Prices, fit_prices, keep_prices, known_prices
from regard.ops.prepare import prepare
from regard.passes.count_work import Work

# Rounds of calls, and the seconds after which a backend's last round begins, for each call.
_LEAST_TIMES, _MOST_TIMES, _MOST_SECONDS = 3, 15, 0.25
# What is timed at once takes at least so long.
_LEAST_SECONDS = 0.002


def _plain(pair):
    return softmax(dot(pair.q, pair.k) * 0.125)


def _causal(pair):
    return softmax(dot(pair.q, pair.k) * 0.125, where=pair.j <= pair.i)


def _capped(pair):
    return softmax(5 * tanh(dot(pair.q, pair.k) / 40))


def _busy(pair):
    score = dot(pair.q, pair.k) * 0.125
    for step in range(1, 9):
        score = relu(score + 0.5 * step) - abs(score) * 0.25
    return softmax(score)


@dataclass(frozen=True)
class _Call:
    """A call to be timed: a program, the sizes B, H, N, M, D, and whether gradients are wanted."""

    written: Callable[[Pair], Expr]
    sizes: tuple[int, int, int, int, int]
    trained: bool = False

    @property
    def run(self) -> AttentionProgram:
        """The program; traced when a machine is measured, which few processes do."""
        return program(self.written)


_CALLS = (
    _Call(_plain, (1, 4, 1024, 1024, 64)),
    _Call(_plain, (1, 4, 1024, 1024, 16)),
    _Call(_plain, (1, 4, 768, 768, 128)),
    _Call(_plain, (1, 4, 1024, 1024, 64), trained=True),
    _Call(_plain, (1, 4, 1024, 1024, 16), trained=True),
    _Call(_causal, (1, 4, 1024, 1024, 64)),
    _Call(_causal, (1, 4, 1024, 1024, 64), trained=True),
    _Call(_capped, (1, 4, 1024, 1024, 64)),
    _Call(_busy, (1, 4, 768, 768, 64)),
    _Call(_plain, (4, 8, 128, 128, 64)),
    _Call(_plain, (4, 8, 1, 8192, 64)),
    _Call(_plain, (1, 1, 16, 16, 16)),
    _Call(_plain, (1, 1, 16, 16, 16), trained=True),
)


def measure_machine(
    backends: str | Sequence[str] = ("sdpa", "cpu", "tiled"),
    dtype: torch.dtype = torch.float32,
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Prices]:
    """Find what matrix products, functions, memory and calls cost on this machine, in seconds each.

    It takes some seconds for each backend, more the first time, when kernels are built. What is
    found is kept in the cache folder, for this processor and this number of threads, and `explain`
    predicts times from it.

    Args:
        backends: Those to be measured; one that cannot run here is left out.
        dtype: Of q.
        again: Whether to measure what is known already.
        say: Is told what is measured.

    Returns:
        The prices by backend.

    Raises:
        InputError: If there is no such backend, or dtype is none.
    """
    if isinstance(backends, str):
        backends = (backends,)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype must be one of torch's, e.g. torch.bfloat16; found {dtype!r}")
    found = {}
    for name in backends:
        known = None if again else known_prices(name, dtype)
        if known is None:
            # Also where somebody evaluates a model without gradients.
            with torch.inference_mode(False), torch.enable_grad():
                works, calls = _prepared(name, dtype)
                if not calls:
                    continue
                say(f"measuring backend '{name}' on this machine, once")
                seconds = time_calls(calls, _MOST_SECONDS * len(calls))
            known = fit_prices(zip(works, seconds, strict=True))
            keep_prices(name, dtype, known)
        found[name] = known
    return found


def _prepared(backend: str, dtype: torch.dtype) -> tuple[list[Work], list[Callable[[], None]]]:
    """Return what calls cost and the calls, of those that the backend can run."""
    works, calls = [], []
    for one in _CALLS:
        run, (q, k, v) = one.run, _rows(one, dtype)
        try:
            works.append(work_of(run, q, k, v, backend))
        except UnsupportedError:
            continue
        calls.append(prepare_call(run, q, k, v, backend))
    return works, calls


def _rows(one: _Call, dtype: torch.dtype) -> list[Tensor]:
    b, h, n, m, d = one.sizes
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(b, h, rows, d, generator=generator).to(dtype) for rows in (n, m, m)]
    return [rows.requires_grad_(one.trained) for rows in made]


def work_of(
    run: AttentionProgram, q: Tensor, k: Tensor, v: Tensor, backend: str, **options: Any
) -> Work:
    """Return what a call costs on a backend.

    Args:
        run: The program.
        q: Queries.
        k: Keys.
        v: Values.
        backend: The backend's name.
        **options: The inputs of the program, by name.

    Returns:
        The work.

    Raises:
        UnsupportedError: If the backend cannot run it, or nobody counts what it does.
    """
    kind, bound = prepare(run, q, k, v, options, Options(backend=backend))
    one, kernel = kind.kernel(kind.plan.candidates[0])
    work = one.facts(kernel, bound).work
    if work is None:
        raise UnsupportedError(f"nobody counts what backend '{one.name}' does")
    return work


def prepare_call(
    run: AttentionProgram, q: Tensor, k: Tensor, v: Tensor, backend: str, **options: Any
) -> Callable[[], None]:
    """Return a call without arguments, with its gradient if an input wants one.

    Args:
        run: The program.
        q: Queries.
        k: Keys.
        v: Values.
        backend: As for `attend`.
        **options: As for `attend`.

    Returns:
        The call.
    """
    wanted = [x for x in (q, k, v, *options.values()) if isinstance(x, Tensor) and x.requires_grad]
    received = torch.ones(*q.shape[:3], v.shape[-1], dtype=q.dtype, device=q.device)

    def call() -> None:
        out = attend(run, q, k, v, backend=backend, **options)
        if wanted:
            out = out if isinstance(out, Tensor) else out[0]
            torch.autograd.grad(out, wanted, received, allow_unused=True)

    return call


def time_calls(calls: Sequence[Callable[[], None]], most_seconds: float) -> list[float]:
    """Time calls in rounds, so that what slows the machine for a while slows all of them.

    Args:
        calls: The calls; each is made once before, to build and to warm up.
        most_seconds: When no further round begins; there are three at least.

    Returns:
        The median of each, in seconds.
    """
    for call in calls:
        call()
    # A short call is made several times in a row: as it runs in a loop, not behind other work.
    often = [max(1, int(_LEAST_SECONDS / _seconds(call, 1))) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + most_seconds
    for done in range(_MOST_TIMES):
        if done >= _LEAST_TIMES and time.perf_counter() > end:
            break
        for call, count, found in zip(calls, often, times, strict=True):
            found.append(_seconds(call, count))
    return [median(found) for found in times]


def _seconds(call: Callable[[], None], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - began) / count
