"""Compare a call's tensors with the program, by name, shape, dtype and device, before any work.

Leaves to others: choosing a backend (`plan`), turning the call into a `Bound` (`bind`).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from regard.errors import InputError, nearest
from regard.ir import nodes as n
from regard.ir.observed import made_feature, observed_features
from regard.ir.types import axes_of
from regard.ir.verify import verify_program
from regard.ops.observe import observations, raw_names
from regard.ops.parameters import array_shape, matrix_inputs
from regard.passes.infer_widths import infer_widths, resolve_channels

Shape = tuple[int, ...]
# Name, shape, dtype, device, whether the gradient is wanted.
Described = tuple[tuple[str, Shape, torch.dtype, torch.device, bool], ...]
Named = n.Vector | n.Feature | n.Array | n.Scalar | n.PairInput


class Signature(NamedTuple):
    """What a call looks like without its numbers: the key of everything that is decided once.

    Attributes:
        root: The program.
        tensors: q, k, v and every named input, in order.
        first_head: The number of the call's head 0 in the whole layer.
        total_heads: How many heads the whole layer has.
        observe: What is observed, by the names given.
        backend: As given to `attend`.
        seeded: Whether random booleans are drawn.
        lengths: Whether query or key lengths are given.
        plain_positions: Whether row r has position r on both sides.
    """

    root: n.Output
    tensors: Described
    first_head: int
    total_heads: int
    observe: tuple[str, ...]
    backend: str
    seeded: bool
    lengths: bool
    plain_positions: bool


@dataclass(frozen=True)
class Facts:
    """What follows from a signature.

    Attributes:
        written: The program as it was written.
        root: The program with its channel widths resolved.
        inputs: The program's named leaves.
        shapes: The shapes expected of arrays, where they are known.
        sizes: B, H, G, N, M, D, E by letter.
        pair_channels: How many channels the widest value of a pair has; 0 if none has any.
        output_width: How many channels the output has.
        stretched: The shape in which each feature with fewer than three axes is viewed.
        absent: The inputs not given, which have defaults.
    """

    written: n.Output
    root: n.Output
    inputs: dict[str, Named]
    shapes: dict[str, tuple[int | None, ...]]
    sizes: dict[str, int]
    pair_channels: int
    output_width: int
    stretched: dict[str, Shape]
    absent: tuple[str, ...]


@lru_cache(maxsize=1024)
def named_inputs(root: n.Output) -> dict[str, Named]:
    """Return a program's named leaves, q, k and v among them if it reads them."""
    verify_program(root)
    return {node.name: node for node in n.walk(root) if isinstance(node, Named)}


@lru_cache(maxsize=1024)
def read_inputs(root: n.Output, observe: tuple[str, ...]) -> dict[str, Named]:
    """Return the named leaves of a program, and the features that what is observed reads.

    Args:
        root: The program.
        observe: What is observed, by the names given.

    Returns:
        Leaves by name.

    Raises:
        InputError: If a name of `observe` means nothing, or reads what is no feature of keys.
    """
    inputs = named_inputs(root)
    features = observed_features(raw_names(observations(root, observe)))
    for name, feature in features.items():
        if inputs.get(name, feature) is not feature:
            raise InputError(
                f"what is observed reads '{name}' as a feature of keys, which it is not in the "
                "program; give the feature another name"
            )
    return {**inputs, **features}


def check(signature: Signature) -> Facts:
    """Check a call and return what follows from its shapes.

    Args:
        signature: The call without its numbers.

    Returns:
        The facts.

    Raises:
        InputError: If a tensor does not fit; the message names it, what was found and what was
            expected.
    """
    shapes: dict[str, Shape] = {}
    dtypes: dict[str, torch.dtype] = {}
    for name, shape, dtype, *_ in signature.tensors:
        shapes[name], dtypes[name] = tuple(shape), dtype
    sizes = _check_qkv(shapes, dtypes)
    inputs = read_inputs(signature.root, signature.observe)
    total = signature.total_heads or sizes["H"]
    if not 0 <= signature.first_head <= total - sizes["H"]:
        raise InputError(
            f"heads {signature.first_head} … {signature.first_head + sizes['H'] - 1} "
            f"do not exist in a layer of {total}"
        )
    widths = _widths(signature.root, inputs, shapes)
    rows_in = matrix_inputs(signature.root, widths)
    expected = {
        name: array_shape(leaf, total, widths, rows_in.get(leaf))
        for name, leaf in inputs.items()
        if isinstance(leaf, n.Array)
    }
    _check_dtypes(signature.root, dtypes)
    _check_observed(signature, dtypes)
    for name, leaf in inputs.items():
        if name in shapes and name not in ("q", "k", "v"):
            _check_input(name, leaf, shapes[name], sizes, expected)
    resolved = resolve_channels(signature.root, widths)
    channels = [width for node, width in widths.items() if {"i", "j"} <= set(axes_of(node))]
    stretched = {
        name: (1,) * (3 - len(shapes[name])) + shapes[name]
        for name, leaf in inputs.items()
        if isinstance(leaf, n.Feature) and len(shapes.get(name, "bhi")) < 3
    }
    absent = tuple(name for name in inputs if name not in shapes)
    return Facts(
        written=signature.root,
        root=resolved,
        inputs=inputs,
        shapes=expected,
        sizes=sizes,
        pair_channels=max(channels, default=0),
        output_width=widths.get(signature.root.finish or signature.root.values, sizes["E"]),
        stretched=stretched,
        absent=absent,
    )


