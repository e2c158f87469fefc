"""The cpu backend beside torch's SDPA, compiled FlexAttention, eager PyTorch, the tiled backend.

A figure above 1 "× as fast" means that Regard is faster. Medians of interleaved rounds; B1 H8 D64
float32 N2048 unless a row says otherwise; training gives gradients of q, k, v and all parameters.

    python benchmarks/cpu.py                     about ten minutes; prints rows, writes cpu.json
    python benchmarks/cpu.py --only decoding     groups with this word in their title
    python benchmarks/cpu.py --from benchmarks/cpu.json --plot FILE --markdown
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _cpu_cases import FORWARD, TRAINING, Problem, causal, document_starts, full, window
from _cpu_children import child
from _cpu_session import FAST, RATE, TIME, Session
from _measure import Bar, Row, Table, cores, draw_ratios, processor_flags
from overhead import CALLS, SHAPE, many
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import regard as rg
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.module import Layout

AMX = {"amx_tile", "amx_bf16"} <= set(processor_flags())

BARS = {
    "plain, full, forward": Bar(">=", 1.03),
    "plain, causal, forward": Bar(">=", 1.1),
    "plain, full, forward + backward": Bar(">=", 1.1),
    "plain, causal, forward + backward": Bar(">=", 1.2),
    "one head, forward + backward": Bar(">=", 1.5),
    "other sizes": Bar(">=", 0.95),
    "bfloat16 with AMX, full, forward": Bar(">=", 1.4),
    "bfloat16 with AMX, causal, forward": Bar(">=", 1.5),
    "bfloat16 with AMX, forward + backward": Bar(">=", 1.7),
    "bfloat16 without AMX": Bar(">=", 1.0),
    "a program beside plain": Bar("<=", 1.15),
    "soft cap beside plain": Bar("<=", 1.3),
    "beside FlexAttention": Bar(">=", 3.0),
    "training beside eager": Bar(">=", 4.0),
    "window": Bar(">=", 0.55),
    "additive": Bar(">=", 15.0),
    "decoding": Bar(">=", 1.4),
    "decoding, bandwidth": Bar(">=", 0.7),
    "call": Bar("<=", 20.0),
    "call with gradients": Bar("<=", 30.0),
    "build forward, s": Bar("<=", 1.5),
    "build forward and backward, s": Bar("<=", 3.0),
    "load, ms": Bar("<=", 25.0),
}


# ── The groups ────────────────────────────────────────────────────────────────────────────────
def measure_plain(session: Session) -> None:
    """Plain attention beside SDPA."""
    named = {name: {part: BARS[f"plain, {name}, {part}"] for part in (FORWARD, TRAINING)}
             for name in ("full", "causal")}  # fmt: skip
    one_head = {TRAINING: BARS["one head, forward + backward"]}
    other = {part: BARS["other sizes"] for part in (FORWARD, TRAINING)}
    sizes: list[tuple[str, dict[str, int], Callable[[str], dict[str, Bar]]]] = [
        ("", {}, lambda name: named[name]),
        (", one head of 8192", {"rows": 8192, "heads": 1}, lambda name: one_head),
        (", N 512", {"rows": 512}, lambda name: other),
        (", N 8192", {"rows": 8192}, lambda name: other),
        *((f", D {width}", {"width": width}, lambda name: other) for width in (32, 80, 128)),
    ]
    for said, size, bars in sizes:
        for name in ("full", "causal"):
            with session.trying(name + said):
                own = {**size, "rows": session.sized(size.get("rows", 2048))}
                problem = Problem(name, **own)
                for part in (FORWARD, TRAINING):
                    bar = {"SDPA": bars(name).get(part)}
                    session.compare(problem, name + said, part, {"SDPA": problem.sdpa()}, bar)


def measure_bfloat16(session: Session) -> None:
    """bfloat16 beside SDPA's and our own float32."""
    rows = session.sized(2048)
    for name in ("full", "causal"):
        with session.trying(name):
            problem, wide = Problem(name, rows, dtype=torch.bfloat16), Problem(name, rows)
            for part in (FORWARD, TRAINING):
                kind = f"{name}, {part}" if part == FORWARD else part
                bar = BARS[f"bfloat16 with AMX, {kind}"] if AMX else None
                session.compare(
                    problem, name, part, {"SDPA bfloat16": problem.sdpa()}, {"SDPA bfloat16": bar}
                )
                contenders = {
                    "ours": problem.run(problem.ours(), part),
                    "our float32": wide.run(wide.ours(), part),
                }
                times = session.times(contenders)
                bar = None if AMX else BARS["bfloat16 without AMX"]
                session.add_ratio(times, name, part, "our float32", FAST, bar=bar)


