"""A call of which perhaps only shapes are given: what is missing is imagined.

Leaves to others: what is said of it (`explain`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Request
from regard.backends.measured.timer import time_on
from regard.errors import InputError, UnsupportedError, nearest
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.program import AttentionProgram
from regard.ops.bind import Options
from regard.ops.check import named_inputs
from regard.ops.kind import Kind
from regard.ops.measure_machine import prepare_call, time_calls
from regard.ops.parameters import array_shapes, row_widths
from regard.ops.prepare import check_options, prepare
from regard.passes.find_uses import find_uses

# For how long a call is run again and again to be timed.
_SECONDS = 2.0


@dataclass(frozen=True)
class ImaginedCall:
    """A call.

    Attributes:
        program: The program.
        rows: q, k and v, perhaps of nothing but a shape.
        named: The program's inputs by name.
        rest: The other options of `attend`.
        training: Whether gradients are wanted.
        imagined: Which of q, k and v are of nothing but a shape, and which inputs nobody gave.
    """

    program: AttentionProgram
    rows: tuple[Tensor, Tensor, Tensor]
    named: dict[str, Any]
    rest: dict[str, Any]
    training: bool
    imagined: frozenset[str]

    def prepared(self, backend: str) -> tuple[Kind, Bound]:
        """Return the call's kind and the bound call.

        Args:
            backend: As for `attend`.

        Returns:
            What `prepare` returns; the kind wants what the tensors that were given want.

        Raises:
            InputError: If something does not fit.
        """
        options = Options(**{**self.rest, "backend": backend})
        return prepare(self.program, *self.rows, dict(self.named), options)

    def wanting(self, request: Request) -> Request:
        """Return what is asked of a backend, with the gradients of all that may learn.

        Args:
            request: What the tensors alone ask for.

        Returns:
            The same unless gradients are wanted.
        """
        if not self.training:
            return request
        learned = {leaf.name for leaf in self.program.parameters}
        return replace(request, wanted=request.wanted | {"q", "k", "v"} | learned)

    def measured_ms(self, backend: str) -> float:
        """Run the call and return how long it takes.

        Args:
            backend: The backend's name.

        Returns:
            The median, in milliseconds; with its gradient if it is wanted.

        Raises:
            UnsupportedError: If memory runs out.
        """
        try:
            # Also where somebody evaluates a model without gradients.
            with torch.inference_mode(False), torch.enable_grad():
                if self.rows[0].device.type == "cuda":
                    return _on_device_ms(self.rows[0].device, self.runner(backend))
                return 1e3 * time_calls([self.runner(backend)], _SECONDS)[0]
        except (RuntimeError, MemoryError) as problem:
            if isinstance(problem, RuntimeError) and "alloc" not in str(problem):
                raise
            raise UnsupportedError(
                f"the call needs more memory than there is on backend '{backend}'; "
                "measure fewer rows"
            ) from None

    def runner(self, backend: str) -> Callable[[], None]:
        """Return what runs the call, with its gradient if it is wanted.

        Args:
            backend: The backend's name.

        Returns:
            A function of nothing.
        """
        _, bound = self.prepared(backend)
        q, k, v = (
            random_rows(rows) if name in self.imagined else rows
            for name, rows in zip("qkv", self.rows, strict=True)
        )
        named = dict(self.named)
        if self.training:
            q, k, v = (rows.detach().requires_grad_() for rows in (q, k, v))
            for leaf in self.program.parameters:
                named[leaf.name] = bound.tensors[leaf.name].detach().clone().requires_grad_()
        rest = {name: value for name, value in self.rest.items() if name != "backend"}
        return prepare_call(self.program, q, k, v, backend, **named, **rest)


def imagine_call(
    program: AttentionProgram, rows: tuple[Any, Any, Any], training: bool, options: dict[str, Any]
) -> ImaginedCall:
    """Return a call, imagining what has no default and was not given.

    Args:
        program: The program.
        rows: q, k and v: tensors, or shapes, or None for k like q and v like k.
        training: Whether gradients are wanted.
        options: As for `attend`: the program's inputs and the other options.

    Returns:
        The call.

    Raises:
        InputError: If q, k or v is neither a tensor nor a shape, or an input does not fit.
    """
    rest = {name: value for name, value in options.items() if name in Options._fields}
    check_options(program, Options(**rest))
    inputs = named_inputs(program.root)
    named = {name: value for name, value in options.items() if name not in rest}
    for name in named:
        if name not in inputs:
            said = nearest(name, [*inputs, *Options._fields])
            raise InputError(f"the program reads no '{name}'; {said}")
    like = next((value for value in rows if isinstance(value, Tensor)), torch.empty(0))
    tensors: dict[str, Tensor] = {}
    for name, value, other in zip("qkv", rows, (None, "q", "k"), strict=True):
        same = tensors[other] if value is None and other else None
        tensors[name] = _imagine(name, value, like) if same is None else same
    made = _imagined(program, tensors, named, rest.get("total_heads", 0))
    imagined = [
        name for name, value in zip("qkv", rows, strict=True) if not isinstance(value, Tensor)
    ]
    imagined += [name for name in made if name not in named]
    q, k, v = tensors.values()
    named = {**made, **named}
    return ImaginedCall(program, (q, k, v), named, rest, training, frozenset(imagined))


def _on_device_ms(device: torch.device, run: Callable[[], None]) -> float:
    """Return how long a call takes on a device that nobody waits for."""
    # What fails is to be seen, and none of it is timed.
    run()
    taken = time_on(device, run)
    assert taken is not None
    return taken


def random_rows(like: Tensor) -> Tensor:
    """Return rows of normal numbers, the same in every run.

    Args:
        like: Rows of the same shape and dtype.

    Returns:
        The rows.
    """
    made = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    return made.to(like)


def _imagine(name: str, value: Any, like: Tensor) -> Tensor:
    """Return a tensor that was given, or one of a shape that was; its numbers are all one."""
    if isinstance(value, Tensor):
        found = value
    else:
        try:
            found = like.new_zeros(()).expand(tuple(value))
        except (TypeError, RuntimeError):
            found = None
    if found is None or found.dim() != len("bhnd"):
        told = tuple(value.shape) if isinstance(value, Tensor) else value
        raise InputError(
            f"{name} must be a tensor or a shape such as (2, 8, 128, 64), not {told!r}"
        )
    return found


def _wide(program: AttentionProgram) -> list[str]:
    """Return the names of the inputs whose last axis is channels."""
    return [
        leaf.name
        for leaf in program.inputs
        if isinstance(leaf, n.Vector)
        or (isinstance(leaf, n.Array) and leaf.per[-1:] == ("channel",))
    ]


def _imagined(
    program: AttentionProgram, tensors: dict[str, Tensor], given: dict[str, Any], heads: int
) -> dict[str, Tensor]:
    """Return stand-ins for the inputs that have no default, of the kind the program needs."""
    conditions, indices = find_uses(program.root)
    q, k = tensors["q"], tensors["k"]
    rows = {**tensors, **{name: x for name, x in given.items() if isinstance(x, Tensor)}}
    known = {name: rows[name].shape[-1] for name in {*_wide(program), "q", "k", "v"} & set(rows)}
    widths = row_widths(program.root, known, q.shape[3])
    shapes = array_shapes(program.root, heads or q.shape[1], widths)
    # In a call, a parameter that is given decides nothing of the others.
    learned = {leaf.name for leaf in program.parameters}
    told = {name: width for name, width in known.items() if name not in learned}
    decided = array_shapes(program.root, heads or q.shape[1], told)
    made: dict[str, Tensor] = {}
    for leaf in program.inputs:
        dtype = torch.int64 if leaf in indices else torch.float32
        dtype = torch.bool if leaf in conditions else dtype
        match leaf:
            case n.Feature():
                made[leaf.name] = torch.zeros((1, 1, 1), dtype=dtype, device=q.device)
            case n.PairInput():
                one = torch.zeros((1, 1, 1, 1), dtype=dtype, device=q.device)
                made[leaf.name] = one.expand(1, 1, q.shape[2], k.shape[2])
            case n.Vector() if leaf.name not in ("q", "k", "v"):
                like = q if leaf.side == "query" else k
                made[leaf.name] = like.new_zeros((*like.shape[:3], widths[leaf.name]))
            case n.Scalar() if leaf.default is None:
                made[leaf.name] = torch.zeros(())
            case n.Array() if leaf.source == "table" or None in decided[leaf.name]:
                shape = [size or 1 for size in shapes[leaf.name]]
                made[leaf.name] = torch.zeros(shape, dtype=dtype, device=q.device)
    return made
