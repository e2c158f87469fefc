"""The cpu backend beside torch's SDPA, compiled FlexAttention, eager PyTorch, the tiled backend.

A figure above 1 "× as fast" means that Regard is faster. Medians of interleaved rounds; B1 H8 D64
float32 N2048 unless a row says otherwise; training gives gradients of q, k, v and all parameters.

    python benchmarks/cpu.py                     about ten minutes; prints rows, writes cpu.json
    python benchmarks/cpu.py --only decoding     groups with this word in their title
    python benchmarks/cpu.py --from benchmarks/cpu.json --plot FILE --markdown
"""

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from _measure import (
    Bar,
    PeakMemory,
    Row,
    Table,
    cores,
    draw_ratios,
    interleaved_rounds,
    processor_flags,
)
from overhead import CALLS, SHAPE, many
from overhead import causal as small_causal
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

import regard as rg
from regard.backends.cpu import library
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.module import Layout
from regard.ir.program import AttentionProgram

FORWARD, TRAINING = "forward", "forward + backward"
FAST, TIME, RATE = "× as fast", "× its time", "× its rate"
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


# ── What is run ───────────────────────────────────────────────────────────────────────────────
def _scaled(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


@rg.program
def full(pair):
    """Scaled dot product."""
    return rg.softmax(_scaled(pair))


@rg.program
def causal(pair):
    """Scaled dot product that looks back."""
    return rg.softmax(_scaled(pair), where=pair.j <= pair.i)


@rg.program
def alibi(pair):
    """A causal bias by distance, learned per head."""
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    return rg.softmax(_scaled(pair) - slope * (pair.i - pair.j), where=pair.j <= pair.i)


@rg.program
def t5_bias(pair):
    """T5's learned table of 32 buckets of distance."""
    bias = rg.parameter("bias", per=("head", 32), init=rg.init.normal(1.0))
    distance = abs(pair.i - pair.j)
    steps = rg.log(rg.max(distance, 1) / 8) / math.log(128 / 8) * 8 + 1e-4
    bucket = rg.where(distance < 8, distance, rg.min(8 + rg.floor(steps), 15))
    return rg.softmax(_scaled(pair) + bias[bucket + rg.where(pair.j > pair.i, 16, 0)])


@rg.program
def documents(pair):
    """Causal within each document."""
    same = rg.query_feature("document_q") == rg.key_feature("document_k")
    return rg.softmax(_scaled(pair), where=same & (pair.j <= pair.i))


@rg.program
def sink(pair):
    """Causal, with a learned sink per head."""
    return rg.softmax(_scaled(pair), where=pair.j <= pair.i, sink=rg.parameter("sink", per="head"))


@rg.program
def soft_cap(pair):
    """Causal, with scores bent to stay between -50 and 50."""
    return rg.softmax(50 * rg.tanh(_scaled(pair) / 50), where=pair.j <= pair.i)


@rg.program
def window(pair):
    """Causal within 256."""
    return rg.softmax(_scaled(pair), where=(pair.j <= pair.i) & (pair.i - pair.j < 256))


@rg.program
def additive(pair):
    """Additive attention."""
    units = rg.parameter("units", per=("head", "channel"), init=rg.init.normal(1.0))
    return rg.softmax(rg.sum(units * rg.tanh(pair.q + pair.k)))


@dataclass
class Case:
    """A program with what others need to compute the same.

    Attributes:
        program: The program.
        learned: Parameters, each (H, …).
        given: Other inputs of the program.
        mask: 0 where seen and -inf elsewhere, (N, M), or None if all is seen.
        dense: Gives the scores q·k/√D a bias, from them and the parameters; dense, for eager use.
        flex: The same as FlexAttention's score_mod.
        seen: The mask as a condition on i and j, for FlexAttention; True if there is none.
    """

    program: AttentionProgram
    learned: dict[str, Tensor] = field(default_factory=dict)
    given: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    dense: Callable[..., Tensor] | None = None
    flex: Callable[..., Tensor] | None = None
    seen: Callable[..., Any] | None = None

    def pairs(self, rows: int) -> int:
        """Return how many pairs a head sees."""
        return rows * rows if self.mask is None else int((self.mask == 0).sum())


def looking_back(rows: int) -> Tensor:
    """Return the causal mask."""
    return torch.full((rows, rows), -torch.inf).triu(1)


def _back(i, j):
    return j <= i


def _places(rows: int) -> tuple[Tensor, Tensor]:
    return torch.arange(rows)[:, None], torch.arange(rows)[None]


def full_case(rows: int, heads: int) -> Case:
    """Return plain attention."""
    return Case(full)


def causal_case(rows: int, heads: int) -> Case:
    """Return plain attention that looks back."""
    return Case(causal, mask=looking_back(rows), seen=_back)


def alibi_case(rows: int, heads: int) -> Case:
    """Return ALiBi."""
    slope = torch.tensor([2.0 ** -(8 * (h + 1) / heads) for h in range(heads)])
    i, j = _places(rows)
    distance = (i - j).float()
    return Case(
        alibi, {"slope": slope}, mask=looking_back(rows), seen=_back,
        dense=lambda s, x: s - x["slope"][:, None, None] * distance.to(s.dtype),
        flex=lambda s, b, h, i, j: s - slope[h] * (i - j),
    )  # fmt: skip


def t5_case(rows: int, heads: int) -> Case:
    """Return T5's bias."""
    bias = torch.randn(heads, 32)
    step = torch.arange(1 - rows, rows)  # i - j
    steps = (step.abs().clamp(min=1) / 8).log() / math.log(128 / 8) * 8 + 1e-4
    far = (8 + steps.floor()).clamp(max=15).long()
    bucket = torch.where(step.abs() < 8, step.abs(), far) + torch.where(step < 0, 16, 0)
    i, j = _places(rows)
    # Beforehand for both peers: the bucket of each pair, and the bias of each difference.
    buckets, by_step = bucket[i - j + rows - 1], bias[:, bucket].contiguous()
    return Case(
        t5_bias, {"bias": bias},
        dense=lambda s, x: s + embedding(buckets, x["bias"].mT.contiguous()).permute(2, 0, 1),
        flex=lambda s, b, h, i, j: s + by_step[h, i - j + rows - 1],
    )  # fmt: skip


def document_starts(rows: int) -> list[int]:
    """Return where documents of uneven lengths start, and the end."""
    return [0, *(rows * part // 20 for part in (3, 4, 9, 15)), rows]


def documents_case(rows: int, heads: int) -> Case:
    """Return causal documents."""
    ids = torch.zeros(rows, dtype=torch.int64)
    for start in document_starts(rows)[1:-1]:
        ids[start:] += 1
    given = {"document_q": ids, "document_k": ids}
    mask = looking_back(rows).masked_fill(ids[:, None] != ids, -torch.inf)
    return Case(documents, given=given, mask=mask, seen=lambda i, j: (ids[i] == ids[j]) & (j <= i))


def sink_case(rows: int, heads: int) -> Case:
    """Return a learned sink."""
    return Case(sink, {"sink": torch.randn(heads)}, mask=looking_back(rows))


def soft_cap_case(rows: int, heads: int) -> Case:
    """Return capped scores."""
    return Case(
        soft_cap, mask=looking_back(rows), seen=_back,
        dense=lambda s, x: 50 * torch.tanh(s / 50),
        flex=lambda s, b, h, i, j: 50 * torch.tanh(s / 50),
    )  # fmt: skip


def additive_case(rows: int, heads: int) -> Case:
    """Return additive attention of 64 hidden units; its scores are no products."""
    return Case(additive, {"units": torch.randn(heads, 64) / 8})


CASES = {
    "full": full_case, "causal": causal_case, "ALiBi": alibi_case, "T5 bias": t5_case,
    "documents": documents_case, "sink": sink_case, "soft cap": soft_cap_case,
    "additive": additive_case,
}  # fmt: skip


class Problem:
    """A case with tensors, and every way to compute it.

    Args:
        name: Of the case.
        rows: N and M.
        heads: H.
        width: D.
        dtype: Of q, k and v.
    """

    def __init__(
        self,
        name: str,
        rows: int,
        heads: int = 8,
        width: int = 64,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.manual_seed(0)
        self.case = CASES[name](rows, heads)
        self.rows = [torch.randn(1, heads, rows, width, dtype=dtype) for _ in "qkv"]
        self.grad = torch.randn_like(self.rows[0])
        self.leaves = [x.requires_grad_() for x in [*self.rows, *self.case.learned.values()]]
        self.flops = 4 * self.case.pairs(rows) * width * heads

    def named(self, leaves: list[Tensor]) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return dict(zip(self.case.learned, leaves[3:], strict=True))

    def ours(self, backend: str = "cpu") -> Callable[[], Tensor]:
        """Return our forward."""
        named = {**self.case.given, **self.named(self.leaves)}
        return partial(rg.attend, self.case.program, *self.rows, backend=backend, **named)

    def sdpa(self) -> Callable[[], Tensor]:
        """Return torch's fused attention."""
        looks_back = self.case.mask is not None
        return partial(scaled_dot_product_attention, *self.rows, is_causal=looks_back)

    def eager(self) -> Callable[[], Tensor]:
        """Return attention with dense weights."""
        return partial(self.dense, self.leaves, self.case.mask)

    def dense(self, leaves: list[Tensor], mask: Tensor | None) -> Tensor:
        """Return attention with dense weights, in the dtype of what is given."""
        q, k, v = leaves[:3]
        learned = self.named(leaves)
        if "units" in learned:
            score = (
                torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)) * learned["units"][:, None, None]
            ).sum(-1)
        else:
            score = q @ k.mT / math.sqrt(q.shape[-1])
        score = score if self.case.dense is None else self.case.dense(score, learned)
        score = score if mask is None else score + mask.to(score.dtype)
        if "sink" in learned:
            last = learned["sink"].view(1, -1, 1, 1).expand(*score.shape[:3], 1)
            return torch.softmax(torch.cat([score, last], -1), -1)[..., :-1] @ v
        return torch.softmax(score, -1) @ v

    def flex(self) -> Callable[[], Tensor]:
        """Return compiled FlexAttention, with a block mask where something is hidden."""
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        torch._dynamo.reset()
        seen, size, blocks = self.case.seen, self.rows[0].shape[2], None
        if seen is not None:
            made = lambda b, h, i, j: seen(i, j)  # noqa: E731
            blocks = create_block_mask(made, None, None, size, size, device="cpu")
        run = torch.compile(flex_attention, dynamic=False)
        # It refuses rows that require gradients, even where none are recorded.
        rows = [x.detach() for x in self.rows]
        return partial(run, *rows, score_mod=self.case.flex, block_mask=blocks)

    @cached_property
    def exact(self) -> tuple[int, list[Tensor]]:
        """How many heads are computed exactly, and their output and gradients, in float64."""
        heads = self.rows[0].shape[1] if self.rows[0].shape[2] <= 2048 else 1
        found: list[list[Tensor]] = []
        for h in range(heads):
            own = [x[:, h : h + 1] for x in self.rows] + [x[h : h + 1] for x in self.leaves[3:]]
            leaves = [x.detach().double().requires_grad_() for x in own]
            output = self.dense(leaves, self.case.mask)
            grads = torch.autograd.grad(output, leaves, self.grad[:, h : h + 1].double())
            found.append([output.detach(), *grads])
        whole = zip(*found, strict=True)
        return heads, [torch.cat(parts, int(k < 4)) for k, parts in enumerate(whole)]

    def error(self, found: Tensor | tuple[Tensor, ...]) -> float:
        """Return the largest error of an output or of gradients, by the largest number there."""
        heads, exact = self.exact
        pairs = (
            zip(found, exact[1:], strict=True) if isinstance(found, tuple) else [(found, exact[0])]
        )
        worst = 0.0
        for k, (one, true) in enumerate(pairs):
            own = one[:, :heads] if k < 3 else one[:heads]
            worst = max(worst, float((own.detach().double() - true).abs().max() / true.abs().max()))
        return worst

    def run(self, forward: Callable[[], Tensor], part: str) -> Callable[[], Any]:
        """Return a function without arguments that runs forward, or forward and backward."""
        if part == TRAINING:
            return lambda: torch.autograd.grad(forward(), self.leaves, self.grad)
        return torch.no_grad()(forward)


# ── How it is run ─────────────────────────────────────────────────────────────────────────────
@dataclass
class Session:
    """A run of this script.

    Attributes:
        table: Where rows go.
        quick: Whether sizes are small, so that only the script is tried.
        only: A word in the titles of the groups that are run.
        group: The title of the present group.
    """

    table: Table
    quick: bool = False
    only: str = ""
    group: str = ""
    failures: int = 0

    def sized(self, rows: int) -> int:
        """Return a number of rows, or few when all must be quick."""
        return rows // 32 if self.quick else rows

    def times(
        self, contenders: dict[str, Callable[[], object]], warm: bool = False
    ) -> dict[str, list[float]]:
        """Time contenders for about four seconds, at least three rounds."""
        rounds, least = (1, 1) if self.quick else (25, 3)
        return interleaved_rounds(contenders, rounds, 0 if warm else 1, 4.0, least)

    @contextmanager
    def trying(self, case: str, part: str = "") -> Iterator[None]:
        """Note a failure as a row, and go on: the other figures are wanted all the same."""
        try:
            yield
        except Exception as problem:
            self.failures += 1
            said = f"{type(problem).__name__}: {problem}".splitlines()[0][:160]
            self.table.add(Row(self.group, case, part, "", None, "", note=said))

    def add(self, case: str, part: str, peer: str, figure: float, unit: str, **more: Any) -> None:
        """Add a row."""
        self.table.add(Row(self.group, case, part, peer, figure, unit, **more))

    def compare(
        self, problem: Problem, case: str, part: str, peers: dict[str, Callable[[], Tensor]],
        bars: dict[str, Bar | None], ours: Callable[[], Tensor] | None = None,
    ) -> dict[str, list[float]]:  # fmt: skip
        """Time us and peers that compute the same, with a row for each peer.

        Args:
            problem: What is computed.
            case: For people.
            part: FORWARD or TRAINING.
            peers: The forwards of the others, by name.
            bars: What we must reach beside each.
            ours: Our forward, if not the problem's.

        Returns:
            The times of all, round by round; ours by the name "ours".
        """
        forwards = {"ours": ours or problem.ours(), **peers}
        contenders = {name: problem.run(run, part) for name, run in forwards.items()}
        errors = {name: problem.error(run()) for name, run in contenders.items()}
        # Each has run once for its error.
        times = self.times(contenders, warm=True)
        flops = problem.flops * (3.5 if part == TRAINING else 1.0)
        for peer in peers:
            self.add_ratio(
                times, case, part, peer, FAST, bar=bars.get(peer), error=errors["ours"],
                peer_error=errors[peer],
                gflops=flops / statistics.median(times["ours"]) / 1e6,
            )  # fmt: skip
        return times

    def add_ratio(
        self, times: dict[str, list[float]], case: str, part: str, peer: str, unit: str,
        share: float = 1.0, **more: Any,
    ) -> None:  # fmt: skip
        """Add a row for two contenders' times; `share` is what a ratio is multiplied by."""
        above, below = (
            (times["ours"], times[peer]) if unit == TIME else (times[peer], times["ours"])
        )
        figure = share * statistics.median(above) / statistics.median(below)
        by_round = [share * a / b for a, b in zip(above, below, strict=True)]
        if len(by_round) > 1:
            low, _, high = statistics.quantiles(by_round, n=4)
            more["quartiles"] = (low, high)
        ours, its = statistics.median(times["ours"]), statistics.median(times[peer])
        self.add(case, part, peer, figure, unit, ours_ms=ours, peer_ms=its, **more)


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
    whole = partial(rg.attend, small_causal, *learned, backend="cpu")
    calls: dict[str, tuple[Callable[[], object], Bar | None]] = {
        "no gradients": (partial(rg.attend, small_causal, *rows, backend="cpu"), BARS["call"]),
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


# ── Processes of their own ────────────────────────────────────────────────────────────────────
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
    command = [sys.executable, __file__, "--child", json.dumps({"kind": kind, **rest})]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
        )
    return json.loads(done.stdout.splitlines()[-1])


def build_in_child(training: bool) -> dict[str, float]:
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


def memory_in_child(name: str, rows: int, heads: int, whose: str) -> dict[str, float]:
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
    with PeakMemory() as memory:
        start = time.perf_counter()
        kept = runs[1]()
        spent = time.perf_counter() - start
    assert kept is not None
    return {"units": memory.grown_bytes / (4 * rows * heads * 64), "ms": spent * 1e3}


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
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure and report."""
    options = read_options()
    torch.set_num_threads(cores())
    if options.child:
        asked = json.loads(options.child)
        run = {"build": build_in_child, "memory": memory_in_child}[asked.pop("kind")]
        print(json.dumps(run(**asked)))
        return 0
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
