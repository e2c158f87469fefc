"""The mask of a forward pass as a program: which pairs are seen, from the model's own function.

transformers says what may be seen by a function of (batch, head, query, key). It is traced to a
condition of a program; padding at the end becomes lengths, any other a feature of keys. What cannot
be traced becomes a dense tensor. Leaves to others: masks that a model hands over itself (`sight`).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function, sdpa_mask

from regard.errors import ProgramError, UnsupportedError
from regard.flex.remember import find_program
from regard.flex.tracing import Origin
from regard.hf.unmade import Unmade
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram, Leaf
from regard.passes.contracts.conditions import can_hold

# What inputs of a mask are called in the programs it is combined with.
PREFIX = "layer_mask_"
_REAL = PREFIX + "real"
_PADDING = n.Feature("key", _REAL)
_I, _J, _HEAD = n.Index("i"), n.Index("j"), n.Index("head")
_ALWAYS = n.Call("ge", (_I, n.Const(0)))
_CAUSAL = n.Call("le", (_J, _I))
_TO_COME = n.Call("gt", (_J, _I))


class Mask(Unmade):
    """Which pairs of a forward pass are seen: bool (B, 1, N, M), held as a condition.

    Args:
        condition: What must hold for a pair; None where all are seen.
        inputs: What it reads, by name.
        lengths: Up to which key each batch row sees anything, (B,); None for all keys.
        options: What `sdpa_mask` makes the dense mask of.
    """

    @staticmethod
    def __new__(cls, condition: Any, inputs: Any, lengths: Any, options: dict[str, Any]) -> "Mask":
        """Make a tensor that has the mask's shape and no storage."""
        shape = (options["batch_size"], 1, options["q_length"], options["kv_length"])
        return Unmade.__new__(cls, shape, torch.bool, torch.device(options["device"]))

    def __init__(
        self,
        condition: n.Node | None,
        inputs: dict[str, Tensor],
        lengths: Tensor | None,
        options: dict[str, Any],
    ) -> None:
        self.condition, self.inputs, self.key_lengths = condition, inputs, lengths
        self.query_offset: int = options["q_offset"]
        self.key_offset: int = options["kv_offset"]
        self.options = options

    def dense(self) -> Tensor:
        """Return the mask, true where visible."""
        return dense_mask(**self.options)

    def dense_beside(self, name: str, others: list[Tensor]) -> Tensor:
        """Return numbers to add to others where those are scores: 0, or the smallest there is."""
        floats = [other.dtype for other in others if other.is_floating_point()]
        if name not in _ADDING or not floats:
            return self.dense()
        seen, dtype = self.dense(), floats[0]
        hidden = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=seen.device)
        return torch.where(seen, hidden.new_zeros(()), hidden)


_ADDING = ("add", "sub", "__add__", "__radd__", "__sub__", "__rsub__", "__iadd__", "add_", "rsub")


class _Pattern(NamedTuple):
    """What a mask function was traced to.

    Attributes:
        condition: What must hold for a pair; None where all are seen.
        leaves: What it reads, by the tracer's names for it.
        causal: Whether no query sees a later key.
    """

    condition: n.Node | None
    leaves: dict[str, n.Node]
    causal: bool


def dense_mask(**options: Any) -> Tensor:
    """Return a mask as transformers makes it.

    Args:
        **options: As transformers passes them to `sdpa_mask`.

    Returns:
        Bool (B, 1, N, M), true where visible.
    """
    options.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
    mask = sdpa_mask(**options)
    assert mask is not None, "nothing may be left out"
    return mask


def make_mask(*, q_offset: Any = 0, kv_offset: Any = 0, **options: Any) -> Tensor:
    """Return the mask of a forward pass.

    Args:
        q_offset: The position of query row 0, an int or a tensor of the cache.
        kv_offset: The position of key row 0.
        **options: The other options of `sdpa_mask`, among them batch_size, q_length, kv_length,
            mask_function and attention_mask (B, tokens).

    Returns:
        A `Mask`; a dense bool (B, 1, N, M) where its function cannot be traced.
    """
    # A cache changes its own tensor before attention runs, so the numbers are read now.
    offset, first = int(q_offset), int(kv_offset)
    options = {"device": "cpu", "mask_function": causal_mask_function, "attention_mask": None} | {
        **options, "q_offset": offset, "kv_offset": first
    }  # fmt: skip
    given = options["attention_mask"]
    if given is not None and given.dim() != 2:
        raise UnsupportedError(
            f"attention_mask has shape {tuple(given.shape)}; give one number per token, "
            "(B, M), or a whole mask, (B, 1 or H, N, M)"
        )
    found = _traced(options)
    if found is None:
        return dense_mask(**options)
    condition, inputs, causal = found
    if condition is _CAUSAL and first + options["kv_length"] <= offset + 1:
        condition = None  # The first query is the last token there is.
    lengths, padding = _padding(options, causal)
    if padding is not None:
        condition, inputs = _with(condition, _PADDING), {**inputs, _REAL: padding}
    return Mask(condition, inputs, lengths, options)


