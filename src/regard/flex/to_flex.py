"""to_flex(): a program as functions that FlexAttention runs, where FlexAttention can say it.

Leaves to others: writing expressions as torch (`in_torch`), the way back (`from_flex`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from regard.errors import InputError, UnsupportedError, nearest, no_program
from regard.flex.in_torch import Lines, function_of, made_of
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram, Leaf
from regard.ir.types import type_of
from regard.ops.parameters import initial_tensor

_QUERY, _KEY, _VALUE = n.Vector("query", "q"), n.Vector("key", "k"), n.Vector("key", "v")
_PRODUCTS = tuple(n.Reduce(n.Call("mul", rows), "c") for rows in ((_QUERY, _KEY), (_KEY, _QUERY)))
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


class FlexFunctions(NamedTuple):
    """What to give `torch.nn.attention.flex_attention.flex_attention`.

    Attributes:
        score_mod: The score_mod, or None.
        mask_mod: The mask_mod, for `create_block_mask`, or None.
        scale: The scale; None stands for 1 / √D.
        source: The functions as they are written.
    """

    score_mod: Callable[..., Tensor] | None
    mask_mod: Callable[..., Tensor] | None
    scale: float | None
    source: str


def to_flex(
    program: AttentionProgram, *, q: Tensor | None = None, k: Tensor | None = None, **inputs: Any
) -> FlexFunctions:
    """Return a program as functions that FlexAttention runs.

    Args:
        program: One softmax over scores made of dot(q, k), positions and given data.
        q: Queries, (B, H, N, D), where the program reads sizes or heads share keys; numbers of it
            are not read.
        k: Keys, (B, G, M, D), likewise.
        **inputs: What the program reads by name, as for `rg.attend`; parameters start as their
            initialisers say unless given. The functions hold these tensors.

    Returns:
        The functions, the scale to call FlexAttention with, and their source.

    Raises:
        UnsupportedError: If FlexAttention cannot say it; the message gives the reason.
        InputError: If an input is missing or unknown.
    """
    term = _softmax_of(program)
    sizes = _sizes(q, k)
    product, scale = _scaled_product(term)
    seen = term.where
    tensors = _tensors(program, inputs, sizes)
    writer = _Writer(tensors, sizes, product)
    by_score = seen is not None and product is not None and product in n.walk(seen)
    score = term.score
    if by_score:
        # mask_mod sees positions alone, so a mask that reads scores is a score of minus infinity.
        assert seen is not None
        score, seen = n.Call("where", (seen, score, n.Const(float("-inf")))), None
    sources = []
    if score is not product:
        sources.append(writer.write("score_mod", "score, b, h, q_idx, kv_idx", score))
    if seen is not None:
        sources.append(writer.write("mask_mod", "b, h, q_idx, kv_idx", seen))
    source = "\n\n\n".join(sources)
    made = made_of(source, writer.names)
    return FlexFunctions(made.get("score_mod"), made.get("mask_mod"), scale, source)


def _softmax_of(program: AttentionProgram) -> n.Softmax:
    if not isinstance(program, AttentionProgram):
        raise InputError(
            f"to_flex takes a program, which @rg.program makes; found {no_program(program)}"
        )
    root, term = program.root, program.root.weights
    if not isinstance(term, n.Softmax):
        what = "combined weights" if not isinstance(term, n.Term) else type(term).__name__.lower()
        _refuse(program, f"its weights are {what}, and FlexAttention normalises by one softmax")
    if term.sink is not None:
        _refuse(program, "it has a sink, which FlexAttention's softmax does not count")
    if root.values is not _VALUE:
        _refuse(program, "it sums something other than v")
    if root.finish is not None:
        _refuse(program, "it finishes the summed row; do that after the call")
    for node in n.walk(term.score, term.where):
        if type(node) in _WHY_NOT:
            _refuse(program, _WHY_NOT[type(node)])
        row = isinstance(node, n.Vector) and node not in (_QUERY, _KEY)
        if row or (isinstance(node, n.Reduce) and node not in _PRODUCTS):
            _refuse(program, "its score reads rows otherwise than as dot(q, k)")
        if isinstance(node, n.Array) and "channel" in node.per:
            _refuse(program, f"'{node.name}' has rows of channels")
    return term


def _refuse(program: AttentionProgram, reason: str) -> NoReturn:
    raise UnsupportedError(f"FlexAttention cannot run '{program.name}': {reason}")


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


def _sizes(q: Tensor | None, k: Tensor | None) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if q is not None:
        sizes |= {"heads": q.shape[1], "queries": q.shape[2], "width": q.shape[3]}
    if k is not None:
        sizes |= {"groups": k.shape[1], "keys": k.shape[2], "width": k.shape[3]}
    return sizes


def _tensors(
    program: AttentionProgram, inputs: dict[str, Any], sizes: dict[str, int]
) -> dict[str, Any]:
    leaves: dict[str, Leaf] = {
        leaf.name: leaf for leaf in program.inputs if leaf not in (_QUERY, _KEY, _VALUE)
    }
    for name in inputs:
        if name not in leaves:
            raise InputError(f"the program reads no '{name}'; {nearest(name, leaves)}")
    return {
        name: inputs[name] if name in inputs else _initial(leaf, sizes)
        for name, leaf in leaves.items()
    }


def _initial(leaf: Leaf, sizes: dict[str, int]) -> Any:
    if isinstance(leaf, n.Scalar) and leaf.default is not None:
        return leaf.default
    if isinstance(leaf, n.Array) and leaf.source == "parameter":
        if "head" in leaf.per and "heads" not in sizes:
            raise InputError(f"'{leaf.name}' has one row per head; pass {leaf.name}=… or q=…")
        return initial_tensor(
            leaf, tuple(sizes["heads"] if axis == "head" else int(axis) for axis in leaf.per)
        )
    raise InputError(f"the program reads '{leaf.name}', which was not given; pass {leaf.name}=…")


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
