"""A softmax over scores made of dot(q, k) as a score_mod and a mask_mod, written as Python.

Before: softmax(dot(q, k) / sqrt(width) - slope[h] · |i - j|, j <= i).
After: `score_mod` returns `score - slope[h] * torch.abs(q_idx - kv_idx)`, `mask_mod` returns
`kv_idx <= q_idx`. Leaves to others: expressions (`in_torch`), calling them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.backends.flex.in_torch import Lines, function_of
from regard.errors import InputError, UnsupportedError
from regard.ir import nodes as n
from regard.ir.types import type_of

QUERY, KEY, VALUE = n.Vector("query", "q"), n.Vector("key", "k"), n.Vector("key", "v")
_PRODUCTS = tuple(n.Reduce(n.Call("mul", rows), "c") for rows in ((QUERY, KEY), (KEY, QUERY)))
_SQRT_WIDTH = n.Call("sqrt", (n.Index("width"),))
_PLACES: dict[n.Node, str] = {
    n.Index("batch"): "b", n.Index("head"): "h", n.Index("i"): "q_idx", n.Index("j"): "kv_idx",
}  # fmt: skip
_WHY_NOT: dict[type[n.Node], str] = {
    n.Visible: "it counts the keys a query sees, which score_mod and mask_mod cannot",
    n.TopK: "it chooses keys by their rank, and FlexAttention looks at one pair at a time",
    n.Running: "it adds up over keys in order, and FlexAttention looks at one pair at a time",
    n.KeyMax: "it takes a maximum over keys, and FlexAttention looks at one pair at a time",
    n.Keep: "it draws random numbers, and FlexAttention has no seed for them",
    n.Rotate: "it turns rows; turn q and k before the call",
    n.Project: "it multiplies rows by a matrix; multiply q and k before the call",
    n.Channel: "its score reads channels otherwise than as dot(q, k)",
    n.Slice: "its score reads some channels alone; FlexAttention gives dot(q, k) of all of them",
}


class Written(NamedTuple):
    """A program as FlexAttention's functions.

    Attributes:
        source: The functions: `score_mod`, `mask_mod`, both or none.
        names: The tensors that they read, by name.
        scale: What FlexAttention multiplies products by; None stands for 1 / √D.
    """

    source: str
    names: dict[str, Any]
    scale: float | None


def why_not_flex(root: n.Output) -> str | None:
    """Return why FlexAttention cannot say a program, or None if it can.

    Args:
        root: The program.

    Returns:
        A reason, or None.
    """
    term = root.weights
    if not isinstance(term, n.Softmax):
        what = "combined weights" if not isinstance(term, n.Term) else type(term).__name__.lower()
        return f"its weights are {what}, and FlexAttention normalises by one softmax"
    if term.sink is not None:
        return "it has a sink, which FlexAttention's softmax does not count"
    if root.values is not VALUE:
        return "it sums something other than v"
    if root.finish is not None:
        return "it finishes the summed row; do that after the call"
    reasons = (_why_not_at(node) for node in n.walk(term.score, term.where))
    return next((reason for reason in reasons if reason), None)


def _why_not_at(node: n.Node) -> str | None:
    """Return why FlexAttention cannot say a node of a score or a condition."""
    if type(node) in _WHY_NOT:
        return _WHY_NOT[type(node)]
    row = isinstance(node, n.Vector) and node not in (QUERY, KEY)
    if row or (isinstance(node, n.Reduce) and node not in _PRODUCTS):
        return "its score reads rows otherwise than as dot(q, k)"
    if isinstance(node, n.Array) and "channel" in node.per:
        return f"'{node.name}' has rows of channels"
    return None


def write_functions(term: n.Softmax, tensors: dict[str, Any], sizes: dict[str, int]) -> Written:
    """Write a softmax as FlexAttention's functions.

    Args:
        term: The softmax, of a program that FlexAttention can say.
        tensors: The program's inputs by name.
        sizes: Those that are known: "heads", "groups", "queries", "keys", "width".

    Returns:
        The functions.

    Raises:
        InputError: If the program reads a size that is not known.
        UnsupportedError: If it reads something that is no number of a pair.
    """
    seen = term.where
    product, scale = _scaled_product(term)
    writer = _Writer(tensors, sizes, product)
    score = term.score
    if seen is not None and product is not None and product in n.walk(seen):
        # mask_mod sees positions alone, so a mask that reads scores is a score of minus infinity.
        score, seen = n.Call("where", (seen, score, n.Const(float("-inf")))), None
    sources = []
    if score is not product:
        sources.append(writer.write("score_mod", "score, b, h, q_idx, kv_idx", score))
    if seen is not None:
        sources.append(writer.write("mask_mod", "b, h, q_idx, kv_idx", seen))
    return Written("\n\n\n".join(sources), writer.names, scale)


def _product_of(term: n.Softmax) -> n.Node | None:
    """Return dot(q, k) as the program writes it, or None if it reads none."""
    return next((node for node in n.walk(term.score, term.where) if node in _PRODUCTS), None)


def _scaled_product(term: n.Softmax) -> tuple[n.Node | None, float | None]:
    """Return what `score` stands for in the program, and FlexAttention's scale for it."""
    product = _product_of(term)
    if product is None:
        return None, 1.0
    readers = [
        node
        for node in n.walk(term.score, term.where)
        if isinstance(node, n.Call) and product in node.args
    ]
    if len(readers) == 1 and product is not term.score:
        match readers[0]:
            case n.Call("div", (first, second)) if first is product and second is _SQRT_WIDTH:
                return readers[0], None
            case n.Call("mul", (n.Const(factor), _) | (_, n.Const(factor))):
                return readers[0], float(factor)
            case n.Call("div", (first, n.Const(divisor))) if first is product and divisor:
                return readers[0], 1 / divisor
    return product, 1.0


