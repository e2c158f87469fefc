"""How many channels an expression has, found before it is evaluated.

`rg.channel` alone has no width: it takes that of the channel expression it stands in, which its
neighbours give. Leaves to others: checking widths against what the user meant (`ops/check`).
"""

from torch import Tensor

from regard.errors import InputError, ProgramError
from regard.ir import nodes as n


class Widths:
    """The channel counts of a program's expressions in one call."""

    def __init__(self, tensors: dict[str, Tensor]):
        """Prepare for one call.

        Args:
            tensors: The call's tensors by name.
        """
        self._tensors = tensors
        self._found: dict[n.Node, int | None] = {}

    def declare(self, node: n.Node, width: int) -> None:
        """Say how wide a value from outside is.

        Args:
            node: A Hole.
            width: Its number of channels.
        """
        self._found[node] = width

    def of(self, root: n.Node) -> int | None:
        """Return how many channels an expression has.

        Args:
            root: Any expression.

        Returns:
            The number, or None if it has no channels or takes any number of them.
        """
        if root not in self._found:
            for node in n.walk(root):
                if node not in self._found:
                    self._found[node] = self._derive(node)
        return self._found[root]

    def need(self, root: n.Node) -> int:
        """Return how many channels an expression has, which must be known.

        Args:
            root: An expression that varies over channels.

        Returns:
            The number.

        Raises:
            ProgramError: If nothing in the expression says it.
        """
        width = self.of(root)
        if width is None:
            raise ProgramError(
                "nothing says how many channels rg.channel counts; combine it with a row, as pair.q"
            )
        return width

    def _derive(self, node: n.Node) -> int | None:
        match node:
            case n.Vector():
                return self._tensors[node.name].shape[-1]
            case n.Array() if "channel" in node.per:
                return self._tensors[node.name].shape[-1]
            case n.Gather():
                return self._found[node.array]
            case n.Rotate() | n.KeyMax():
                return self._found[node.rows]
            case n.Project():
                return self._found[node.matrix]
            case n.Slice():
                return _slice_width(node, self._found[node.rows])
            case n.Call():
                return self._agreed(node)
            case _:
                return None

    def _agreed(self, node: n.Call) -> int | None:
        widths = {width for arg in node.args if (width := self._found[arg]) is not None}
        if len(widths) > 1:
            found = " and ".join(map(str, sorted(widths)))
            raise InputError(
                f"'{node.op}' joins rows of {found} channels; they must be equally wide"
            )
        return next(iter(widths), None)


def _slice_width(node: n.Slice, rows: int | None) -> int | None:
    if rows is None:
        return None
    stop = rows if node.stop is None else min(node.stop, rows)
    return max(stop - node.start, 0)
