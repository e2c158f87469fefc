"""From a Python function to an attention program.

Leaves to others: everything that happens to the program afterwards.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from regard.errors import ProgramError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ir.types import type_of
from regard.ir.verify import verify, verify_program
from regard.lang import tracer
from regard.lang.pair import Pair
from regard.lang.trace import Expr


@overload
def program(fn: Callable[[Pair], Any], *, contracts: Sequence[str] = ()) -> AttentionProgram: ...
@overload
def program(
    *, contracts: Sequence[str] = ()
) -> Callable[[Callable[[Pair], Any]], AttentionProgram]: ...


def program(fn: Any = None, *, contracts: Sequence[str] = ()) -> Any:
    """Trace a function of one pair into an attention program; usable as a decorator.

    The function runs once, here, on traced values; the program is data from then on.

    Args:
        fn: A function of one argument, the `Pair`, that returns weights or `rg.output(…)`.
        contracts: What the program promises, e.g. ["causal", "window <= 256"]; see `rg.check`.

    Returns:
        The program (or a decorator, when called without a function).

    Raises:
        ProgramError: If the function says something without a meaning; the message shows its line.
            If the program breaks a contract it declares; the message shows a pair.
    """
    if fn is None:
        return lambda function: program(function, contracts=contracts)
    _check_signature(fn)
    with tracer.tracing():
        result = fn(Pair())
    where = f"{fn.__name__} ({Path(fn.__code__.co_filename).name}:{fn.__code__.co_firstlineno})"
    try:
        root = _root(result)
        verify_program(root)
        doc = inspect.getdoc(fn) or ""
        return AttentionProgram(root=root, name=fn.__name__, doc=doc, contracts=tuple(contracts))
    except ProgramError as problem:
        first, *hints = str(problem).split("\n")
        raise ProgramError("\n".join([first, f"  {where}", *hints])) from None


def _check_signature(fn: Any) -> None:
    if not inspect.isfunction(fn):
        raise ProgramError(f"rg.program takes a function of one pair, not {fn!r}")
    required = [p for p in inspect.signature(fn).parameters.values() if p.default is p.empty]
    if len(required) != 1:
        raise ProgramError(
            f"{fn.__name__} takes {len(required)} arguments; "
            f"a program takes one, the pair: def {fn.__name__}(pair)"
        )


def _root(result: Any) -> n.Output:
    if not isinstance(result, Expr):
        found = "nothing (is a `return` missing?)" if result is None else repr(result)
        raise ProgramError(f"the program returned {found}; return weights, e.g. rg.softmax(score)")
    node = result.node
    if isinstance(node, n.Output):
        return node
    if not type_of(node).weights:
        raise ProgramError(
            "the program returned a score, not weights\n"
            "wrap it: rg.softmax(score), or rg.weigh(score) to use it as it is"
        )
    root = verify(n.Output(node, verify(n.Vector("key", "v")), None))
    assert isinstance(root, n.Output)
    return root