class _Writer:
    """Writes the two functions, and finds the tensors that they hold.

    Args:
        tensors: The program's inputs by name.
        sizes: The sizes that are known.
        product: What `score` stands for.
    """

    def __init__(
        self, tensors: dict[str, Any], sizes: dict[str, int], product: n.Node | None
    ) -> None:
        self.names: dict[str, Any] = {}
        self._tensors, self._sizes, self._product = tensors, sizes, product

    def write(self, name: str, arguments: str, root: n.Node) -> str:
        """Return the source of a function that computes a node."""
        known: dict[n.Node, str] = dict(_PLACES)
        if self._product is not None:
            known[self._product] = "score"
        lines = Lines(known, self._leaf)
        result = lines.text(root)
        if not result.isidentifier():
            # FlexAttention wants a tensor, where all pairs alike have a plain number.
            kind = "torch.bool" if type_of(root).kind == "bool" else "torch.float32"
            result = f"torch.full((), {result}, dtype={kind}, device=b.device)"
        elif name == "score_mod" and type_of(root).kind in ("int", "bool"):
            result = f"{result}.to(torch.float32)"
        return function_of(name, arguments, lines, result)

    def _leaf(self, node: n.Node, indices: list[str]) -> str:
        match node:
            case n.Index():
                if node.name not in self._sizes:
                    raise InputError(f"the program reads '{node.name}'; pass q=… and k=…")
                return str(self._sizes[node.name])
            case n.Scalar():
                return self._held(node.name, self._tensors[node.name])
            case n.Feature():
                return self._feature(node)
            case n.PairInput():
                return self._picked(node.name, "bhij")
            case n.Gather():
                return self._element(node.array, indices)
            case n.Array():
                return self._element(node, [])
        raise UnsupportedError(f"{type(node).__name__} is no number that FlexAttention can read")

    def _held(self, name: str, value: Any) -> str:
        if not isinstance(value, Tensor):
            return repr(value)
        # The functions' own arguments and torch keep their names.
        taken = ("score", "b", "h", "q_idx", "kv_idx", "torch")
        name = f"{name}_" if name in taken or _is_line(name) else name
        self.names[name] = value
        return name

    def _feature(self, node: n.Feature) -> str:
        tensor = self._tensors[node.name]
        while tensor.ndim < 3:
            tensor = tensor[None]
        head = "h"
        if node.side == "key" and tensor.shape[1] > 1:
            if not {"heads", "groups"} <= self._sizes.keys():
                raise InputError(f"'{node.name}' differs between heads; pass q=… and k=…")
            shared = self._sizes["heads"] // tensor.shape[1]
            head = "h" if shared == 1 else f"h // {shared}"
        return self._picked(node.name, "bhi" if node.side == "query" else "bhj", head, tensor)

    def _picked(
        self, name: str, letters: str, head: str = "h", tensor: Tensor | None = None
    ) -> str:
        """Read a tensor at the pair's own places; axes of one row are left out."""
        tensor = self._tensors[name] if tensor is None else tensor
        assert tensor is not None
        words = {"b": "b", "h": head, "i": "q_idx", "j": "kv_idx"}
        places = []
        for axis, letter in reversed(list(enumerate(letters))):
            if tensor.shape[axis] == 1:
                tensor = tensor.select(axis, 0)
            else:
                places.insert(0, words[letter])
        held = self._held(name, tensor)
        return f"{held}[{', '.join(places)}]" if places else held

    def _element(self, array: n.Array, indices: list[str]) -> str:
        value = self._tensors[array.name]
        tensor = value if isinstance(value, Tensor) else torch.tensor(value)
        held = self._held(array.name, tensor)
        rest = iter(indices)
        places = []
        for axis, size in zip(array.per, tensor.shape, strict=True):
            index = "h" if axis == "head" else next(rest)
            plain = index.isidentifier() and axis != "head"
            places.append(f"torch.clamp({index}, 0, {size - 1})" if plain else index)
        return f"{held}[{', '.join(places)}]" if places else held


def _is_line(name: str) -> bool:
    return name[:1] == "x" and name[1:].isdigit()
