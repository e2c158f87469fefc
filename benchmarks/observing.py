"""What observing attention costs: statistics in the kernels beside dense weights, and long rows."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from _measure import PeakMemory, interleaved_ms, report
from torch import Tensor

import regard as rg

SHAPE = (1, 8, 4096, 64)
ROUNDS = 5
# The most times the time of the same call without observing; None is not bound.
TOGETHER = ("lse", "entropy", "distance", "mass:kind:4")
FORWARD: dict[tuple[str, ...], float | None] = {
    TOGETHER: 1.35,
    ("received",): 1.6,
    ("top:8",): 1.6,
    ("map:64x64",): 1.6,
    ("entropy",): None,
    ("distance",): None,
    ("variance",): None,
    ("mass:kind:4",): None,
}
# Dense weights and the statistics made of them are to take at least so many times as long.
DENSE = 4.0
# A row so long, with everything observed, takes less than so many bytes.
LONG, MOST_BYTES = 32_768, 2 * 10**9


@rg.program
def softmax(pair):
    """Plain attention."""
    return rg.softmax(rg.dot(pair.q, pair.k) / 8)


def observed(
    names: tuple[str, ...], tensors: tuple[Tensor, ...], kind: Tensor
) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
    """Return what is observed."""
    named = {"kind": kind} if any("kind" in name for name in names) else {}
    return rg.attend(softmax, *tensors, observe=names, backend="cpu", **named)[1]


def trained(names: tuple[str, ...], tensors: tuple[Tensor, ...], kind: Tensor) -> object:
    """Run forward, and backward from the output and the mean of all that is observed."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    named = {"kind": kind} if any("kind" in name for name in names) else {}
    found = rg.attend(softmax, *leaves, observe=names, backend="cpu", **named)
    out, seen = found if names else (found, {})
    values = [value[0] if isinstance(value, tuple) else value for value in seen.values()]
    return torch.autograd.grad(sum((value.mean() for value in values), out.mean()), leaves)


def dense(tensors: tuple[Tensor, ...], kind: Tensor) -> tuple[Tensor, ...]:
    """Return the output, lse, entropy, mean distance and mass of classes from dense weights."""
    q, k, v = tensors
    scores = q @ k.mT / 8
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp()
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    rows, classes = torch.arange(q.shape[2]), torch.nn.functional.one_hot(kind, 4).float()
    distance = (weights * (rows[:, None] - rows).abs()).sum(-1)
    return weights @ v, lse, entropy, distance, weights @ classes


def child() -> None:
    """Observe a long row, and print how much memory that took."""
    tensors = tuple(torch.randn(3, 1, SHAPE[1], LONG, SHAPE[3]))
    kind = torch.randint(0, 4, (1, 1, LONG))
    names = (*TOGETHER, "received", "top:8", "map:64x64", "variance")
    with PeakMemory() as peak:
        observed(names, tensors, kind)
    print(json.dumps(peak.grown_bytes))


def main() -> None:
    """Measure, print and write."""
    if sys.argv[1:] == ["long"]:
        child()
        return
    tensors = tuple(torch.randn(3, *SHAPE))
    kind = torch.randint(0, 4, (1, 1, SHAPE[2]))
    rows: list[dict[str, object]] = []
    plain = partial(rg.attend, softmax, *tensors, backend="cpu")
    calls = {", ".join(names): partial(observed, names, tensors, kind) for names in FORWARD}
    whole = {"plain": plain, "dense weights": partial(dense, tensors, kind), **calls}
    times = interleaved_ms(whole, ROUNDS)
    bars = {", ".join(names): bar for names, bar in FORWARD.items()}
    for name, spent in times.items():
        ratio, bar = spent / times["plain"], bars.get(name)
        reached = bar is None or ratio <= bar
        if name == "dense weights":
            bar, reached = DENSE, ratio >= DENSE
        verdict = "" if bar is None else "reached" if reached else "not reached"
        rows.append({"observed": name, "part": "forward", "ms": spent, "times plain": ratio,
                     "bar": bar or "", "": verdict})  # fmt: skip
    given = ((), TOGETHER, ("entropy",), ("received",), ("top:8",), ("map:64x64",))
    both = {", ".join(names) or "plain": partial(trained, names, tensors, kind) for names in given}
    times = interleaved_ms(both, 3)
    for name, spent in times.items():
        rows.append({"observed": name, "part": "forward + backward", "ms": spent,
                     "times plain": spent / times["plain"], "bar": "", "": ""})  # fmt: skip
    told = subprocess.run(
        [sys.executable, __file__, "long"], capture_output=True, text=True, check=True
    )
    grown = float(told.stdout.splitlines()[-1])
    verdict = "reached" if grown < MOST_BYTES else "not reached"
    rows.append({"observed": f"everything at N {LONG}", "part": "forward", "ms": "",
                 "times plain": f"{grown / 1e9:.2f} GB", "bar": "2 GB", "": verdict})  # fmt: skip
    title = "observing beside plain attention, backend cpu, B 1, H 8, N 4096, D 64, float32"
    report(title, rows, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