def _traced(options: dict[str, Any]) -> tuple[n.Node | None, dict[str, Tensor], bool] | None:
    """Return the condition of a mask function, its inputs, and whether it is causal."""
    try:
        found = find_program(None, options["mask_function"], _ORIGIN)
    except (ProgramError, TypeError, RuntimeError, AttributeError):
        return None
    pattern = _pattern(found.program)
    if pattern is None:
        return None
    inputs = {}
    for name, tensor in found.inputs.items():
        rows = _own_rows(pattern.leaves[name], tensor, options)
        if rows is None:
            return None
        inputs[PREFIX + name] = rows
    return pattern.condition, inputs, pattern.causal


_ORIGIN = Origin()


def _own_rows(leaf: n.Node, tensor: Tensor, options: dict[str, Any]) -> Tensor | None:
    """Return the rows of this call, of a tensor that the function indexes by position."""
    rows = (options["q_offset"], options["q_length"])
    keys = (options["kv_offset"], options["kv_length"])
    axes: dict[int, tuple[int, int]] = {}
    if isinstance(leaf, n.PairInput):
        axes = {-2: rows, -1: keys}
    elif isinstance(leaf, n.Feature):
        axes = {-1: rows if leaf.side == "query" else keys}
    for axis, (start, size) in axes.items():
        if tensor.shape[axis] < start + size:
            return None
        tensor = tensor.narrow(axis, start, size)
    return tensor


@lru_cache(maxsize=256)
def _pattern(program: AttentionProgram) -> _Pattern | None:
    weights = program.root.weights
    assert isinstance(weights, n.Softmax), "masks are traced into a softmax"
    condition = weights.where
    leaves = {} if condition is None else _named(condition)
    # transformers asks for the first head alone, whatever a function says of others.
    if condition is not None and _HEAD in n.walk(condition):
        return None
    causal = condition is not None and not can_hold([(condition, True), (_TO_COME, True)])

    def change(node: n.Node) -> n.Node | None:
        if isinstance(node, n.Call) and node.op == "and" and _ALWAYS in node.args:
            return node.args[1 - node.args.index(_ALWAYS)]
        return _renamed(node) if node in leaves.values() else None

    if condition is not None:
        condition = n.rewrite(condition, change)
    return _Pattern(None if condition is _ALWAYS else condition, leaves, causal)


def _named(condition: n.Node) -> dict[str, n.Node]:
    return {node.name: node for node in n.walk(condition) if isinstance(node, Leaf)}


def _renamed(leaf: Any) -> n.Node:
    fields = dict(zip(leaf.__dataclass_fields__, leaf.fields(), strict=True))
    return type(leaf)(**{**fields, "name": PREFIX + leaf.name})


@lru_cache(maxsize=256)
def _with(condition: n.Node | None, other: n.Node) -> n.Node:
    return other if condition is None else n.Call("and", (condition, other))


def _padding(options: dict[str, Any], causal: bool) -> tuple[Tensor | None, Tensor | None]:
    """Return up to which key each row sees anything, and which keys are real if that is not all."""
    mask, first, keys = options["attention_mask"], options["kv_offset"], options["kv_length"]
    # A cache of fixed size has room for keys that are not there yet.
    most = min(keys, options["q_offset"] + options["q_length"] - first) if causal else keys
    lengths = None
    if most < keys:
        lengths = torch.full((options["batch_size"],), most, device=options["device"])
    if mask is None:
        return lengths, None
    real = mask.to(device=options["device"], dtype=torch.bool)[:, first : first + keys]
    if real.shape[1] < keys:
        real = torch.nn.functional.pad(real, (0, keys - real.shape[1]))
    if bool(real[:, :most].all()):
        return lengths, None
    numbers = torch.arange(1, keys + 1, device=real.device)
    last = (real * numbers).amax(1)
    at_the_end = torch.equal(last, real.sum(1))
    if at_the_end or not bool((last >= most).all()):
        lengths = last.clamp(max=most).expand(options["batch_size"])
    return lengths, None if at_the_end else real[:, None]
