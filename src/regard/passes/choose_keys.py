"""Take the choice of each row's largest scores out of a program: it needs a sweep of its own.

Before: softmax(s, where=topk(s, 5, where=j <= i)).
After: softmax(s, where=(j <= i) & chosen:0), and a Choice, told by the Hole "chosen:0", of the 5
largest s with j <= i.
Leaves to others: finding the keys (the backends).
"""

from dataclasses import dataclass

from regard.ir import nodes as n
from regard.passes.build import both


@dataclass(frozen=True)
class Choice:
    """The keys of the k largest scores of each row; of equal ones those of the lower key row.

    Attributes:
        hole: Whether a pair is chosen.
        score: What is compared; a key of -inf is never chosen.
        k: How many, a row expression.
        where: Which keys take part; it may read the holes of earlier choices.
    """

    hole: n.Hole
    score: n.Node
    k: n.Node
    where: n.Node | None

    @property
    def columns(self) -> str:
        """The name of the row value that holds the chosen key rows."""
        return columns_of(self.hole)


def columns_of(hole: n.Hole) -> str:
    """Return the name of the row value that tells which keys a hole "chosen:0" stands for."""
    return f"columns:{hole.name.partition(':')[2]}"


def choose_keys(root: n.Output) -> tuple[n.Output, tuple[Choice, ...]]:
    """Replace every choice of keys by a hole.

    Args:
        root: The program.

    Returns:
        The program without TopK nodes, and the choices, each after those it reads.
    """
    choices: list[Choice] = []

    def change(node: n.Node) -> n.Node | None:
        if not isinstance(node, n.TopK):
            return None
        hole = n.Hole(f"chosen:{len(choices)}", "bhij", "bool")
        choices.append(Choice(hole, node.score, node.k, node.where))
        return both(node.where, hole)

    rewritten = n.rewrite(root, change)
    assert isinstance(rewritten, n.Output)
    return rewritten, tuple(choices)
