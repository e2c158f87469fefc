"""explain(): how a program would run, and why not otherwise; and the code that would run.

Leaves to others: the choice itself (`plan`), writing code (the backends).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from regard.backends.base import Facts, Request, registered
from regard.backends.measured.budget import budget_seconds
from regard.backends.triton import TritonBackend
from regard.errors import InputError, nearest
from regard.ir.bound import Bound
from regard.ir.program import AttentionProgram
from regard.ops.explain_text import PlanSummary, explanation_text, summarise_plan
from regard.ops.gather import gather_keys
from regard.ops.imagine_call import ImaginedCall, imagine_call
from regard.ops.measure_machine import measure_machine
from regard.ops.plan import Plan, compiled, make_plan
from regard.ops.predict import Prices, known_prices
from regard.ops.route import known_times, measure_times, order_by
from regard.passes.count_work import Work

# For how long backends are measured against each other when a person asks and sets no limit.
_SECONDS = 60.0


@runtime_checkable
class WritesCode(Protocol):
    """A backend that writes code, and can show it."""

    def code(self, request: Request) -> str:
        """Return the code of a kind of call: the gradient's if gradients are wanted."""
        ...


@dataclass(frozen=True)
class Explanation:
    """How a call would run.

    Attributes:
        program: The program's name.
        backend: The backend that would run it.
        otherwise: Why each other backend is not used, by name.
        sizes: B, H, G, N, M, D, E.
        imagined: The inputs that were not given, which are taken to be zeros.
        gathered: How many keys remain where others, hidden from every query, are left out first.
        sweeps: What each sweep over the pairs gives, in the order of a call, if that is known.
        tile: Query rows and key rows of a tile, if the backend works in tiles.
        tile_heads: How many heads a tile holds, of all batch rows.
        shifted: For each term, whether its exponentials are shifted by the row's maximum.
        pair_numbers: Numbers held per pair-level value at once (by each thread of the cpu backend),
            and for all pairs: what a dense implementation holds.
        plan: The blocks of pairs that are visited; None if all are.
        work: What is counted of the call, and of its gradient if it is wanted: multiply-adds
            ("products"), functions in exponentials, other operations, bytes moved; None where
            nobody counts.
        predicted_ms: Milliseconds by backend that can run the call, where this machine has been
            measured.
        prices: What the prediction is made from, as text, by backend.
        routed_ms: Milliseconds of calls like this by backend, the fastest first, where they were
            measured on this GPU to choose the backend.
        measured_ms: Milliseconds of the call, if it was run.
        formula: The program as text.
    """

    program: str
    backend: str
    otherwise: dict[str, str]
    sizes: dict[str, int]
    imagined: tuple[str, ...]
    gathered: int | None
    sweeps: tuple[str, ...]
    tile: tuple[int, int] | None
    tile_heads: int
    shifted: dict[str, bool]
    pair_numbers: tuple[int, int]
    plan: PlanSummary | None
    work: dict[str, float] | None
    predicted_ms: dict[str, float]
    prices: dict[str, str]
    routed_ms: dict[str, float]
    measured_ms: float | None
    formula: str

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return explanation_text(self)


def explain(
    program: AttentionProgram,
    q: Tensor | Sequence[int],
    k: Tensor | Sequence[int] | None = None,
    v: Tensor | Sequence[int] | None = None,
    *,
    backend: str = "auto",
    training: bool = False,
    measure: bool = False,
    **options: Any,
) -> Explanation:
    """Say how `attend` would run a program: where, which blocks it visits, what it costs.

    Times are predicted where this machine has been measured (`measure_machine`).

    Args:
        program: The program.
        q: Queries, or their shape (B, H, N, D).
        k: Keys, or their shape; those of q unless given.
        v: Values, or their shape; those of k unless given.
        backend: As for `attend`.
        training: Whether the gradients of q, k, v and all parameters are wanted.
        measure: Whether to run the call and say how long it takes beside the prediction; measures
            the machine first if that was never done.
        **options: As for `attend`. Inputs that are not given are imagined: zeros, also to a mask.

    Returns:
        The explanation; it prints well.

    Raises:
        InputError: If something does not fit.
        UnsupportedError: If no backend, or not the named one, can run the program.
    """
    call = imagine_call(program, (q, k, v), training, options)
    asked, given = call.prepared(backend)
    kind, bound = gather_keys(asked, given)
    plan = make_plan(call.wanting(kind.request), backend)
    plan, times = _routed(plan, bound, call if measure else None)
    chosen, *others = plan.candidates
    facts, priced = _facts_and_prices(plan, bound)
    return Explanation(
        program=program.name,
        backend=chosen,
        otherwise=dict(plan.reasons) | {name: _behind(name, chosen, times) for name in others},
        sizes=asked.facts.sizes,
        imagined=tuple(sorted(call.imagined - set("qkv"))),
        gathered=bound.keys if bound.keys < given.keys else None,
        sweeps=facts.sweeps,
        tile=facts.tile,
        tile_heads=facts.tile_heads,
        shifted=facts.shifted,
        pair_numbers=_pair_numbers(facts, plan.request),
        plan=None if facts.plan is None else summarise_plan(facts.plan),
        work=None if facts.work is None else asdict(facts.work),
        predicted_ms={name: 1e3 * price.seconds(work) for name, (price, work) in priced.items()},
        prices={name: str(price) for name, (price, _) in priced.items()},
        routed_ms=times,
        measured_ms=call.measured_ms(chosen) if measure else None,
        formula=program.formula(),
    )


