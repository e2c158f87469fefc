"""Names kept apart where parts of several programs meet.

Before: bias[i - j] of one program and bias[j] of another, of different sizes.
After: bias[i - j] and bias_2[j]. Leaves to others: putting parts together (`change`, `splice`).
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from regard.ir import nodes as n
from regard.passes.build import substitute


def rename_apart(root: n.Output, beside: n.Output | None = None) -> n.Output:
    """Give parameters and terms other names where several have one name.

    Args:
        root: The graph; what is met first keeps its name.
        beside: A program that will be joined to the graph, whose names are taken.

    Returns:
        The graph.
    """
    for kind in (n.Array, n.Term):
        taken = {one.name for one in _named(beside, kind)} if beside is not None else set()
        new: dict[n.Node, n.Node] = {}
        for node in _named(root, kind):
            name = _free(node.name, taken)
            taken.add(name)
            if name != node.name:
                new[node] = replace(node, name=name)
        renamed = substitute(root, new)
        assert isinstance(renamed, n.Output)
        root = renamed
    return root


def _named(root: n.Output, kind: Any) -> list:
    return [node for node in n.walk(root) if isinstance(node, kind)]


def _free(name: str, taken: Collection[str]) -> str:
    stem, number = re.sub(r"_\d+$", "", name), 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name
