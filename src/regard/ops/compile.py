"""attend() inside a function that torch.compile or torch.export traces: one opaque operator.

The graph holds the call's tensors and numbers, and a key by which the operator finds the rest. It
keeps nothing for backward and runs forward again there, because what a backend keeps has no shape
that a trace could know. Leaves to others: the call itself, which is an ordinary one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.errors import UnsupportedError
from regard.ir.program import AttentionProgram
from regard.ir.verify import CALL_OPTIONS
from regard.ops.bind import Options, as_tensor
from regard.ops.check import Signature, check, check_names
from regard.ops.observe import Observation, finish, observations, packed, value_count
from regard.ops.prepare import prepare
from regard.ops.run import run


@dataclass(frozen=True)
class Traced:
    """A call without its tensors and numbers: what a key stands for.

    Attributes:
        program: The program.
        tensors: The names of q, k, v, the named inputs and the options that are tensors.
        numbers: The names of the options that are whole numbers.
        observe: What is observed.
        backend: As given to `attend`.
    """

    program: AttentionProgram
    tensors: tuple[str, ...]
    numbers: tuple[str, ...]
    observe: tuple[str, ...]
    backend: str

    @property
    def observed(self) -> dict[str, Observation]:
        """What is observed, by the names given."""
        return observations(self.program.root, self.observe)

    def run(self, tensors: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """Run the call.

        Args:
            tensors: In the order of the names.
            numbers: In the order of the names.

        Returns:
            The output, then the tensors of what is observed, in order.
        """
        given: dict[str, Any] = dict(zip(self.tensors, tensors, strict=True))
        rest: dict[str, Any] = dict(zip(self.numbers, numbers, strict=True))
        rest |= {name: given.pop(name) for name in self.tensors if name in CALL_OPTIONS}
        q, k, v = (given.pop(name) for name in "qkv")
        options = Options(observe=self.observe, backend=self.backend, **rest)
        kind, bound = prepare(self.program, q, k, v, given, options)
        found = run(kind, bound)
        seen = finish(kind.observed, found, bound)
        return [found["output"], *(value for values in seen.values() for value in values)]

    def imagine(self, tensors: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
        """Check the call and return outputs that have only shapes.

        Args:
            tensors: In the order of the names.
            numbers: In the order of the names.

        Returns:
            As `run`.

        Raises:
            InputError: If a tensor does not fit the program.
        """
        root, q = self.program.root, tensors[0]
        given = {
            name: tensor
            for name, tensor in zip(self.tensors, tensors, strict=True)
            if name not in CALL_OPTIONS
        }
        check_names(root, self.observe, tuple(given)[3:], CALL_OPTIONS)
        described = tuple((name, x.shape, x.dtype, x.device, False) for name, x in given.items())
        heads = (numbers[self.numbers.index(name)] for name in ("first_head", "total_heads"))
        # What else a signature says decides no shape.
        rest = (self.observe, self.backend, False, False, False)
        facts = check(Signature(root, described, next(heads), next(heads), *rest))
        rows, computed = q.shape[:3], torch.promote_types(q.dtype, torch.float32)
        made = [q.new_empty((*rows, facts.output_width))]
        sizes = (q.shape[0], q.shape[1], q.shape[2], tensors[1].shape[2])
        for name, one in self.observed.items():
            shape = one.shape(*sizes)
            made.append(q.new_empty(shape, dtype=computed))
            if value_count(name) > 1:
                made.append(q.new_empty(shape, dtype=torch.int64))
        return made


# Programs are few and small, and a compiled graph may come back to its own at any time.
_traced: dict[str, Traced] = {}


@torch.compiler.assume_constant_result
def _remember(*fields: Any) -> str:
    """Return the key of a `Traced` with these fields, the same in every process."""
    traced = Traced(*fields)
    lists = (traced.tensors, traced.numbers, traced.observe)
    key = " | ".join([traced.program.hash, *map(",".join, lists), traced.backend])
    _traced[key] = traced
    return key


def _recall(key: str) -> Traced:
    if key not in _traced:
        raise UnsupportedError(
            "this graph of rg.attend was traced in another process; trace it again in this one"
        )
    return _traced[key]


def attend_in_trace(
    program: AttentionProgram,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    named_inputs: dict[str, Any],
    options: Options,
) -> Any:
    """Write a call of `attend` into the graph that is being traced.

    Args:
        program: The program.
        q: Queries.
        k: Keys.
        v: Values.
        named_inputs: The program's inputs by name.
        options: The other options of `attend`.

    Returns:
        As `attend`.
    """
    tensors = {
        name: as_tensor(name, value, q)
        for name, value in {"q": q, "k": k, "v": v, **named_inputs}.items()
    }
    *_, observe, backend, _ = options
    numbers = {}
    for name, value in options._asdict().items():
        if isinstance(value, int):
            numbers[name] = value
        elif value is not None and name not in ("observe", "backend"):
            tensors[name] = torch.as_tensor(value)
    key = _remember(program, tuple(tensors), tuple(numbers), tuple(observe), backend)
    found = torch.ops.regard.attend(list(tensors.values()), list(numbers.values()), key)
    if not observe:
        return found[0]
    seen, at = {}, 1
    for name in observe:
        count = value_count(name)
        seen[name] = packed(tuple(found[at : at + count]))
        at += count
    return found[0], seen


@torch.library.custom_op("regard::attend", mutates_args=())
def _attend(tensors: Sequence[Tensor], numbers: Sequence[int], key: str) -> list[Tensor]:
    return _apart(_recall(key).run(tensors, numbers), tensors)


@_attend.register_fake
def _(tensors: Sequence[Tensor], numbers: Sequence[int], key: str) -> list[Tensor]:
    return _recall(key).imagine(tensors, numbers)


@torch.library.custom_op("regard::attend_backward", mutates_args=())
def _attend_backward(
    grads: Sequence[Tensor],
    tensors: Sequence[Tensor],
    numbers: Sequence[int],
    key: str,
    wanted: Sequence[int],
) -> list[Tensor]:
    with _recorded():
        inputs = [tensor.detach() for tensor in tensors]
        leaves = [inputs[place].requires_grad_() for place in wanted]
        pairs = zip(_recall(key).run(inputs, numbers), grads, strict=True)
        outputs, received = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
        found = torch.autograd.grad(
            outputs, leaves, received, allow_unused=True, materialize_grads=True
        )
    return _apart(found, [*grads, *tensors])


@_attend_backward.register_fake
def _(
    grads: Sequence[Tensor],
    tensors: Sequence[Tensor],
    numbers: Sequence[int],
    key: str,
    wanted: Sequence[int],
) -> list[Tensor]:
    return [torch.empty_like(tensors[p], memory_format=torch.contiguous_format) for p in wanted]


@contextmanager
def _recorded() -> Iterator[None]:
    """Let autograd record inside an operator, where torch keeps it out."""
    autograd = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(autograd, False), torch.enable_grad():
        yield


def _apart(found: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors as an operator must: contiguous, none sharing memory with another."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in others}
    made = []
    for tensor in found:
        one = tensor.detach().contiguous()
        if one.untyped_storage().data_ptr() in taken:
            one = one.clone()
        taken.add(one.untyped_storage().data_ptr())
        made.append(one)
    return made


def _keep(ctx: Any, inputs: tuple[list[Tensor], list[int], str], output: list[Tensor]) -> None:
    tensors, ctx.numbers, ctx.key = inputs
    ctx.save_for_backward(*tensors)
    fixed = [value for value in output if not value.is_floating_point()]
    rest = iter(output[1:])
    for name in _recall(ctx.key).observe:
        values = [next(rest) for _ in range(value_count(name))]
        fixed += values if name.partition(":")[0] == "max" else []
    ctx.mark_non_differentiable(*fixed)


def _differentiate(ctx: Any, grads: list[Tensor]) -> tuple[list[Tensor | None], None, None]:
    needed = ctx.needs_input_grad[0]
    wanted = [place for place, asked in enumerate(needed) if asked]
    found = iter(_attend_backward(grads, list(ctx.saved_tensors), ctx.numbers, ctx.key, wanted))
    return [next(found) if asked else None for asked in needed], None, None


_attend.register_autograd(_differentiate, setup_context=_keep)