def _facts_and_prices(plan: Plan, bound: Bound) -> tuple[Facts, dict[str, tuple[Prices, Work]]]:
    """Return the facts of the backend that would run, and prices and work of all that could.

    Only of those whose prices and work are known; prices are those of the processor.
    """
    chosen, request = plan.candidates[0], plan.request
    names = plan.candidates if request.device == "cpu" else ()
    known = {name: price for name in names if (price := known_prices(name, request.dtype))}
    facts = {name: _facts(name, request, bound) for name in {**known, chosen: None}}
    priced = {name: (price, work) for name, price in known.items() if (work := facts[name].work)}
    return facts[chosen], priced


def _routed(
    plan: Plan, bound: Bound, measured: ImaginedCall | None
) -> tuple[Plan, dict[str, float]]:
    """Return the plan with the fastest backend first, and what those measured on a GPU took.

    The call is given if the machine and the backends are to be measured.
    """
    where = plan.request, plan.candidates, bound.q.device
    if measured is not None:
        if plan.request.device == "cpu":
            measure_machine(plan.candidates, plan.request.dtype)
        measure_times(*where, measured.runner, budget_seconds() or _SECONDS)
    times = known_times(*where)
    return replace(plan, candidates=order_by(times, plan.candidates)), times


def _behind(name: str, chosen: str, times: dict[str, float]) -> str:
    """Return why a backend that could run a call does not."""
    if name in times:
        fast, slow = times[chosen], times[name]
        return f"'{chosen}' was measured to be faster: {fast:.3g} ms, not {slow:.3g} ms"
    return f"'{chosen}' comes first"


def _facts(name: str, request: Request, bound: Bound) -> Facts:
    one, kernel = compiled(request, name)
    found = one.facts(kernel, bound)
    if found.tile is None:
        return found
    return replace(found, tile=(min(found.tile[0], bound.queries), min(found.tile[1], bound.keys)))


def _pair_numbers(facts: Facts, request: Request) -> tuple[int, int]:
    """Return how many numbers a pair-level value has at once, and for all pairs."""
    dense = request.batch * request.heads * request.queries * request.keys
    if facts.tile is None:
        return dense, dense
    return facts.tile[0] * facts.tile[1] * facts.tile_heads, dense


def emitted_code(
    program: AttentionProgram,
    q: Tensor | Sequence[int],
    k: Tensor | Sequence[int] | None = None,
    v: Tensor | Sequence[int] | None = None,
    *,
    backend: str,
    training: bool = False,
    **options: Any,
) -> str:
    """Return the code that a backend writes for a call, without building or running it.

    Args:
        program: The program.
        q: Queries, or their shape (B, H, N, D).
        k: Keys, or their shape; those of q unless given.
        v: Values, or their shape; those of k unless given.
        backend: The name of one that writes code.
        training: Whether the gradient's code is asked for, instead of the output's.
        **options: As for `attend`. Inputs that are not given are imagined.

    Returns:
        The code.

    Raises:
        InputError: If there is no such backend, or something does not fit.
        UnsupportedError: If the backend cannot run the program.
    """
    # One that cannot run here can still be read.
    known = {TritonBackend.name: TritonBackend(), **registered()}
    writers = {name: one for name, one in known.items() if isinstance(one, WritesCode)}
    if backend not in writers:
        raise InputError(f"no backend '{backend}' writes code; {nearest(backend, writers)}")
    call = imagine_call(program, (q, k, v), training, options)
    kind, _ = call.prepared("auto")
    return writers[backend].code(call.wanting(kind.request))
