"""Tell whether weights are sums of products of what one query and what one key decides.

Before: ratio(dot(f(q), g(k)) · exp(-(i - j) / 8), where = j <= i).
After: causal; one product: f(q) and g(k) summed over channels, exponents -i / 8 and 1 / 8 · j.

Such weights need no pairs: a state of sums over keys, g(k) ⊗ v, serves every query, so a call takes
time linear in the keys. Leaves to others: the state (`backends/linear`), and when it pays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product as cross
from typing import NoReturn

from regard.ir import nodes as n
from regard.ir.types import axes_of, type_of
from regard.passes.build import ONE, ZERO, add, both, call, mul, neg
from regard.passes.shift_exponents import has_exponentials

_CAUSAL = {call("le", n.Index("j"), n.Index("i")), call("ge", n.Index("i"), n.Index("j"))}
# More products than this would cost more than the pairs that they save.
_MOST_PRODUCTS = 32


@dataclass(frozen=True)
class Product:
    """query · key · exp(query_exponent + key_exponent), summed over channels if `dot`.

    Attributes:
        query: An expression of query rows.
        key: An expression of key rows.
        dot: Whether query · key is summed over channels; if not, it has none.
        query_exponent: The part of a decay's exponent that query rows decide, a number per row.
        key_exponent: The part that key rows decide.
    """

    query: n.Node = ONE
    key: n.Node = ONE
    dot: bool = False
    query_exponent: n.Node = ZERO
    key_exponent: n.Node = ZERO


@dataclass(frozen=True)
class LinearProgram:
    """A program as sums of products.

    Attributes:
        num: The products whose sum is the weight, before it is divided.
        den: The products whose row sum divides; None if nothing does.
        add: Added to that row sum.
        at_least: Its lower bound.
        causal: Whether a query sees the keys j <= i alone.
        queries: A condition of query rows without which they see nothing, or None.
        keys: A condition of key rows without which nothing sees them, or None.
        values: The key rows that are summed.
        finish: What is made of the summed row, or None.
    """

    num: tuple[Product, ...]
    den: tuple[Product, ...] | None
    add: n.Node
    at_least: n.Node
    causal: bool
    queries: n.Node | None
    keys: n.Node | None
    values: n.Node
    finish: n.Node | None


class _Inseparable(Exception):
    """Says why an expression is no sum of products."""


def recognise_linear(root: n.Output, seeded: bool = False) -> LinearProgram | str:
    """Recognise weights that can be summed by state.

    Args:
        root: The program.
        seeded: Whether random booleans are drawn.

    Returns:
        Its parts, or the reason why it is something else.
    """
    try:
        return _recognise(root, seeded)
    except _Inseparable as reason:
        return str(reason)


def _recognise(root: n.Output, seeded: bool) -> LinearProgram:
    term, factor = _split_weights(root.weights, seeded)
    if any(isinstance(node, n.Visible | n.TopK) for node in n.walk(term)):
        _refuse("it counts or selects keys per row")
    if any(isinstance(node, n.KeyMax) for node in n.walk(root)):
        _refuse("it reads the largest value over keys")
    if "i" in axes_of(root.values):
        _refuse("its values depend on the query")
    causal, queries, keys = _split_where(term.where, seeded)
    if isinstance(term, n.Weigh):
        num, den, offset, bound = split_products(mul(term.weight, factor)), None, ZERO, ZERO
    else:
        offset, bound = term.add, term.at_least
        bounded = not (_is_zero(offset) and _is_zero(bound))
        if term.scaled and bounded and (has_exponentials(term.num) or has_exponentials(term.den)):
            _refuse("its bounds are meant after scaling by the row's largest exponential")
        num, den = split_products(mul(term.num, factor)), split_products(term.den)
    return LinearProgram(num, den, offset, bound, causal, queries, keys, root.values, root.finish)


def _refuse(reason: str) -> NoReturn:
    raise _Inseparable(reason)


def _is_zero(node: n.Node) -> bool:
    return isinstance(node, n.Const) and node.value == 0


def _split_weights(weights: n.Node, seeded: bool) -> tuple[n.Weigh | n.Ratio, n.Node]:
    """Return the one term of weights, and what its weights are multiplied by."""
    factor: n.Node = ONE
    while not isinstance(weights, n.Term):
        if isinstance(weights, n.Dropout) and not seeded:
            weights = weights.weights
            continue
        parts = [arg for arg in n.children(weights) if type_of(arg).weights]
        if not isinstance(weights, n.Call) or len(parts) != 1:
            _refuse("its weights are not one weigh or ratio")
        match weights:
            case n.Call("neg", _):
                factor = neg(factor)
            case n.Call("mul", (a, b)):
                factor = mul(factor, b if a is parts[0] else a)
            case n.Call("div", (a, b)) if a is parts[0]:
                factor = call("div", factor, b)
            case _:
                _refuse("its weights are not one weigh or ratio")
        weights = parts[0]
    if not isinstance(weights, n.Weigh | n.Ratio):
        _refuse("its weights are not one weigh or ratio")
    return weights, factor


def _split_where(where: n.Node | None, seeded: bool) -> tuple[bool, n.Node | None, n.Node | None]:
    """Return whether a condition is causal, and its parts that are of queries and of keys."""
    causal, queries, keys = False, None, None
    for part in _conjuncts(where):
        axes = axes_of(part)
        if isinstance(part, n.Keep) and not seeded:
            continue
        if part in _CAUSAL:
            causal = True
        elif "j" not in axes:
            queries = both(queries, part)
        elif "i" not in axes:
            keys = both(keys, part)
        else:
            _refuse("its mask is not all keys or j <= i, beside conditions of one row")
    return causal, queries, keys


def _conjuncts(where: n.Node | None) -> Iterator[n.Node]:
    stack = [] if where is None else [where]
    while stack:
        node = stack.pop()
        if isinstance(node, n.Call) and node.op == "and":
            stack.extend(reversed(node.args))
        else:
            yield node


def split_products(node: n.Node) -> tuple[Product, ...]:
    """Write a number of a pair as a sum of products.

    Args:
        node: An expression of a pair, or of one channel of a pair.

    Returns:
        The products.

    Raises:
        _Inseparable: If it is no such sum; the message says why.
    """
    if isinstance(node, n.Call) and node.op in ("exp", "pow") and "c" not in axes_of(node):
        found = _split_power(node)
        if found is not None:
            return found
    axes = axes_of(node)
    if not ("i" in axes and "j" in axes) and not _is_power_beside_others(node):
        return (Product(key=node) if "j" in axes else Product(query=node),)
    match node:
        case n.Reduce(body, "c"):
            return tuple(_sum_channels(one) for one in split_products(body))
        case n.Call("add" | "sub", (a, b)):
            right = split_products(b)
            right = right if node.op == "add" else tuple(map(_negative, right))
            return _few((*split_products(a), *right))
        case n.Call("neg", (a,)):
            return tuple(map(_negative, split_products(a)))
        case n.Call("mul", (a, b)):
            pairs = cross(split_products(a), split_products(b))
            return _few(tuple(_multiply(left, right) for left, right in pairs))
        case n.Call("div", (a, b)):
            return tuple(_divide(left, b) for left in split_products(a))
    return _refuse(f"it reads query and key together in '{_name(node)}'")


def _is_power_beside_others(node: n.Node) -> bool:
    """Tell whether a number is a product with exponentials, which by themselves might overflow."""
    if "c" in axes_of(node) or not isinstance(node, n.Call):
        return False
    return node.op in ("mul", "div", "neg") and has_exponentials(node)


def _name(node: n.Node) -> str:
    return node.op if isinstance(node, n.Call) else type(node).__name__.lower()


def _few(products: tuple[Product, ...]) -> tuple[Product, ...]:
    if len(products) > _MOST_PRODUCTS:
        _refuse(f"it is a sum of more than {_MOST_PRODUCTS} products")
    return products


def _negative(one: Product) -> Product:
    query = one.query
    if isinstance(query, n.Const):
        return replace(one, query=n.Const(-query.value))
    if isinstance(query, n.Call) and query.op == "neg":
        return replace(one, query=query.args[0])
    return replace(one, query=neg(query))


def _sum_channels(one: Product) -> Product:
    if one.dot:
        _refuse("it sums over channels what is summed over channels already")
    if any("c" in axes_of(part) for part in (one.query_exponent, one.key_exponent)):
        _refuse("its decay differs between channels")
    return replace(one, dot=True)


def _multiply(a: Product, b: Product) -> Product:
    if a.dot and b.dot:
        _refuse("it multiplies two dot products")
    return Product(
        mul(a.query, b.query),
        mul(a.key, b.key),
        a.dot or b.dot,
        add(a.query_exponent, b.query_exponent),
        add(a.key_exponent, b.key_exponent),
    )


def _divide(one: Product, by: n.Node) -> Product:
    axes = axes_of(by)
    if "i" in axes and "j" in axes:
        _refuse("it divides by a number of query and key together")
    if "j" in axes:
        return replace(one, key=call("div", one.key, by))
    return replace(one, query=call("div", one.query, by))


def _split_power(node: n.Call) -> tuple[Product, ...] | None:
    """Return exp(x), or base ** x, as one product whose exponent is a sum of both sides' parts."""
    scale = ONE
    exponent = node.args[-1]
    if node.op == "pow":
        axes = axes_of(node.args[0])
        # Only a base that is the same at all pairs of a head makes a decay.
        if "i" in axes or "j" in axes or not {"i", "j"} <= set(axes_of(exponent)):
            return None
        scale = call("log", node.args[0])
    elif not {"i", "j"} & set(axes_of(exponent)):
        return None
    query, key = ZERO, ZERO
    for part in split_products(exponent):
        if part.dot or not (_is_one_sided(part)):
            _refuse(f"it reads query and key together in '{node.op}'")
        value = mul(scale, mul(part.query, part.key))
        if "j" in axes_of(value):
            key = add(key, value)
        else:
            query = add(query, value)
    return (Product(query_exponent=query, key_exponent=key),)


def _is_one_sided(part: Product) -> bool:
    axes = "".join(axes_of(x) for x in (part.query, part.key))
    plain = _is_zero(part.query_exponent) and _is_zero(part.key_exponent)
    return plain and not ("i" in axes and "j" in axes)
