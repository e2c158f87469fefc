"""What the catalogue holds: a published mechanism as a program, its source and when to use it.

Leaves to others: the mechanisms themselves, one file a family; finding one by name (`find`).
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from regard.errors import InputError, nearest
from regard.ir.program import AttentionProgram
from regard.lang.program import program
from regard.lang.trace import Expr


@dataclass(frozen=True, eq=False, repr=False)
class Variant:
    """A published attention mechanism.

    Attributes:
        fn: The function of a pair that says it; keyword arguments are its knobs.
        title: What its authors call it.
        source: Who published it and when, e.g. "Vaswani et al. 2017".
        link: Where to read it.
        contracts: What its program promises, with the knobs as published; see `rg.check`.
    """

    fn: Callable[..., Expr]
    title: str
    source: str
    link: str
    contracts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is found by."""
        return self.fn.__name__

    @property
    def family(self) -> str:
        """The part of attention that it changes: the name of the file it stands in."""
        return self.fn.__module__.rpartition(".")[2]

    @property
    def use(self) -> str:
        """When to use it: the paragraph below the first line of its docstring."""
        return " ".join(inspect.cleandoc(self.fn.__doc__ or "").partition("\n\n")[2].split())

    @property
    def says(self) -> str:
        """What it does, in one line."""
        return inspect.cleandoc(self.fn.__doc__ or "").partition("\n")[0]

    @property
    def code(self) -> str:
        """The lines of its function, without the docstring."""
        source = textwrap.dedent(inspect.getsource(self.fn))
        head, _, rest = source.partition('"""')
        start = head.index("def ")
        return head[start:].rstrip() + "\n    " + rest.partition('"""')[2].strip()

    @cached_property
    def knobs(self) -> dict[str, Any]:
        """The published value of each thing that can be set, by name."""
        return dict(self.fn.__kwdefaults__ or {})

    @cached_property
    def program(self) -> AttentionProgram:
        """The program, with the knobs as published."""
        return program(self.fn, contracts=self.contracts)

    def __call__(self, *unnamed: Any, **knobs: Any) -> AttentionProgram:
        """Return the program with other knobs.

        Args:
            *unnamed: None: knobs are given by name.
            **knobs: Other values for some of `knobs`.

        Returns:
            The program. What it promises is not carried over, as knobs decide that.

        Raises:
            InputError: If it has no such knob, or one is given without its name.
        """
        if unnamed:
            named = ", ".join(f"{name}=…" for name in self.knobs) if self.knobs else "it has none"
            raise InputError(
                f"{self.name} takes its knobs by name: {named}; to compute with it, "
                f"rg.attend(rg.catalogue.{self.name}.program, q, k, v)"
            )
        for one in knobs:
            if one not in self.knobs:
                has = nearest(one, self.knobs) if self.knobs else "it has none"
                raise InputError(f"'{one}' is no knob of {self.name}; {has}")
        if not knobs:
            return self.program
        fn = self.fn
        assert isinstance(fn, FunctionType)
        turned = FunctionType(fn.__code__, fn.__globals__, fn.__name__, None, fn.__closure__)
        turned.__kwdefaults__ = {**self.knobs, **knobs}
        turned.__doc__ = fn.__doc__
        return program(turned)

    def __repr__(self) -> str:
        return f"<{self.title}, {self.source}: rg.catalogue.{self.name}>"


def variant(
    title: str, source: str, link: str, contracts: tuple[str, ...] = ()
) -> Callable[[Callable[..., Expr]], Variant]:
    """Make a function of a pair an entry of the catalogue.

    Its docstring says in one line what it does, then, after an empty line, when to use it.

    Args:
        title: What its authors call it.
        source: Who published it and when.
        link: Where to read it: an address, or an arXiv number.
        contracts: What its program promises.

    Returns:
        A decorator.
    """
    where = f"https://arxiv.org/abs/{link}" if link[:4].isdigit() else link
    return lambda fn: Variant(fn, title, source, where, contracts)
