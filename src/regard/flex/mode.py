"""Everything that torch is asked while a score_mod runs, sent to where it is answered.

What meets a traced value becomes part of the program; what meets captured tensors alone is computed
and remembered. Leaves to others: the functions (`functions`, `activations`, `shapes`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from regard.flex import activations, shapes
from regard.flex.captured import CURRENT
from regard.flex.elementwise import as_dtype
from regard.flex.index import picked
from regard.flex.rows import Row
from regard.flex.traced import (
    FUNCTIONS,
    OPERATOR_NAMES,
    REFLECTED_NAMES,
    Operand,
    constant,
    refuse_writing,
    unknown,
)
from regard.lang.trace import fail

# Importing these rooms fills FUNCTIONS.
_OFFERING = (activations, shapes)
_RANDOM = (
    "rand", "randn", "randint", "randperm", "bernoulli", "normal", "multinomial", "poisson",
    "dropout", "alpha_dropout", "feature_dropout", "rrelu", "gumbel_softmax", "native_dropout",
    "rand_like", "randn_like", "randint_like", "exponential_", "uniform_", "normal_", "bernoulli_",
    "random_",
)  # fmt: skip
# What is asked of a captured tensor and follows from its shape, dtype and device; all else that
# is no tensor, such as item(), makes the program depend on what changes.
_FROM_SHAPE = (
    "shape", "size", "dim", "ndim", "ndimension", "numel", "nelement", "__len__", "dtype", "device",
    "is_floating_point", "is_complex", "element_size", "itemsize", "nbytes", "is_cuda", "is_cpu",
    "get_device", "layout", "is_sparse", "is_nested", "is_tensor", "result_type",
)  # fmt: skip
# What keeps a shape, and cannot be tried on tensors without numbers.
_MOVES = ("to", "cpu", "cuda")
# Namespaces of operators that torch itself offers; approx::tanh is the tanh that the examples of
# FlexAttention compute by a processor's instruction, and torch's tanh elsewhere.
_NAMESPACES = ("aten", "prims", "approx")


class Listening(TorchFunctionMode):
    """While it is entered, calls of torch build the program that is being traced."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Answer one call.

        Args:
            function: The function of torch.
            types: Unused.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            A traced value if one is among the arguments, else what torch returns.

        Raises:
            ProgramError: If the function has no meaning for a pair.
        """
        kwargs = kwargs or {}
        name = function.__name__.split(".")[0]
        if name in _RANDOM:
            fail(
                f"torch.{name} draws random numbers: a program's are drawn from a seed\n"
                "write the mask as a program with rg.keep, or rg.dropout for the weights"
            )
        leaves = tree_leaves((args, kwargs))
        if any(map(_is_traced, leaves)):
            return _traced(function, name, args, kwargs)
        _refuse_writing(name, args, kwargs)
        return _computed(function, name, args, kwargs, leaves)


def _is_traced(leaf: Any) -> bool:
    if isinstance(leaf, slice):
        return any(isinstance(end, Operand) for end in (leaf.start, leaf.stop, leaf.step))
    return isinstance(leaf, Operand)


def _refuse_writing(name: str, args: tuple, kwargs: dict) -> None:
    writes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    writes = writes or (name.startswith("__i") and name[3:-2] in _IN_PLACE)
    if writes or kwargs.get("out") is not None:
        refuse_writing(name)


_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")


def _traced(function: Callable[..., Any], name: str, args: tuple, kwargs: dict) -> Any:
    """Apply a function of torch to traced values."""
    _refuse_writing(name, args, kwargs)
    module = getattr(function, "__module__", None) or ""
    if module.startswith("torch._ops.") and module.split(".")[2] not in _NAMESPACES:
        fail(
            f"the operator {function} is not torch's own; a program cannot tell what it computes\n"
            "write its formula with torch's functions"
        )
    if name == "__getitem__":
        if isinstance(args[0], Tensor):
            return picked(args[0], _whole_numbers(args[1]))
        return args[0][args[1]]
    if name in REFLECTED_NAMES:
        return FUNCTIONS[REFLECTED_NAMES[name]](args[1], args[0])
    name = OPERATOR_NAMES.get(name, name).removeprefix("special_").removeprefix("_")
    found = FUNCTIONS.get(name)
    return unknown(name) if found is None else found(*args, **kwargs)


def _whole_numbers(index: Any) -> Any:
    """Return an index in which captured 0-d tensors are traced numbers."""
    if isinstance(index, tuple):
        return tuple(map(_whole_numbers, index))
    if isinstance(index, Tensor) and index.ndim == 0:
        return FUNCTIONS["clone"](index)
    if isinstance(index, Row) and index.width == 1:
        return index.make(0)
    return index


def _computed(
    function: Callable[..., Any], name: str, args: tuple, kwargs: dict, leaves: list[Any]
) -> Any:
    """Compute what no traced value takes part in, and remember how."""
    tracing = CURRENT.get()
    made = function(*args, **kwargs)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if isinstance(made, Tensor):
        if not tensors and made.ndim == 0 and made.device.type != "meta":
            # A number written as a tensor, such as torch.tensor(-inf), is a number.
            tracing.replay(function, args, kwargs, made)
            tracing.written[id(made)] = as_dtype(constant(made.item()), made.dtype)
        else:
            tracing.replay(function, args, kwargs, made)
        if tensors and name not in _MOVES and _is_shaped_by_numbers(function, args, kwargs, made):
            tracing.repeatable = False
    elif tensors and _asked(function, name) not in _FROM_SHAPE:
        tracing.repeatable = False
    return made


def _asked(function: Callable[..., Any], name: str) -> str:
    """Return the name of a method or, for a property, of that."""
    return getattr(function.__self__, "__name__", "") if name == "__get__" else name  # type: ignore[attr-defined]


def _is_shaped_by_numbers(
    function: Callable[..., Any], args: tuple, kwargs: dict, made: Tensor
) -> bool:
    """Return whether other numbers might give a tensor of another shape, as nonzero() does."""

    def without_numbers(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    try:
        given, named = tree_map_only(Tensor, without_numbers, (args, kwargs))
        return function(*given, **named).shape != made.shape
    except Exception:  # Whatever torch says, there is no telling.
        return True
