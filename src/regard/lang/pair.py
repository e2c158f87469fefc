"""Leaves: what a program may read at a (query, key) pair.

Leaves to others: computing with them (`functions`), and the last line (`weights`).
"""

from regard.errors import nearest
from regard.ir import nodes as n
from regard.lang.trace import Expr, build, fail

_SIZES_AND_POSITIONS = ("i", "j", "head", "heads", "batch", "queries", "keys", "width")
_ROWS = {"q": "query", "k": "key", "v": "key"}


class Pair:
    """One (query, key) pair, as a program's function receives it.

    Rows of channels: `q`, `k`, `v`. Absolute positions: `i`, `j`. The query head of the whole
    layer: `head`. Sizes: `heads`, `queries`, `keys` (this row's own length), `width` (D). `batch`
    is the row of the batch; `visible` is how many keys the surrounding `where` admits for this
    query.
    """

    def __getattr__(self, name: str) -> Expr:
        if name in _ROWS:
            return Expr(build(n.Vector, _ROWS[name], name))
        if name in _SIZES_AND_POSITIONS:
            return Expr(build(n.Index, name))
        if name == "visible":
            return Expr(build(n.Visible))
        known = [*_ROWS, *_SIZES_AND_POSITIONS, "visible"]
        fail(
            f"'{name}' is not something a program can read\n{nearest(name, known)}".replace(
                "known:", "a pair has:"
            )
        )


def parameter(
    name: str,
    per: str | int | tuple[str | int, ...] | None = None,
    init: n.Init | None = None,
) -> Expr:
    """Read a learned parameter.

    Args:
        name: Its name; also the keyword of `attend` and the name in a module's state_dict.
        per: None for one number, "head" (indexes itself), "channel" (varies along channels), a size
            (then index it: `table[pair.i - pair.j + 16]`), or a tuple of these; two "channel"s make
            a matrix for `project`.
        init: How it starts, from `rg.init`; zeros unless said.

    Returns:
        The traced parameter.
    """
    if init is not None and not isinstance(init, n.Init):
        fail(
            f"init={init!r} of parameter '{name}' is no initialiser; "
            "use rg.init.zeros, rg.init.normal(0.02), …"
        )
    return Expr(build(n.Array, "parameter", name, _axes(per), init or n.Init("zeros")))


def table(name: str, per: str | int | tuple[str | int, ...] = "rows") -> Expr:
    """Read given data by index; with gradient if the tensor given to `attend` requires it.

    Args:
        name: The keyword of `attend`.
        per: Its axes: "rows" for an index of any size, a size, "head", "channel" for rows of
            channels.

    Returns:
        The traced table: `table[index]`.
    """
    return Expr(build(n.Array, "table", name, _axes(per), None))


def _axes(per) -> tuple:
    if per is None:
        return ()
    return tuple(per) if isinstance(per, tuple | list) else (per,)


def scalar(name: str, default: float | None = None) -> Expr:
    """Read a run-time number, such as a temperature; changing it rebuilds nothing.

    Args:
        name: The keyword of `attend`.
        default: What it is when not given; None makes it required.

    Returns:
        The traced number.
    """
    return Expr(build(n.Scalar, name, None if default is None else float(default)))


def query_feature(name: str) -> Expr:
    """Read a number per query token, a tensor that broadcasts to (B, H, N), of any dtype.

    Args:
        name: The keyword of `attend`.

    Returns:
        The traced number.
    """
    return Expr(build(n.Feature, "query", name))


def key_feature(name: str) -> Expr:
    """Read a number per key token, a tensor that broadcasts to (B, G or H, M), of any dtype.

    Args:
        name: The keyword of `attend`.

    Returns:
        The traced number.
    """
    return Expr(build(n.Feature, "key", name))


def query_vector(name: str) -> Expr:
    """Read a further row of channels per query, (B, H, N, any width).

    Args:
        name: The keyword of `attend`.

    Returns:
        The traced row.
    """
    return Expr(build(n.Vector, "query", name))


def key_vector(name: str) -> Expr:
    """Read a further row of channels per key, (B, G, M, any width).

    Args:
        name: The keyword of `attend`.

    Returns:
        The traced row.
    """
    return Expr(build(n.Vector, "key", name))


def pair_input(name: str) -> Expr:
    """Read a dense tensor (B or 1, H or 1, N, M); integer ones may index.

    Args:
        name: The keyword of `attend`.

    Returns:
        The traced number.
    """
    return Expr(build(n.PairInput, name))


channel = Expr(build(n.Channel))
