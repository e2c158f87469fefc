"""What a call can return beside its output: the statistics of normalised terms, and the weights."""

from torch import Tensor

from regard.errors import InputError, nearest
from regard.ir import nodes as n
from regard.reference.weights import Algebra, without_dropout


def observe(root: n.Output, name: str, algebra: Algebra) -> Tensor:
    """Compute one observed value.

    Args:
        root: The program.
        name: "weights", "lse", "max", "entropy" or "sink"; the last four as "lse:NAME" where
            several terms have one.
        algebra: The call's weights.

    Returns:
        (B, H, N), or (B, H, N, M) for "weights".

    Raises:
        InputError: If the program has no such value, or has several.
    """
    if name == "weights":
        return algebra.evaluate(without_dropout(root.weights)).dense
    terms = [node for node in n.walk(root.weights) if isinstance(node, n.Term)]
    found: dict[str, dict[n.Term, Tensor]] = {}
    for term in terms:
        for kind, value in algebra.evaluate(term).rows.items():
            found.setdefault(kind, {})[term] = value
            found.setdefault(f"{kind}:{term.name}", {})[term] = value
    if name not in found:
        raise InputError(f"'{name}' cannot be observed here; {nearest(name, [*found, 'weights'])}")
    if len(found[name]) > 1:
        kind = name.partition(":")[0]
        names = sorted(f"{kind}:{term.name}" for term in found[name])
        raise InputError(f"{len(names)} terms have '{name}'; name one: {', '.join(names)}")
    return next(iter(found[name].values()))
