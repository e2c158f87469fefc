"""What a call can return beside its output: values of terms, the weights, and what they add up to.

Leaves to others: the names (`ir/observed`), the weights themselves.
"""

import torch
from torch import Tensor

from regard.errors import InputError, nearest
from regard.ir import nodes as n
from regard.ir.observed import TERM_VALUES, Observed, parse
from regard.reference.context import Context
from regard.reference.terms import Weights
from regard.reference.weights import Algebra, without_dropout


def observe(root: n.Output, name: str, algebra: Algebra, context: Context) -> Tensor:
    """Compute one observed value.

    Args:
        root: The program.
        name: A name of `ir/observed`; "lse", "max", "entropy" and "sink" need no term where one
            alone has them.
        algebra: The call's weights.
        context: The call.

    Returns:
        The value, along the axes that its name says.

    Raises:
        InputError: If the program has no such value, or has several.
    """
    asked = parse(name)
    if asked.kind in TERM_VALUES or asked.kind not in (*_SUMS, "weights"):
        return _of_term(root, name, algebra)
    weights = algebra.evaluate(without_dropout(root.weights))
    if asked.kind == "weights":
        return weights.dense
    return _SUMS[asked.kind](weights, asked, context)


def _of_term(root: n.Output, name: str, algebra: Algebra) -> Tensor:
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


def _mass(weights: Weights, asked: Observed, context: Context) -> Tensor:
    if not asked.of:
        return weights.dense.sum(-1)
    return _weighed(weights, _feature(asked, context)).sum(-1)


def _classes(weights: Weights, asked: Observed, context: Context) -> Tensor:
    feature = _feature(asked, context)
    classes = [_weighed(weights, feature == c).sum(-1) for c in range(asked.size)]
    return torch.stack(classes, -1)


def _moment(weights: Weights, asked: Observed, context: Context) -> Tensor:
    bound = context.bound
    gap = bound.query_positions[:, None, :, None] - bound.key_positions[:, None, None, :]
    distance = gap.abs().to(context.dtype)
    first = _weighed(weights, distance).sum(-1)
    if asked.size == 1:
        return first
    total = weights.dense.sum(-1)
    # The derivative in the mean is 0 at the mean.
    mean = (first / total.masked_fill(total == 0, 1)).masked_fill(total == 0, 0).detach()
    return _weighed(weights, (distance - mean[..., None]) ** 2).sum(-1)


def _received(weights: Weights, asked: Observed, context: Context) -> Tensor:
    return weights.dense.sum(-2)


def _top(weights: Weights, asked: Observed, context: Context) -> Tensor:
    return _ranked(weights, asked)[0]


def _keys(weights: Weights, asked: Observed, context: Context) -> Tensor:
    return _ranked(weights, asked)[1]


def _ranked(weights: Weights, asked: Observed) -> tuple[Tensor, Tensor]:
    """Return the largest weights of each row, 0 where it sees fewer, and their keys, -1 there."""
    found = weights.dense.masked_fill(~weights.mask, -torch.inf)
    missing = max(0, asked.size - found.shape[-1])
    found = torch.nn.functional.pad(found, (0, missing), value=-torch.inf)
    ordered = found.sort(dim=-1, descending=True, stable=True)
    values, keys = ordered.values[..., : asked.size], ordered.indices[..., : asked.size]
    none = values == -torch.inf
    return values.masked_fill(none, 0), keys.masked_fill(none, -1)


def _feature(asked: Observed, context: Context) -> Tensor:
    """Return a feature of keys as (B or 1, H or 1, 1, M)."""
    feature = context.bound.tensors[asked.of]
    heads = context.grid["h"]
    if feature.shape[1] not in (1, heads):
        feature = feature.repeat_interleave(heads // feature.shape[1], 1)
    return feature.unsqueeze(2)


def _weighed(weights: Weights, factor: Tensor) -> Tensor:
    """Return weights times a factor, which may be NaN where a pair is hidden."""
    return (weights.dense * factor).masked_fill(~weights.mask, 0)


_SUMS = {
    "mass": _mass,
    "classes": _classes,
    "moment": _moment,
    "received": _received,
    "top": _top,
    "keys": _keys,
}