def same_pairs(name: str, problem: Problem) -> tuple[str, Callable[[], Tensor]]:
    """Return plain attention on the pairs that a case sees."""
    q, k, v = problem.rows
    if name == "T5 bias":
        return "our plain full", partial(rg.attend, full, q, k, v, backend="cpu")
    if name != "documents":
        return "our plain causal", partial(rg.attend, causal, q, k, v, backend="cpu")
    starts = document_starts(q.shape[2])
    pieces = [slice(a, b) for a, b in itertools.pairwise(starts)]

    def apart() -> Tensor:
        calls = [
            rg.attend(causal, q[:, :, at], k[:, :, at], v[:, :, at], backend="cpu") for at in pieces
        ]
        return torch.cat(calls, 2)

    return "plain, a call a document", apart


def measure_programs(session: Session) -> None:
    """Biases, masks, sinks and caps beside plain, FlexAttention and eager."""
    rows = session.sized(2048)
    for name in ("ALiBi", "T5 bias", "documents", "sink", "soft cap"):
        with session.trying(name):
            problem = Problem(name, rows)
            peer, plain = same_pairs(name, problem)
            bar = BARS["soft cap beside plain" if name == "soft cap" else "a program beside plain"]
            leaves = problem.rows
            contenders: dict[str, Callable[[], object]] = {
                "ours": problem.run(problem.ours(), FORWARD), peer: problem.run(plain, FORWARD)
            }  # fmt: skip
            session.add_ratio(session.times(contenders), name, FORWARD, peer, TIME, bar=bar)
            contenders = {
                "ours": problem.run(problem.ours(), TRAINING),
                peer: lambda run=plain, leaves=leaves, grad=problem.grad: torch.autograd.grad(
                    run(), leaves, grad
                ),
            }
            session.add_ratio(session.times(contenders), name, TRAINING, peer, TIME, bar=bar)
            # FlexAttention has no sinks, and no backward on CPUs.
            if name != "sink" and not session.quick:
                with session.trying(f"{name} beside FlexAttention", FORWARD):
                    flex = {"FlexAttention": problem.flex()}
                    bars = {"FlexAttention": BARS["beside FlexAttention"]}
                    session.compare(problem, name, FORWARD, flex, bars)
            bars = {"eager": BARS["training beside eager"]}
            session.compare(problem, name, TRAINING, {"eager": problem.eager()}, bars)


def measure_window(session: Session) -> None:
    """A window at length, by its rate per visible pair."""
    with session.trying("window 256, N 16384", FORWARD):
        long, plain = session.sized(16384), Problem("full", session.sized(2048))
        q, k, v = torch.randn(3, 1, 8, long, 64)
        contenders: dict[str, Callable[[], object]] = {
            "ours": partial(rg.attend, window, q, k, v, backend="cpu"),
            "our plain full, N 2048": plain.run(plain.ours(), FORWARD),
        }
        pairs = 8 * sum(min(i + 1, 256) for i in range(long))
        times = session.times(contenders)
        session.add_ratio(
            times,
            "window 256, N 16384",
            FORWARD,
            "our plain full, N 2048",
            RATE,
            bar=BARS["window"],
            share=pairs * 256 / plain.flops,
            gflops=pairs * 256 / statistics.median(times["ours"]) / 1e6,
        )


def measure_additive(session: Session) -> None:
    """Scores that are no products."""
    problem = Problem("additive", session.sized(512))
    # Its products are few; what costs is the hidden units, so no GFLOP/s.
    for part in (FORWARD, TRAINING):
        with session.trying("additive, 64 units, N 512", part):
            bars = {"eager": BARS["additive"]}
            session.compare(
                problem, "additive, 64 units, N 512", part, {"eager": problem.eager()}, bars
            )
            session.table.rows[-1].gflops = None


