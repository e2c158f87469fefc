"""What is decided once for all calls that differ in their numbers alone.

A second call of a kind finds all of it with one look into a dictionary. Leaves to others: what is
decided (`check`, `plan`, the backends), the numbers (`bind`).
"""

from functools import cached_property, lru_cache
from typing import Any

from regard.backends.base import Backend, Request
from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.observed import parse
from regard.ir.verify import CALL_OPTIONS
from regard.ops.check import Signature, check, check_names
from regard.ops.observe import observations, raw_names
from regard.ops.plan import Plan, compiled, make_plan
from regard.passes.find_key_condition import find_key_condition

# A look at which keys are hidden takes 0.2 ms, 1 % of so many pairs. With fewer query heads and
# rows for each key, moving it costs as much as computing with it (measured on one AVX2 core).
_FEWEST_PAIRS, _FEWEST_ROWS = 1 << 22, 64


class Kind:
    """One kind of call. It keeps descriptions of tensors, never a tensor.

    Args:
        signature: The call without its numbers.

    Raises:
        InputError: If a tensor does not fit the program.
    """

    def __init__(self, signature: Signature) -> None:
        named = tuple(name for name, *_ in signature.tensors[3:])
        check_names(signature.root, signature.observe, named, CALL_OPTIONS)
        _check_devices(signature)
        self.signature = signature
        self.facts = check(signature)
        self.observed = observations(signature.root, signature.observe)
        self.has_run = False
        # The backends as they are tried, once that is settled.
        self.order: tuple[str, ...] | None = None
        self._kernels: dict[str, tuple[Backend, Any]] = {}

    @cached_property
    def request(self) -> Request:
        """What is asked of a backend."""
        signature, sizes = self.signature, self.facts.sizes
        _, _, dtype, device, _ = signature.tensors[0]
        return Request(
            written=self.facts.written,
            root=self.facts.root,
            observe=raw_names(self.observed),
            wanted=frozenset(self.wanted),
            dtype=dtype,
            device=device.type,
            batch=sizes["B"],
            heads=sizes["H"],
            groups=sizes["G"],
            queries=sizes["N"],
            keys=sizes["M"],
            width=sizes["D"],
            value_width=sizes["E"],
            pair_channels=self.facts.pair_channels,
            seeded=signature.seeded,
            lengths=signature.lengths,
            plain_positions=signature.plain_positions,
        )

    @cached_property
    def plan(self) -> Plan:
        """The backends that can run it; made after `bind` found the numbers right."""
        return make_plan(self.request, self.signature.backend)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """What a backend returns, by full name."""
        return ("output", *self.request.observe)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The tensors whose gradient is wanted, in the order of the call."""
        return tuple(name for name, *_, wanted in self.signature.tensors if wanted)

    @cached_property
    def key_condition(self) -> n.Node | None:
        """What a key must fulfil to be seen by any query, where leaving out others may pay."""
        request, backend = self.request, self.signature.backend
        rows = request.queries * request.heads
        if request.batch * rows * request.keys < _FEWEST_PAIRS:
            return None
        # The reference is what others are compared with; other devices would be waited for.
        if rows < _FEWEST_ROWS * request.groups or backend == "reference":
            return None
        # Key rows have other numbers once some are left out.
        by_key = any(set("jk") & set(parse(name).axes) for name in request.observe)
        if request.device != "cpu" or by_key:
            return None
        return find_key_condition(self.facts.written, request.seeded)

    def kernel(self, name: str) -> tuple[Backend, Any]:
        """Return a backend and its kernel, compiled when first asked for."""
        if name not in self._kernels:
            self._kernels[name] = compiled(self.request, name)
        return self._kernels[name]


@lru_cache(maxsize=1024)
def kind_of(signature: Signature) -> Kind:
    """Return the kind of a call; the same object for the same signature.

    Args:
        signature: The call without its numbers.

    Returns:
        The kind.

    Raises:
        InputError: If a tensor does not fit the program; the message names it.
    """
    return Kind(signature)


def _check_devices(signature: Signature) -> None:
    expected = signature.tensors[0][3]
    for name, shape, _, device, _ in signature.tensors:
        # A number on another device is read like a number of Python.
        if device != expected and shape:
            raise InputError(f"'{name}' is on {device}, q is on {expected}")
