"""The contract of a backend: what the reference says, values and gradients, as exactly as eager.

A backend that is registered is tested by running `check_case` on all of `contract_cases`. Leaves
to others: the programs (`programs`), their inputs (`inputs`), the tolerance (`accuracy`), and what
must hold between calls (`laws`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import registered
from regard.backends.tiled.kernel import force_tile
from regard.backends.triton.machine import why_not_on
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ops.attend import attend
from regard.ops.observe import TopWeights
from regard.testing.accuracy import assert_as_good_as_eager, largest
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

# A fused backward takes δ = do · output where eager adds the very products it subtracts δ from, so
# where they cancel it errs more often; 6 times eager was the worst of 2000 cases.
GRADIENT_SLACK = 8.0
# Where all of a gradient cancels, as beside a single key, eager may be right by luck; what is left
# is the rounding of δ, at most 2 times that of the largest result in 2800 cases.
CANCELLED_SLACK = 4.0
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Backends that multiply halves by halves: weights and derived rows are rounded to them first.
MULTIPLIES_HALVES = ("triton",)
# What a backend never returns: kernels that hold no dense weights have none to show.
NOT_OBSERVED = {"cpu": ("weights",), "triton": ("weights",)}
SEED = 11
# A feature of keys that only what is observed reads: one of three classes.
CLASS = "class_of_key"


@dataclass(frozen=True)
class Setting:
    """The circumstances of a call.

    Attributes:
        sizes: Its lengths.
        tile: Query rows and key rows of a tile, where there are tiles; None: any.
        query_offset: As for `attend`, one per batch row as a tuple.
        query_lengths: As for `attend`.
        key_lengths: As for `attend`.
        left_padded: How many rows each batch row is padded on the left by, told by positions.
        first_head: As for `attend`.
        total_heads: As for `attend`.
        observe: Whether everything that can be observed is.
        rows_alone: Whether only q, k and v need a gradient.
    """

    sizes: Sizes
    tile: tuple[int, int] | None = None
    query_offset: int | tuple[int, ...] = 0
    query_lengths: tuple[int, ...] | None = None
    key_lengths: tuple[int, ...] | None = None
    left_padded: tuple[int, ...] | None = None
    first_head: int = 0
    total_heads: int = 0
    observe: bool = False
    rows_alone: bool = False

    def options(self) -> dict[str, Any]:
        """Return the options of `attend` for this setting."""
        found: dict[str, Any] = {"first_head": self.first_head, "total_heads": self.total_heads}
        for name in ("query_offset", "query_lengths", "key_lengths"):
            value = getattr(self, name)
            found[name] = torch.tensor(value) if isinstance(value, tuple) else value
        if self.left_padded is not None:
            shift = torch.tensor(self.left_padded)[:, None]
            del found["query_offset"]
            found["query_positions"] = torch.arange(self.sizes.N) - shift
            found["key_positions"] = torch.arange(self.sizes.M) - shift
        return found

    def forced(self) -> AbstractContextManager[None]:
        """Return the context in which tiles have this setting's size."""
        return nullcontext() if self.tile is None else force_tile(*self.tile)


_GROUPED = Sizes(B=2, H=4, G=2, D=8, E=6)
SETTINGS = {
    "one": Setting(Sizes(B=1, H=1, G=1, N=1, M=1, D=6, E=2)),
    "decoding": Setting(replace(_GROUPED, N=1, M=17), tile=(1, 5), query_offset=16),
    "one key": Setting(replace(_GROUPED, N=17, M=1, G=1), tile=(4, 4)),
    "whole": Setting(replace(_GROUPED, N=17, M=17, G=4)),
    "tall": Setting(
        replace(_GROUPED, N=63, M=17), (16, 8), query_lengths=(63, 40), key_lengths=(11, 17)
    ),
    "wide": Setting(Sizes(B=2, H=3, G=1, N=17, M=63, D=6, E=8), (5, 16), query_offset=46),
    "moved rows": Setting(
        replace(_GROUPED, N=63, M=63, D=6),
        (20, 20),
        query_offset=(5, 0),
        query_lengths=(60, 63),
        key_lengths=(63, 0),
    ),
    "large": Setting(Sizes(B=1, H=2, G=2, N=128, M=128, D=16, E=16), (64, 32)),
    "some heads": Setting(
        replace(_GROUPED, N=17, M=63), (9, 21), left_padded=(0, 6), first_head=2, total_heads=7
    ),
    "observed": Setting(
        replace(_GROUPED, N=17, M=63), (7, 16), query_lengths=(17, 9), observe=True
    ),
    "observed whole": Setting(replace(_GROUPED, N=17, M=17), query_offset=3, observe=True),
    "rows alone": Setting(replace(_GROUPED, N=17, M=17), (17, 8), rows_alone=True),
    "rows alone, ragged": Setting(
        replace(_GROUPED, N=17, M=63), (8, 16), key_lengths=(40, 63), rows_alone=True
    ),
}