def _widths(
    root: n.Output, inputs: dict[str, Named], shapes: dict[str, Shape]
) -> dict[n.Node, int]:
    known = {}
    for name, leaf in inputs.items():
        is_row = isinstance(leaf, n.Vector) or (
            isinstance(leaf, n.Array) and leaf.source == "table" and "channel" in leaf.per
        )
        if is_row and shapes.get(name):
            known[name] = shapes[name][-1]
    return infer_widths(root, known)


def _check_qkv(shapes: dict[str, Shape], dtypes: dict[str, torch.dtype]) -> dict[str, int]:
    q, k, v = shapes["q"], shapes["k"], shapes["v"]
    for name, wanted in (("q", "(B, H, N, D)"), ("k", "(B, G, M, D)"), ("v", "(B, G, M, E)")):
        if len(shapes[name]) != 4:
            raise InputError(f"{name} has shape {shapes[name]}; expected four axes {wanted}")
        if 0 in shapes[name]:
            raise InputError(
                f"{name} has shape {shapes[name]}; every axis needs at least one element"
            )
    if not dtypes["q"].is_floating_point or not dtypes["q"] == dtypes["k"] == dtypes["v"]:
        found = ", ".join(f"{name} {dtypes[name]}" for name in "qkv")
        raise InputError(f"q, k and v need one floating-point dtype; found {found}")
    if k[:3] != v[:3]:
        raise InputError(f"k {k} and v {v} need the same batch, heads and keys")
    if q[0] != k[0]:
        raise InputError(f"q has {q[0]} batch rows and k has {k[0]}")
    if q[1] % k[1]:
        raise InputError(f"q has {q[1]} heads, which is no multiple of k's {k[1]}")
    return {"B": q[0], "H": q[1], "G": k[1], "N": q[2], "M": k[2], "D": q[3], "E": v[3]}


def _check_input(
    name: str,
    leaf: Named,
    shape: Shape,
    sizes: dict[str, int],
    expected: dict[str, tuple[int | None, ...]],
) -> None:
    b, h, g, rows, keys = (sizes[letter] for letter in "BHGNM")
    match leaf:
        case n.Vector():
            allowed = [(b, h, rows)] if leaf.side == "query" else [(b, g, keys)]
            if len(shape) != 4 or shape[:3] not in allowed:
                raise InputError(f"'{name}' has shape {shape}; expected {allowed[0]} and a width")
        case n.Feature():
            sides = [(b, h, rows)] if leaf.side == "query" else [(b, h, keys), (b, g, keys)]
            if not any(_broadcasts(shape, wanted) for wanted in sides):
                hint = (
                    f"; write {name}[:, None]"
                    if len(shape) == 2 and shape == (b, sides[0][2])
                    else ""
                )
                raise InputError(
                    f"'{name}' has shape {shape}, which does not broadcast to {sides[-1]}{hint}"
                )
        case n.Array():
            wanted = expected[name]
            fits = len(shape) == len(wanted) and all(
                size in (None, found) for size, found in zip(wanted, shape, strict=True)
            )
            if not fits or 0 in shape:
                text = ", ".join("any" if size is None else str(size) for size in wanted)
                raise InputError(
                    f"{leaf.source} '{name}' has shape {shape}; "
                    f"expected ({text}) for per={leaf.per}"
                )
        case n.Scalar():
            if shape:
                raise InputError(f"'{name}' is a run-time scalar; found shape {shape}")
        case _:
            if (
                len(shape) != 4
                or not _broadcasts(shape, (b, h, rows, keys))
                or shape[2:] != (rows, keys)
            ):
                batch, heads = ("1" if size == 1 else f"{size} or 1" for size in (b, h))
                hint = f"; pass {name}[None, None]" if shape == (rows, keys) else ""
                raise InputError(
                    f"pair input '{name}' has shape {shape}; "
                    f"expected ({batch}, {heads}, {rows}, {keys}){hint}"
                )


