"""What a ready mode is: a stated intent, and a program for each role it speaks to.

Leaves to others: the modes themselves (`collection`), what a mode is (`mode`).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from regard.errors import InputError, nearest
from regard.ir.program import AttentionProgram
from regard.modes.mode import Assignment, Mode

Programs = Mapping[str, AttentionProgram]


@dataclass(frozen=True, eq=False, repr=False)
class ReadyMode:
    """A mode that can be picked by what it is for.

    Attributes:
        fn: Returns its programs by role; keyword arguments are its knobs. Its docstring says the
            intent in one line and, after an empty line, when to use it.
    """

    fn: Callable[..., Programs]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.fn.__name__

    @property
    def intent(self) -> str:
        """What it is for, in one line."""
        return inspect.cleandoc(self.fn.__doc__ or "").partition("\n")[0]

    @property
    def use(self) -> str:
        """When to use it."""
        return " ".join(inspect.cleandoc(self.fn.__doc__ or "").partition("\n\n")[2].split())

    @cached_property
    def knobs(self) -> dict[str, Any]:
        """The value of each thing that can be set, by name."""
        return dict(self.fn.__kwdefaults__ or {})

    @cached_property
    def programs(self) -> Programs:
        """Its programs by role, with the knobs as they come."""
        return self.fn()

    def __call__(self, *roles: str, **knobs: Any) -> Mode:
        """Return the mode.

        Args:
            *roles: For which roles; all it speaks to if none is named. A model must have each.
            **knobs: Other values for some of `knobs`.

        Returns:
            A mode of its name and intent.

        Raises:
            InputError: If it has nothing for a role, or no such knob.
        """
        for one in knobs:
            if one not in self.knobs:
                has = nearest(one, self.knobs) if self.knobs else "it has none"
                raise InputError(f"'{one}' is no knob of mode {self.name}; {has}")
        programs = self.fn(**knobs) if knobs else self.programs
        for role in roles:
            if role not in programs:
                raise InputError(
                    f"mode {self.name} has nothing for role '{role}'; {nearest(role, programs)}"
                )
        chosen = [Assignment(role, programs[role]) for role in roles or programs]
        return Mode(self.name, self.intent, chosen)

    def __repr__(self) -> str:
        return f"<ready mode {self.name}: {self.intent}>"
