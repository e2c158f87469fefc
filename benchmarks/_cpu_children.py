"""What the cpu benchmark measures in processes of their own: first calls, and memory.

`child` starts this file; what is found comes back as its last line.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

import torch
from _cpu_cases import FORWARD, TRAINING, Problem
from _measure import PeakMemory, cores

from regard.backends.cpu import library


def child(kind: str, **options: Any) -> dict[str, float]:
    """Run one of the functions below in a new process.

    Args:
        kind: Which.
        **options: What it is called with; names in capitals go to its environment.

    Returns:
        What it found.
    """
    variables = {name: value for name, value in options.items() if name.isupper()}
    rest = {name: value for name, value in options.items() if not name.isupper()}
    command = [sys.executable, __file__, json.dumps({"kind": kind, **rest})]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
        )
    return json.loads(done.stdout.splitlines()[-1])


def build(training: bool) -> dict[str, float]:
    """Return how long a first call took, and how much of that was building or loading libraries."""
    spent, load = [0.0], library.load_library

    def timed(*given: Any):
        start = time.perf_counter()
        found = load(*given)
        spent[0] += time.perf_counter() - start
        return found

    for module in list(sys.modules.values()):
        if getattr(module, "load_library", None) is load:
            module.load_library = timed  # wherever it was imported by name
    problem = Problem("ALiBi", 64)
    run = problem.run(problem.ours(), TRAINING if training else FORWARD)
    start = time.perf_counter()
    run()
    whole = time.perf_counter() - start
    assert spent[0] > 0, "no library was loaded"
    return {"call_s": whole, "library_s": spent[0]}


def memory(name: str, rows: int, heads: int, whose: str) -> dict[str, float]:
    """Return how far training raises this process's memory, in units of N·D·H floats."""
    small, large = Problem(name, 64, heads), Problem(name, 64, heads)
    torch.manual_seed(0)
    # Without a dense mask: only the shapes of `large` change.
    large.rows = [torch.randn(1, heads, rows, 64, requires_grad=True) for _ in "qkv"]
    large.leaves = [*large.rows, *large.leaves[3:]]
    large.grad = torch.randn(1, heads, rows, 64)
    runs = [
        one.run(one.ours() if whose == "ours" else one.sdpa(), TRAINING) for one in (small, large)
    ]
    for _ in range(3):
        runs[0]()
    with PeakMemory() as peak:
        start = time.perf_counter()
        kept = runs[1]()
        spent = time.perf_counter() - start
    assert kept is not None
    return {"units": peak.grown_bytes / (4 * rows * heads * 64), "ms": spent * 1e3}


def main() -> None:
    """Run one function in this process."""
    torch.set_num_threads(cores())
    asked = json.loads(sys.argv[1])
    run = {"build": build, "memory": memory}[asked.pop("kind")]
    print(json.dumps(run(**asked)))


if __name__ == "__main__":
    main()