def _broadcasts(shape: Shape, wanted: Shape) -> bool:
    padded = (1,) * (len(wanted) - len(shape)) + shape
    return len(padded) == len(wanted) and all(
        a in (1, w) for a, w in zip(padded, wanted, strict=True)
    )


def _check_dtypes(root: n.Output, dtypes: dict[str, torch.dtype]) -> None:
    """Check data whose kind the program fixes: indices are integers, conditions truth values."""
    for node in n.walk(root):
        if isinstance(node, n.Gather):
            for index in node.indices:
                _expect(
                    index,
                    dtypes,
                    "an integer, because it indexes " + f"'{node.array.name}'",
                    _is_integer,
                )
        conditions: tuple = ()
        if isinstance(node, n.Call) and node.op in ("and", "or", "not"):
            conditions = node.args
        elif isinstance(node, n.Call) and node.op == "where":
            conditions = node.args[:1]
        elif isinstance(node, n.Term | n.TopK | n.Running):
            conditions = (node.where,)
        for condition in conditions:
            _expect(
                condition,
                dtypes,
                "bool, because it is a condition",
                lambda dtype: dtype == torch.bool,
            )


def _check_observed(signature: Signature, dtypes: dict[str, torch.dtype]) -> None:
    """Check that classes are whole numbers, and what is summed as it is is not."""
    for name in signature.observe:
        what, _, rest = name.partition(":")
        feature, _, classes = rest.partition(":")
        if what != "mass" or feature not in dtypes:
            continue
        counted = _is_integer(dtypes[feature]) and dtypes[feature] != torch.bool
        if bool(classes) != counted:
            hint = f"mass:{feature}:4 if it tells 4 classes" if counted else f"mass:{feature}"
            raise InputError(f"'{name}': '{feature}' has dtype {dtypes[feature]}; write {hint}")


def _is_integer(dtype: torch.dtype) -> bool:
    return not dtype.is_floating_point and not dtype.is_complex


def _expect(node: n.Node | None, dtypes: dict[str, torch.dtype], what: str, fits) -> None:
    leaf = node.array if isinstance(node, n.Gather) else node
    name = getattr(leaf, "name", None)
    if isinstance(leaf, Named) and name in dtypes and not fits(dtypes[name]):
        raise InputError(f"'{name}' has dtype {dtypes[name]}; it must be {what}")


@lru_cache(maxsize=1024)
def check_names(
    root: n.Output, observe: tuple[str, ...], given: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """Check that exactly the program's inputs are given, and those that what is observed reads.

    Args:
        root: The program.
        observe: What is observed, by the names given.
        given: The names of the call's inputs beside q, k and v.
        options: The other keywords of the call, for hints.

    Raises:
        InputError: If one is unknown, or one without a default is missing.
    """
    inputs = {
        name: leaf
        for name, leaf in read_inputs(root, observe).items()
        if name not in ("q", "k", "v")
    }
    for name in given:
        if name not in inputs:
            raise InputError(f"the program reads no '{name}'; {nearest(name, [*inputs, *options])}")
    missing = [
        name for name, leaf in inputs.items() if name not in given and not _has_default(leaf)
    ]
    if missing:
        leaf = inputs[missing[0]]
        kind = {
            "Feature": "feature",
            "Array": "table",
            "Scalar": "run-time scalar",
            "PairInput": "pair input",
        }
        word = kind.get(type(leaf).__name__, "vector")
        reader = "the program" if missing[0] in named_inputs(root) else "what is observed"
        raise InputError(
            f"{reader} reads the {word} '{missing[0]}', which was not given; pass {missing[0]}=…"
        )


def _has_default(leaf: Named) -> bool:
    if isinstance(leaf, n.Array):
        return leaf.source == "parameter"
    if isinstance(leaf, n.Feature):
        return made_feature(leaf.name) is not None
    return isinstance(leaf, n.Scalar) and leaf.default is not None