@dataclass(frozen=True)
class Case:
    """One call that every backend must get right.

    Attributes:
        program: The name of a contract program.
        setting: The name of a setting.
        dtype: The dtype of q, k and v.
    """

    program: str
    setting: str
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.program} | {self.setting} | {str(self.dtype).removeprefix('torch.')}"


def contract_cases(backend: str) -> list[Case]:
    """Return the cases a backend is tested on: every program in every setting and dtype.

    Args:
        backend: Its name.

    Returns:
        The cases, those of one program and setting side by side, so that what they share is kept.
    """
    if backend not in registered():
        raise ValueError(f"no backend '{backend}' is registered")
    return [Case(p, s, d) for p in PROGRAMS for s in SETTINGS for d in DTYPES]


def sample(cases: list[Case]) -> list[Case]:
    """Return one case of every program, in which all settings and dtypes occur.

    Args:
        cases: From `contract_cases`.

    Returns:
        The part.
    """
    programs, settings = list(PROGRAMS), list(SETTINGS)

    def chosen(case: Case) -> bool:
        program, setting = programs.index(case.program), settings.index(case.setting)
        # Neighbouring programs are alike, so they meet in settings far apart.
        same = (5 * program + setting) % len(settings) == 0
        return same and (program + DTYPES.index(case.dtype)) % len(DTYPES) == 0

    return [case for case in cases if chosen(case)]


def check_case(backend: str, case: Case) -> str | None:
    """Fail unless a backend does what the reference does, in one case.

    Args:
        backend: Its name.
        case: The case.

    Returns:
        None, or the backend's reason for not supporting the case.

    Raises:
        AssertionError: If a value or a gradient is wrong; the message names it.
    """
    try:
        found = run_case(backend, case, case.dtype)
    except UnsupportedError as reason:
        return str(reason)
    # Inputs of a float64 call are exact in float32, so that eager can show what is lost there.
    narrow = case.dtype if torch.finfo(case.dtype).bits < 32 else torch.float32
    observe = observed(backend, case)
    exact = _exact(case.program, case.setting, narrow, observe)
    eager = _eager(case.program, case.setting, narrow, observe)
    scale = max(largest(value) for value in exact.values())
    assert found.keys() == exact.keys()
    for name, value in found.items():
        terms = _terms_of(case, name, value)
        what = f"{backend}: {case}: {name}"
        added, slack = scale * terms**0.5, 2.0
        if backend in MULTIPLIES_HALVES and torch.finfo(case.dtype).bits < 32:
            # What is added up was rounded to halves, and so are the sums that gradients subtract.
            added *= torch.finfo(case.dtype).eps / torch.finfo(torch.float32).eps
        if name.startswith("grad of "):
            added, slack = CANCELLED_SLACK * added, GRADIENT_SLACK
        assert_as_good_as_eager(value, eager[name], exact[name], slack, added, what)
    return None


def _terms_of(case: Case, name: str, value: Tensor) -> float:
    """Return how many pairs a learned number's gradient is a sum of; 1 for what belongs to a row.

    Sums of so many terms round like the root of their number.
    """
    leaves = {f"grad of {leaf.name}": leaf for leaf in PROGRAMS[case.program].inputs}
    if not isinstance(leaves.get(name), n.Array | n.Scalar):
        return 1.0
    s = SETTINGS[case.setting].sizes
    return max(1.0, s.B * s.H * s.N * s.M / value.numel())


@lru_cache(maxsize=256)
def _exact(
    program: str, setting: str, rounded: torch.dtype, observe: tuple[str, ...]
) -> dict[str, Tensor]:
    return run_case("reference", Case(program, setting, rounded), torch.float64, observe)


@lru_cache(maxsize=256)
def _eager(
    program: str, setting: str, dtype: torch.dtype, observe: tuple[str, ...]
) -> dict[str, Tensor]:
    return run_case("reference", Case(program, setting, dtype), dtype, observe)


def observed(backend: str, case: Case) -> tuple[str, ...]:
    """Return what is observed of a backend in a case.

    Args:
        backend: Its name.
        case: The case.

    Returns:
        Full names: everything, if the setting says so, that the backend can return.
    """
    if not SETTINGS[case.setting].observe:
        return ()
    without = NOT_OBSERVED.get(backend, ())
    return tuple(name for name in observable(PROGRAMS[case.program]) if name not in without)