def measure_decoding(session: Session) -> None:
    """One token against a cache."""
    keys = max(512, session.sized(8192))
    for dtype, bar in ((torch.float32, BARS["decoding"]), (torch.bfloat16, None)):
        said = f"B4, M 8192, {str(dtype).removeprefix('torch.')}"
        with session.trying(said, "one step"):
            q = torch.randn(4, 8, 1, 64, dtype=dtype)
            k, v = torch.randn(2, 4, 8, keys, 64, dtype=dtype)
            contenders: dict[str, Callable[[], object]] = {
                "ours": partial(rg.attend, full, q, k, v, backend="cpu"),
                "SDPA": partial(scaled_dot_product_attention, q, k, v),
                "torch.sum of k and v": lambda k=k, v=v: (k.sum(), v.sum()),
            }
            score = (q.double() @ k.double().mT) / 8
            exact = torch.softmax(score, -1) @ v.double()
            worst = [float((run().double() - exact).abs().max() / exact.abs().max())
                     for run in (contenders["ours"], contenders["SDPA"])]  # fmt: skip
            times = session.times(contenders)
            session.add_ratio(
                times, said, "one step", "SDPA", FAST, bar=bar, error=worst[0], peer_error=worst[1]
            )
            if dtype == torch.float32:
                rate = 2 * k.nbytes / statistics.median(times["torch.sum of k and v"]) / 1e6
                session.add_ratio(
                    times,
                    said,
                    "one step",
                    "torch.sum of k and v",
                    RATE,
                    bar=BARS["decoding, bandwidth"],
                    note=f"it reads {rate:.1f} GB/s",
                )


@contextmanager
def kernel_seconds() -> Iterator[list[float]]:
    """Add up the time spent in compiled functions, in the one number of the list."""
    spent, lay_out = [0.0], Caller._layout

    def timed(caller: Caller, *given: Any) -> Layout:
        layout = lay_out(caller, *given)

        def call(words: Any) -> int:
            start = time.perf_counter()
            status = layout.entry(words)
            spent[0] += time.perf_counter() - start
            return status

        return replace(layout, entry=call)

    Caller._layout = timed
    try:
        yield spent
    finally:
        Caller._layout = lay_out


def measure_calls(session: Session) -> None:
    """What a warm call costs over its compiled function."""
    rows = [torch.randn(SHAPE) for _ in "qkv"]
    learned = [row.clone().requires_grad_() for row in rows]
    grad = torch.randn(SHAPE)
    whole = partial(rg.attend, causal, *learned, backend="cpu")
    calls: dict[str, tuple[Callable[[], object], Bar | None]] = {
        "no gradients": (partial(rg.attend, causal, *rows, backend="cpu"), BARS["call"]),
        "with gradients, forward": (whole, BARS["call with gradients"]),
        "with gradients, forward + backward": (
            lambda: torch.autograd.grad(whole(), learned, grad),
            None,
        ),
    }
    for said, (run, bar) in calls.items():
        with session.trying("warm, H1 N16", said):
            over, total = [], []
            for _ in range(2 if session.quick else 21):
                with kernel_seconds() as spent:
                    start = time.perf_counter()
                    many(run)
                    total.append((time.perf_counter() - start) / CALLS * 1e6)
                inside = spent[0] / CALLS * 1e6
                assert inside > 0, "no compiled function was called"
                over.append(total[-1] - inside)
            figure = statistics.median(over[1:])
            ours = statistics.median(total[1:])
            session.add(
                "warm, H1 N16",
                said,
                "the compiled function",
                figure,
                "µs over it",
                bar=bar,
                ours_ms=ours / 1e3,
                peer_ms=(ours - figure) / 1e3,
            )


def measure_builds(session: Session) -> None:
    """Building and loading kernels, each in a process of its own."""
    found: dict[str, list[dict[str, float]]] = {}
    with session.trying("build"):
        for _ in range(1 if session.quick else 3):
            for what, training in (("forward", False), ("forward and backward", True)):
                with tempfile.TemporaryDirectory(prefix="regard-") as folder:
                    for kind in ("build", "load"):
                        got = child("build", training=training, REGARD_CACHE_DIR=folder)
                        found.setdefault(f"{kind} {what}", []).append(got)
        median = {
            name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
            for name, runs in found.items()
        }
        for what in ("forward", "forward and backward"):
            got = median[f"build {what}"]
            session.add(
                f"build {what}",
                "",
                "",
                got["library_s"],
                "s",
                bar=BARS[f"build {what}, s"],
                note=f"the whole first call {got['call_s']:.2f} s",
            )
        got = median["load forward"]
        session.add(
            "load forward from the disk",
            "",
            "",
            got["library_s"] * 1e3,
            "ms",
            bar=BARS["load, ms"],
            note=f"the whole first call {got['call_s'] * 1e3:.0f} ms",
        )


