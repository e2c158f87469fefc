"""What kind of attention a program is, by what can be shown of it: its traits.

Before: softmax(score, where = |i - j| <= 64).
After: {"window"}. A planted task names the traits of the modes that solve it; a search is right if
it finds them. Leaves to others: proofs (`passes/contracts`), tasks (`data/planted`).
"""

from collections.abc import Iterable

from regard.ir import nodes as n
from regard.ir.contracts import Contract
from regard.ir.types import axes_of
from regard.modes.mode import Mode
from regard.passes.contracts.prove import prove
from regard.search.parts import terms_of

TRAITS = {
    "window": "nothing further than a fixed distance is read",
    "positions": "scores or masks read where tokens stand",
    "distance": "scores read how far apart tokens stand",
    "ranges": "heads see different ranges",
    "sparse": "most weights of a row may be exactly 0",
    "unaveraged": "weights of a row need not sum to one",
    "contrast": "weights of one map are taken from those of another",
    "cosine": "rows are scored by likeness alone, whatever their lengths",
    "segments": "what may be seen goes by what tokens belong to",
}
_I, _J, _HEAD = n.Index("i"), n.Index("j"), n.Index("head")


def find_traits(root: n.Output) -> frozenset[str]:
    """Return the traits of a program.

    Args:
        root: The program.

    Returns:
        Keys of `TRAITS`.
    """
    rules = {
        "window": lambda: prove(root, Contract("window")).proved,
        "positions": lambda: bool({_I, _J} & _inside(root, "score", "where", "weight", "num")),
        "distance": lambda: {_I, _J} <= _inside(root, "score", "weight", "num"),
        "ranges": lambda: {_I, _J, _HEAD} <= _inside(root, "where"),
        "sparse": lambda: any(_is_sparse(node) for node in n.walk(root)),
        "unaveraged": lambda: any(_is_unaveraged(term) for term in terms_of(root)),
        "contrast": lambda: any(_is_contrast(node) for node in n.walk(root)),
        "cosine": lambda: _is_cosine(root),
        "segments": lambda: any(_is_segments(node) for node in _inside(root, "where")),
    }
    assert set(rules) == set(TRAITS)
    return frozenset(name for name, holds in rules.items() if holds())


def is_of_family(mode: Mode, role: str, family: Iterable[frozenset[str]]) -> bool:
    """Tell whether a mode is of a family, such as that of a planted task.

    Args:
        mode: The mode.
        role: The role that counts.
        family: Sets of traits, one of which the role's programs must have, all of them together;
            they have "ranges" if their windows differ, too.

    Returns:
        Whether it is.
    """
    roots = [one.program.root for one in mode.assignments if one.role == role]
    found = {trait for root in roots for trait in find_traits(root)}
    if len({_window(root) for root in roots}) > 1:
        found.add("ranges")
    return any(traits <= found for traits in family)


def _window(root: n.Output) -> float | None:
    finding = prove(root, Contract("window"))
    return finding.contract.limit if finding.proved else None


def _inside(root: n.Output, *names: str) -> set[n.Node]:
    """Return the nodes of some fields of a program's terms."""
    parts = [getattr(term, name, None) for term in terms_of(root) for name in names]
    return set(n.walk(*parts))


def _is_sparse(node: n.Node) -> bool:
    if isinstance(node, n.Entmax | n.TopK):
        return True
    weight = node.weight if isinstance(node, n.Weigh) else getattr(node, "num", None)
    return isinstance(weight, n.Call) and weight.op == "relu"


def _is_unaveraged(term: n.Term) -> bool:
    if isinstance(term, n.Softmax):
        return term.sink is not None
    if isinstance(term, n.Weigh):
        return n.Index("keys") not in n.walk(term.weight)
    return isinstance(term, n.Ratio) and term.num is not term.den


def _is_contrast(node: n.Node) -> bool:
    if not isinstance(node, n.Call) or node.op != "sub":
        return False
    return all(any(isinstance(x, n.Term) for x in n.walk(arg)) for arg in node.args)


def _is_cosine(root: n.Output) -> bool:
    """Tell whether a product of both rows is divided by a number that each row gives."""
    for node in _inside(root, "score", "weight", "num"):
        if isinstance(node, n.Reduce) and set("ij") <= set(axes_of(node)):
            divided = [x for x in n.walk(node) if isinstance(x, n.Call) and x.op == "div"]
            if any(_is_norm(one.args[1]) for one in divided):
                return True
    return False


def _is_norm(node: n.Node) -> bool:
    sums = any(isinstance(part, n.Reduce) for part in n.walk(node))
    return isinstance(node, n.Call) and node.op == "sqrt" and sums


def _is_segments(node: n.Node) -> bool:
    if not isinstance(node, n.Call) or node.op not in ("eq", "le", "ge", "lt", "gt"):
        return False
    return any(isinstance(part, n.Feature | n.Running | n.PairInput) for part in n.walk(node))
