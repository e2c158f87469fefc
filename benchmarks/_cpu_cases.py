"""The programs that the cpu benchmark measures, their inputs, and every way to compute them.

Leaves to others: timing them (`_cpu_session`), and which are timed beside whom (`cpu`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

import regard as rg
from regard.ir.program import AttentionProgram
from regard.testing.programs import additive, causal, documents
from regard.testing.programs import scaled_dot_product as full

FORWARD, TRAINING = "forward", "forward + backward"


def _scaled(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


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
    given = {"document": ids, "source": ids}
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
    return Case(additive, {"direction": torch.randn(heads, 64) / 8})


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
        if "direction" in learned:
            direction = learned["direction"][:, None, None]
            score = (torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)) * direction).sum(-1)
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