def measure_memory(session: Session) -> None:
    """What training takes beyond its inputs, its output and gradients included."""
    for name, rows, heads in (("causal", 16384, 8), ("causal", 16384, 1), ("additive", 4096, 8)):
        said = f"{name}, H{heads} N{rows}"
        with session.trying(said, "training"):
            rows = session.sized(rows)
            got = child("memory", name=name, rows=rows, heads=heads, whose="ours")
            note, more = "", {}
            if name == "additive":
                note = f"eager's tanh alone is {4 * rows * rows * heads * 64 / 1e9:.2g} GB"
            else:
                its = child("memory", name=name, rows=rows, heads=heads, whose="sdpa")
                more = {"peer_ms": its["ms"]}
                note = f"SDPA {its['units']:.2f}"
            session.add(said, "training", "SDPA" if more else "", got["units"], "N·D·H floats",
                        ours_ms=got["ms"], note=note, **more)  # fmt: skip


def measure_tiled(session: Session) -> None:
    """Two programs on the portable backend."""
    for name in ("ALiBi", "soft cap"):
        for part in (FORWARD, TRAINING):
            with session.trying(f"{name}, N 1024", part):
                problem = Problem(name, session.sized(1024))
                session.compare(
                    problem, f"{name}, N 1024", part, {"tiled": problem.ours("tiled")}, {}
                )


GROUPS: dict[str, Callable[[Session], None]] = {
    "plain softmax, float32": measure_plain,
    "plain softmax, bfloat16": measure_bfloat16,
    "programs, N 2048": measure_programs,
    "causal window": measure_window,
    "additive scores": measure_additive,
    "decoding": measure_decoding,
    "warm calls": measure_calls,
    "building": measure_builds,
    "memory": measure_memory,
    "the tiled backend": measure_tiled,
}


# ── The command ───────────────────────────────────────────────────────────────────────────────
def panels(table: Table) -> dict[str, list[Row]]:
    """Return the rows of the picture: those that say how many times as fast we are."""
    fast = [
        row for row in table.rows if row.unit == FAST and row.figure and row.peer != "our float32"
    ]
    left, right = [], []
    for row in fast:
        if row.peer.startswith("SDPA"):
            kind = {"plain softmax, bfloat16": "bfloat16, ", "decoding": "decoding, "}.get(
                row.group, ""
            )
            left.append(replace(row, case=kind + row.case, peer="SDPA"))
        else:
            right.append(row)
    found = {"beside torch's SDPA": left, "programs beside what else can run them": right}
    return {name: rows for name, rows in found.items() if rows}


def finish(table: Table, options: argparse.Namespace, said: str) -> None:
    """Draw the picture and print the page's table, where asked for."""
    if options.plot and panels(table):
        about = table.about
        where = f"{about['cores']} cores of {about['cpu']} ({about['units']}), {about['date']}"
        title = f"Regard's cpu backend: {where}"
        draw_ratios(panels(table), title + said, options.plot)
    if options.markdown:
        print("\n" + table.markdown())


def read_options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, to try the script; writes no JSON unless told",
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help=f"groups with this word: {', '.join(GROUPS)}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the JSON file; cpu.json beside this script unless given",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the ratios; needs matplotlib"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of docs/cpu.md as well"
    )
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="measure nothing, read a JSON file"
    )
    return parser.parse_args()


def main() -> int:
    """Measure and report."""
    options = read_options()
    torch.set_num_threads(cores())
    if options.source:
        finish(Table.read(options.source), options, "")
        return 0
    session = Session(Table("cpu backend, B1 H8 D64 float32 N2048"), options.quick, options.only)
    session.table.start()
    begun, stopped = time.perf_counter(), False
    try:
        for session.group, measure in GROUPS.items():
            if session.only in session.group:
                measure(session)
    except KeyboardInterrupt:
        stopped = True
        print("\nstopped; what there is is written")
    seconds = time.perf_counter() - begun
    whole = not (options.quick or options.only)
    out = options.out or (Path(__file__).with_suffix(".json") if whole else None)
    if out and session.table.rows:
        session.table.write(out, complete=whole and not stopped, seconds=round(seconds))
    missed = sum(row.verdict == "not reached" for row in session.table.rows)
    held = sum(row.bar is not None for row in session.table.rows)
    print(f"\n{held - missed} of {held} bars reached, {session.failures} failures, {seconds:.0f} s")
    finish(
        session.table,
        options,
        "\nsizes of --quick: these figures mean nothing" if options.quick else "",
    )
    return 1 if session.failures else 0


if __name__ == "__main__":
    sys.exit(main())
