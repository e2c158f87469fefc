"""The shapes of a program's arrays and how parameters start.

Leaves to others: making them learnable in a module (`nn`).
"""

import math

import torch
from torch import Tensor

from regard.errors import InputError
from regard.ir import nodes as n
from regard.passes.infer_widths import infer_widths


def array_shape(
    array: n.Array, heads: int, widths: dict[n.Node, int], rows_in: int | None = None
) -> tuple[int | None, ...]:
    """Return an array's shape; None stands for an axis of any size.

    Args:
        array: A parameter or table.
        heads: How many heads the whole layer has.
        widths: From `infer_widths`.
        rows_in: For a projection matrix, the width of what it multiplies.

    Returns:
        One size per axis of `array.per`.
    """
    shape: list[int | None] = []
    channels = array.per.count("channel")
    for axis in array.per:
        if axis == "head":
            shape.append(heads)
        elif axis == "channel":
            first_of_two = channels == 2 and len(shape) == len(array.per) - 2
            shape.append(rows_in if first_of_two else widths.get(array))
        else:
            shape.append(axis if isinstance(axis, int) else None)
    return tuple(shape)


def matrix_inputs(root: n.Output, widths: dict[n.Node, int]) -> dict[n.Array, int | None]:
    """Return for each projection matrix the width of the rows it multiplies."""
    return {
        node.matrix: widths.get(node.rows) for node in n.walk(root) if isinstance(node, n.Project)
    }


def row_widths(root: n.Output, known: dict[str, int], otherwise: int) -> dict[str, int]:
    """Return the widths of a program's named rows and of its arrays with channels.

    Args:
        root: The program.
        known: Widths of rows by name.
        otherwise: The width of a row that nothing decides.

    Returns:
        Widths by name, those known among them. A projection matrix has the width of its result.

    Raises:
        InputError: If two widths meet in one expression.
    """
    found = dict(known)
    for node in n.walk(root):
        if not isinstance(node, n.Vector | n.Array) or node.name in found:
            continue
        if isinstance(node, n.Vector) or node.per[-1:] == ("channel",):
            widths = infer_widths(root, found)
            found |= {x.name: w for x, w in widths.items() if isinstance(x, n.Vector | n.Array)}
            found.setdefault(node.name, max(otherwise, _last_channel(root, node)))
    return found


def _last_channel(root: n.Output, rows: n.Node) -> int:
    """Return how many channels rows must have for all slices of them to exist."""
    slices = (x for x in n.walk(root) if isinstance(x, n.Slice) and x.rows is rows)
    return max((x.stop or 0 for x in slices), default=0)


def array_shapes(
    root: n.Output, heads: int, known: dict[str, int]
) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of a program's parameters and tables.

    Args:
        root: The program.
        heads: How many heads the layer has.
        known: Widths of rows by name; "q", "k" and "v" at least.

    Returns:
        Shapes by name, in the order of the program; None stands for an axis of any size.
    """
    widths = infer_widths(root, known)
    inputs = matrix_inputs(root, widths)
    arrays = [node for node in n.walk(root) if isinstance(node, n.Array)]
    return {array.name: array_shape(array, heads, widths, inputs.get(array)) for array in arrays}


def parameter_shapes(
    root: n.Output, heads: int, known: dict[str, int]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a program's parameters.

    Args:
        root: The program.
        heads: How many heads the layer has.
        known: Widths of rows, and of parameters that meet none, by name; "q", "k" and "v" at
            least.

    Returns:
        Shapes by name, in the order of the program.

    Raises:
        InputError: If nothing decides how many channels a parameter has.
    """
    learned = {
        node.name
        for node in n.walk(root)
        if isinstance(node, n.Array) and node.source == "parameter"
    }
    shapes = {}
    for name, shape in array_shapes(root, heads, known).items():
        if name not in learned:
            continue
        if None in shape:
            raise InputError(
                f"nothing decides how many channels parameter '{name}' has; combine it with a row, "
                f"or give a layer widths={{'{name}': …}}{_not_read(root, known)}"
            )
        shapes[name] = tuple(size for size in shape if size is not None)
    return shapes


def _not_read(root: n.Output, known: dict[str, int]) -> str:
    """Name a width that is given for nothing, probably misspelt."""
    read = {x.name for x in n.walk(root) if isinstance(x, n.Vector | n.Array)}
    lost = sorted(known.keys() - {"q", "k", "v", *read})
    return f"; '{lost[0]}', whose width is given, is not read" if lost else ""


def alibi_slopes(heads: int) -> list[float]:
    """Return ALiBi's slopes, steepest first.

    Args:
        heads: How many heads.

    Returns:
        2^(-8/H), 2^(-16/H), …; for other numbers than powers of two, those of the next lower power
        and every second one of the next higher.

    Source: Press, Smith and Lewis 2021, arXiv 2108.12409.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-4.0 * (h + 1) / power) for h in range(0, 2 * (heads - power), 2)]
    return slopes + between


@torch.no_grad()
def initial_tensor(
    array: n.Array, shape: tuple[int, ...], generator: torch.Generator | None = None
) -> Tensor:
    """Return a parameter's first value, float32.

    Args:
        array: The parameter.
        shape: Its shape.
        generator: What random initialisers draw from; torch's own unless given.

    Returns:
        The tensor.

    Raises:
        InputError: If the initialiser does not fit the shape.
    """
    init = array.init or n.Init("zeros")
    match init.name:
        case "zeros" | "ones":
            return torch.full(shape, float(init.name == "ones"))
        case "constant":
            return torch.full(shape, init.numbers[0])
        case "normal":
            return torch.empty(shape).normal_(0.0, init.numbers[0], generator=generator)
        case "uniform":
            return torch.empty(shape).uniform_(*init.numbers, generator=generator)
        case "alibi":
            if array.per[:1] != ("head",):
                raise InputError(
                    "init.alibi gives a slope per head; "
                    f"parameter '{array.name}' needs per=\"head\""
                )
            slopes = torch.tensor(alibi_slopes(shape[0]))
            return slopes.view(-1, *(1 for _ in shape[1:])).expand(shape).clone()
        case "identity":
            if len(shape) < 2 or shape[-1] != shape[-2]:
                raise InputError(
                    f"init.identity needs a square matrix; parameter '{array.name}' is {shape}"
                )
            return torch.eye(shape[-1]).expand(shape).clone()
        case _:
            raise AssertionError(f"verify lets no initialiser '{init.name}' through")
