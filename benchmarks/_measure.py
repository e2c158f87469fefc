"""Interleaved timing: every contender in turn, many rounds, medians and ratios, the machine named.

Leaves to others: what is timed (the scripts beside this file).
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch


def machine() -> dict[str, str | int]:
    """Return what a reader needs to judge the figures."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if "model name" in line), name)
    return {
        "cpu": name,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def interleaved_ms(
    contenders: dict[str, Callable[[], object]], rounds: int = 9
) -> dict[str, float]:
    """Time contenders in turn, A B C A B C …, after one round that does not count.

    Args:
        contenders: Functions by name.
        rounds: How many rounds count.

    Returns:
        The median time of each, in milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def report(title: str, rows: list[dict[str, object]], path: Path) -> None:
    """Print a table and write it, with the machine, as JSON.

    Args:
        title: What was measured.
        rows: One dict per line, with the same keys.
        path: The JSON file.
    """
    about = machine()
    print(title)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    lines = [columns, *cells]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    path.write_text(json.dumps({"title": title, "machine": about, "rows": rows}, indent=1) + "\n")


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
