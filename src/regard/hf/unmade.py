"""Tensors that stand for N×M numbers without holding them.

Models pass masks and biases on, ask for their shape, and now and then compute with them. What is
only passed on arrives in the attention function as what it is, a program; what is computed with is
made dense first. Leaves to others: what the numbers are (`masks`, `bias`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from regard.errors import UnsupportedError

_ASKED = {
    "dim", "size", "ndimension", "numel", "nelement", "is_floating_point", "is_complex",
    "element_size", "get_device", "is_contiguous", "stride", "__len__", "is_tensor", "__repr__",
    "__hash__", "is_pinned",
}  # fmt: skip
_PROPERTIES = {
    "shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_cuda", "is_cpu", "is_sparse",
    "is_nested", "is_quantized", "is_meta", "itemsize", "nbytes", "grad", "grad_fn", "is_leaf",
    "is_mps", "is_xpu", "names",
}  # fmt: skip
_SAME = {"contiguous", "detach", "alias"}


class Unmade(Tensor):
    """A tensor without storage; a subclass says what it would hold.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        device: Where it would be.
    """

    @staticmethod
    def __new__(cls, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Any:
        """Make a tensor that has a shape and no storage."""
        return Tensor._make_wrapper_subclass(cls, torch.Size(shape), dtype=dtype, device=device)

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()

    def dense(self) -> Tensor:
        """Return the numbers, as an ordinary tensor."""
        raise NotImplementedError

    def dense_beside(self, name: str, others: list[Tensor]) -> Tensor:
        """Return what an operator computes with; a kind may answer some operators otherwise.

        Args:
            name: The operator.
            others: The other tensors it is given.

        Returns:
            An ordinary tensor.
        """
        return self.dense()

    def __deepcopy__(self, memo: dict) -> "Unmade":
        return self

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Answer what the shape answers, and make the numbers for all else."""
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name == "__get__":
            asked = getattr(function.__self__, "__name__", "") in _PROPERTIES  # type: ignore[attr-defined]
        else:
            asked = name in _ASKED
        if asked:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **kwargs)
        if isinstance(args[0], cls) and (name in _SAME or _moves_nowhere(name, args, kwargs)):
            return args[0]
        return _on_numbers(function, name, args, kwargs)

    @classmethod
    def __torch_dispatch__(
        cls, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        """Make the numbers for what does not ask by `__torch_function__`."""
        name = function.__name__.split(".")[0]
        if name in _SAME:
            return args[0]
        return _on_numbers(function, name, args, kwargs or {})


def _moves_nowhere(name: str, args: tuple, kwargs: dict) -> bool:
    """Return whether a call of `to` asks for the dtype and device there are."""
    if name != "to":
        return False
    probe = torch.empty(0, dtype=args[0].dtype, device=args[0].device)
    moved = probe.to(*args[1:], **{key: kwargs[key] for key in kwargs if key != "copy"})
    return (moved.dtype, moved.device) == (probe.dtype, probe.device)


def _on_numbers(function: Callable[..., Any], name: str, args: tuple, kwargs: dict) -> Any:
    if name in _JOINING:
        raise UnsupportedError(
            f"the model extends its mask by '{name}', with numbers of a kind that a mask of truth "
            'values cannot hold; load it with attn_implementation="eager"'
        )
    in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    if (in_place or name in _WRITING) and isinstance(args[0], Unmade):
        raise UnsupportedError(
            f"'{name}' writes into a mask or bias that is held as a program; clone() it first"
        )
    tensors: list[Tensor] = []
    tree_map_only(Tensor, tensors.append, (args, kwargs))
    others = [tensor for tensor in tensors if not isinstance(tensor, Unmade)]
    made = tree_map_only(Unmade, lambda one: one.dense_beside(name, others), (args, kwargs))
    return function(*made[0], **made[1])


_JOINING = ("cat", "concat", "concatenate", "hstack", "pad", "constant_pad_nd")
_WRITING = ("__iadd__", "__isub__", "__imul__", "__iand__", "__ior__", "__ixor__", "__itruediv__")
