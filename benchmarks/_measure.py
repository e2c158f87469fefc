"""Interleaved timing: every contender in turn, many rounds, medians and ratios, the machine named.

Leaves to others: what is timed (the scripts beside this file).
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

_VECTOR_FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_fp16"),
    *("asimd", "sve", "sve2", "bf16"),
)


def processor_flags() -> list[str]:
    """Return which vector and matrix units the processor has, as Linux names them."""
    named = _cpu_lines("flags", "Features")
    have = set(named[0].split()) if named else set()
    return [flag for flag in _VECTOR_FLAGS if flag in have]


def _cpu_lines(*keys: str) -> list[str]:
    """Return what /proc/cpuinfo says under these keys."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    split = [line.partition(":") for line in lines]
    return [value.strip() for key, _, value in split if key.strip() in keys]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str | int]:
    """Return what a reader needs to judge the figures."""
    from regard.backends.cpu.compiler import find_compiler

    name = platform.processor() or platform.machine()
    compiler = find_compiler()
    return {
        "cpu": next(iter(_cpu_lines("model name")), name),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "units": " ".join(processor_flags()) or "unknown",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "compiler": compiler
        if isinstance(compiler, str)
        else f"{compiler.kind} {compiler.version}",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def interleaved_rounds(
    contenders: dict[str, Callable[[], object]],
    rounds: int = 9,
    unmeasured: int = 1,
    most_seconds: float = float("inf"),
    least: int = 1,
) -> dict[str, list[float]]:
    """Time contenders in turn, A B C A B C ….

    Args:
        contenders: Functions by name.
        rounds: How many rounds count.
        unmeasured: How many rounds before them do not.
        most_seconds: After this long no further round begins …
        least: … unless fewer than this many rounds have been timed.

    Returns:
        The times of each, round by round, in milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    begun = time.perf_counter()
    for turn in range(-unmeasured, rounds):
        if turn >= least and time.perf_counter() - begun > most_seconds:
            break
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


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
    times = interleaved_rounds(contenders, rounds)
    return {name: statistics.median(found) for name, found in times.items()}


def report(title: str, rows: list[dict[str, object]], path: Path, **facts: object) -> None:
    """Print a table and write it, with the machine, as JSON.

    Args:
        title: What was measured.
        rows: One dict per line, with the same keys.
        path: The JSON file.
        **facts: What else is written.
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
    text = {"title": title, "machine": about, "rows": rows, **facts}
    path.write_text(json.dumps(text, indent=1) + "\n")


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class PeakMemory:
    """How much the memory of this process grows, at its highest, while a block runs.

    Attributes:
        grown_bytes: The growth, when the block has ended.
    """

    grown_bytes = 0

    def __enter__(self) -> "PeakMemory":
        """Forget earlier peaks."""
        # 5 sets the highest size back to the present one: proc_pid_clear_refs(5).
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status_bytes("VmRSS")
        return self

    def __exit__(self, *failed: object) -> None:
        """Read the peak."""
        self.grown_bytes = _status_bytes("VmHWM") - self._before


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


# ── Tables that grow row by row ───────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Bar:
    """What a figure has to reach.

    Attributes:
        sign: ">=" or "<=".
        value: In the figure's unit.
    """

    sign: str
    value: float

    def reached(self, figure: float) -> bool:
        """Tell whether a figure is on the right side."""
        return figure >= self.value if self.sign == ">=" else figure <= self.value


@dataclass
class Row:
    """One line: a figure, what it was made of, and the bar it is held to.

    Attributes:
        group: What kind of thing is measured.
        case: What exactly.
        part: "forward", "forward + backward" or what else was run.
        peer: Who stands beside.
        figure: What is held to the bar.
        unit: Of the figure: "× as fast", "× its time", …
        ours_ms: Our time.
        peer_ms: The peer's.
        quartiles: Of the figure, taken round by round.
        bar: What is to be reached.
        gflops: Our rate; 2 products forward, 7 forward and backward, of visible pairs alone.
        error: Our largest error against float64, as a share of the largest number.
        peer_error: The peer's.
        note: Whatever else has to be said.
    """

    group: str
    case: str
    part: str
    peer: str
    figure: float | None
    unit: str
    ours_ms: float | None = None
    peer_ms: float | None = None
    quartiles: tuple[float, float] | None = None
    bar: Bar | None = None
    gflops: float | None = None
    error: float | None = None
    peer_error: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return "reached", "not reached", or nothing where there is no bar."""
        if self.bar is None:
            return ""
        reached = self.figure is not None and self.bar.reached(self.figure)
        return "reached" if reached else "not reached"

    def cells(self) -> dict[str, str]:
        """Return the row as text, by column."""
        figure = "failed" if self.figure is None else f"{_short(self.figure)} {self.unit}"
        sign = {">=": "≥", "<=": "≤", "": ""}[self.bar.sign if self.bar else ""]
        return {
            "what": f"{self.case}, {self.part}" if self.part else self.case,
            "beside": self.peer,
            "ours ms": _short(self.ours_ms),
            "its ms": _short(self.peer_ms),
            "figure": figure,
            "bar": f"{sign} {self.bar.value:g}" if self.bar else "",
            "verdict": self.verdict,
            "GFLOP/s": _short(self.gflops),
            "error": "" if self.error is None else f"{self.error:.0e}",
            "its error": "" if self.peer_error is None else f"{self.peer_error:.0e}",
            "note": self.note,
        }


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 20
        else f"{value:.2f}"
    )


_WIDTHS = {
    "what": 46, "beside": 24, "ours ms": 8, "its ms": 8, "figure": 22, "bar": 7, "verdict": 11,
    "GFLOP/s": 7, "error": 6, "its error": 9,
}  # fmt: skip


class Table:
    """Rows that are printed as they come.

    Args:
        title: What is measured.
        rows: Rows there are already.
        about: The machine; this one unless given.
    """

    def __init__(
        self, title: str, rows: Iterable[Row] = (), about: dict[str, str | int] | None = None
    ) -> None:
        self.title, self.rows = title, list(rows)
        self.about = machine() if about is None else about

    def start(self) -> None:
        """Print what stands above the rows."""
        print(self.title)
        print(", ".join(f"{key} {value}" for key, value in self.about.items()))
        print(_line({name: name for name in _WIDTHS}), flush=True)

    def add(self, row: Row) -> None:
        """Keep a row and print it."""
        if not self.rows or self.rows[-1].group != row.group:
            print(f"\n{row.group}")
        self.rows.append(row)
        print(_line(row.cells()), flush=True)

    def write(self, path: Path, **facts: object) -> None:
        """Write the table, the machine and further facts as JSON."""
        rows = [{**asdict(row), "verdict": row.verdict} for row in self.rows]
        text = {"title": self.title, "machine": self.about, **facts, "rows": rows}
        path.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Return a table that was written."""
        text = json.loads(path.read_text(encoding="utf-8"))
        rows = []
        for one in text["rows"]:
            one.pop("verdict")
            one["bar"] = Bar(**one["bar"]) if one["bar"] else None
            one["quartiles"] = tuple(one["quartiles"]) if one["quartiles"] else None
            rows.append(Row(**one))
        return cls(text["title"], rows, text["machine"])

    def markdown(self) -> str:
        """Return the table for a page, a heading row for each group."""
        names = [name for name in _WIDTHS if name != "verdict"]
        lines = [", ".join(f"{key} {value}" for key, value in self.about.items()), ""]
        lines += ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        group = None
        for row in self.rows:
            if row.group != group:
                group = row.group
                lines.append(f"| **{group}** " + "| " * (len(names) - 1) + "|")
            cells = row.cells()
            if row.verdict == "not reached":
                cells["figure"] = f"**{cells['figure']}**"
            lines.append("| " + " | ".join(cells[name] for name in names) + " |")
        return "\n".join(lines)


def _line(cells: dict[str, str]) -> str:
    texts = [cells[name].ljust(wide) if k < 2 else cells[name].rjust(wide)
             for k, (name, wide) in enumerate(_WIDTHS.items())]  # fmt: skip
    return "  ".join([*texts, cells.get("note", "")]).rstrip()


# ── The picture ───────────────────────────────────────────────────────────────────────────────
# Told apart by all common kinds of colour vision (Okabe and Ito 2008).
_COLOURS = {"forward": "#0072B2", "forward + backward": "#E69F00"}


def draw_ratios(panels: dict[str, list[Row]], title: str, path: Path) -> None:
    """Draw how much faster we are than peers, as horizontal bars with a line at each bar.

    Args:
        panels: Rows by the title of the panel they stand in.
        title: What stands above all.
        path: The picture; its ending chooses the format.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    counts = [len({(row.case, row.peer) for row in rows}) for rows in panels.values()]
    figure = Figure(figsize=(11, 1.6 + 0.36 * max(counts)), layout="constrained")
    for place, (name, rows) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        _draw_panel(axes, rows)
        axes.set_title(name, loc="left", fontsize=11)
    marks = [Patch(color=colour, label=part) for part, colour in _COLOURS.items()]
    marks.append(Line2D([], [], color="black", linewidth=2.5, label="the bar to reach"))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    figure.savefig(path, dpi=130)


def _draw_panel(axes, rows: list[Row]) -> None:
    """Draw a line for each case and peer, with a bar for each part."""
    lines = list(dict.fromkeys((row.case, row.peer) for row in rows))
    shared = len({peer for _, peer in lines}) == 1
    largest = max(row.figure or 1.0 for row in rows)
    wide = largest > 4
    start = 0.25 if wide else 0.0
    for row in rows:
        first = row.part != "forward + backward"
        at = lines.index((row.case, row.peer)) + (-0.19 if first else 0.19)
        colour = _COLOURS["forward" if first else "forward + backward"]
        figure = row.figure or 0.0
        axes.barh(at, max(figure - start, 0), 0.34, left=start, color=colour)
        end = max(figure, start, row.bar.value if row.bar else 0)
        shift = end * 1.04 if wide else end + 0.02 * largest
        axes.text(
            shift, at, f"{figure:.2f}" if figure < 10 else f"{figure:.0f}", va="center", fontsize=8
        )
        if row.bar:
            axes.plot([row.bar.value] * 2, [at - 0.19, at + 0.19], color="black", linewidth=2.5)
    axes.axvline(1, color="grey", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(lines)))
    axes.set_yticklabels(
        [case if shared else f"{case}\nbeside {peer}" for case, peer in lines], fontsize=9
    )
    axes.set_ylim(len(lines) - 0.4, -0.6)
    _scale(axes, largest, wide)


def _scale(axes, largest: float, wide: bool) -> None:
    """Set the axis of ratios; a wide range of them is drawn by their logarithm."""
    axes.set_xlabel("times as fast" + (" (logarithmic)" if wide else ""), fontsize=9)
    if wide:
        axes.set_xscale("log")
        axes.set_xlim(0.25, largest * 2)
        ticks = [tick for tick in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if tick < largest * 2]
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_xlim(0, largest * 1.2)
    axes.spines[["top", "right"]].set_visible(False)