def run_case(
    backend: str, case: Case, dtype: torch.dtype, observe: tuple[str, ...] | None = None
) -> dict[str, Tensor]:
    """Run one case forward and backward.

    Args:
        backend: The name of a backend.
        case: The case; its dtype says what the inputs are rounded to.
        dtype: What the inputs are converted to after that; float64 gives the exact result.
        observe: What is observed; that which the backend can return unless given.

    Returns:
        The values, and the gradients of a fixed random weighting of them.
    """
    program, setting = PROGRAMS[case.program], SETTINGS[case.setting]
    inputs = make_inputs(program.root, setting.sizes, case.dtype, SEED, setting.total_heads)
    if dtype == torch.float64:
        inputs = {k: x.double() if x.is_floating_point() else x for k, x in inputs.items()}
    observe = observed(backend, case) if observe is None else observe
    device, options = _device_of(backend), setting.options()
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    given = [name for name, value in options.items() if isinstance(value, Tensor)]
    options |= {name: options[name].to(device) for name in given}
    with setting.forced():
        found = run_both(program, inputs, observe, setting.rows_alone, backend=backend, **options)
    return {name: value.cpu() for name, value in found.items()}


def _device_of(backend: str) -> str:
    """Return where a backend's kernels run: a GPU's there, unless they are interpreted."""
    return "cuda" if backend == "triton" and why_not_on("cuda") is None else "cpu"


def run_both(
    program: AttentionProgram,
    inputs: dict[str, Tensor],
    observe: tuple[str, ...] = (),
    rows_alone: bool = False,
    seed: int | None = SEED,
    reduce: Callable[[str, Tensor], Tensor] | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Attend, and take the gradient of a fixed random weighting of the results.

    Args:
        program: The program.
        inputs: All its tensors by name, "q", "k" and "v" among them; they are left as they are.
        observe: What is observed as well.
        rows_alone: Whether only q, k and v get a gradient.
        seed: What random booleans are drawn from.
        reduce: Called with each value's name and tensor, to change it before the gradient is taken.
        **options: Further options of `attend`.

    Returns:
        The values by name, and the gradients as "grad of" a name; a tensor that nothing depends on
        has a gradient of zeros.
    """
    leaves = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    leaves |= classes_of_keys(inputs["k"], observe)
    for name, tensor in leaves.items():
        wanted = tensor.is_floating_point() and (not rows_alone or name in ("q", "k", "v"))
        tensor.requires_grad_(wanted)
    found = attend(program, **leaves, observe=observe, seed=seed, **options)  # type: ignore[arg-type]
    values = {"output": found[0]} if observe else {"output": found}
    for name, value in (found[1] if observe else {}).items():
        # Which of nearly equal weights come first is left to rounding.
        values[name] = value.weights if isinstance(value, TopWeights) else value
    if reduce is not None:
        values = {name: reduce(name, value) for name, value in values.items()}
    return {name: value.detach() for name, value in values.items()} | _gradients(values, leaves)


def classes_of_keys(keys: Tensor, observe: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the feature that `observable` names, if it is observed by.

    Args:
        keys: k, (B, G, M, D).
        observe: What is observed.

    Returns:
        The feature by name.
    """
    if not any(CLASS in name for name in observe):
        return {}
    drawn = torch.Generator().manual_seed(SEED)
    kinds = torch.randint(0, 3, (keys.shape[0], 1, keys.shape[2]), generator=drawn)
    return {CLASS: kinds.to(keys.device)}


def _gradients(values: dict[str, Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    rooted = [value for value in values.values() if value.requires_grad]
    learned = {name: tensor for name, tensor in leaves.items() if tensor.requires_grad}
    weights = [_weights_like(value) for value in rooted]
    received = torch.autograd.grad(rooted, list(learned.values()), weights, allow_unused=True)
    return {
        f"grad of {name}": torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(learned.items(), received, strict=True)
    }


def _weights_like(value: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randn(value.shape, generator=generator)
    # Exact in every dtype, so that all runs of a case weigh alike.
    return drawn.to(torch.bfloat16).to(value)


def observable(program: AttentionProgram) -> tuple[str, ...]:
    """Return everything that can be observed of a program, by full name.

    Args:
        program: The program.

    Returns:
        The names, as `attend` takes them.
    """
    names = []
    nodes = n.walk(program.root.weights)
    for node in nodes:
        if isinstance(node, n.Softmax):
            names += [f"{what}:{node.name}" for what in ("lse", "max", "entropy")]
            names += [f"sink:{node.name}"] if node.sink is not None else []
        if isinstance(node, n.Entmax):
            names.append(f"entropy:{node.name}")
    names += ["mass", f"mass:{CLASS}:3", "received", "top:3", "map:4x5", "weights"]
    # Where weights may cancel, a mean by weight has no bound.
    positive = not any(isinstance(node, n.Weigh | n.Ratio | n.Map) for node in nodes)
    subtracts = any(isinstance(node, n.Call) and node.op in ("sub", "neg") for node in nodes)
    return (*names, *(("distance", "variance") if positive and not subtracts else ()))
