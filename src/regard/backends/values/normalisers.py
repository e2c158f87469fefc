"""What normalisers hand on in backward, once a sweep has found what they receive.

Leaves to others: that sweep, whose expressions are those of `passes/adjoint`.
"""

import torch
from torch import Tensor

from regard.passes.lower import Lowered


def spent_by_normalisers(lowered: Lowered, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return gd and gl of the terms whose normalisers received something.

    Args:
        lowered: The program.
        rows: Row values: r, and what normalisers received.

    Returns:
        Row values by hole name.
    """
    found = {}
    for term in lowered.terms:
        name = term.name
        if f"gr:{name}" in rows:
            found[f"gd:{name}"] = rows[f"gr:{name}"] * rows[f"r:{name}"]
        if f"gt:{name}" in rows:
            slope = rows[f"st:{name}"]
            # A row that sees nothing has no slope.
            carried = -rows[f"gt:{name}"] / torch.where(slope == 0, 1.0, slope)
            found[f"gl:{name}"] = torch.where(slope == 0, 0.0, carried)
    return found
