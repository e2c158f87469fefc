"""The part `attention` of a task file: what attention should do, and what is written down of it.

Leaves to others: the terms themselves and the statistics (`train`).
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from regard.data.kinds import DataKind
from regard.errors import nearest
from regard.modes import ROLES
from regard.tasks.model_settings import ModelSettings
from regard.tasks.settings import Count, Settings

Term = Literal["entropy", "distance", "mass", "agreement"]
Tokens = Literal["first", "special", "punctuation"]
_GOALS = ("minimise", "maximise")


def _check_goal(value: Any) -> Any:
    if value is None or value in _GOALS:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"should be minimise, maximise or a number, found {value!r}")


def _check_numbers(value: Any) -> Any:
    listed = [value] if isinstance(value, int) and not isinstance(value, bool) else value
    if listed is None:
        return None
    if isinstance(listed, list) and listed and all(type(one) is int for one in listed):
        return listed
    raise ValueError(f"should be a number or a list of numbers, found {value!r}")


def _check_every(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return int(value)
    if value == 0 and isinstance(value, int):
        return 0
    raise ValueError(f"should be true, false or a number of evaluations, found {value!r}")


Numbers = Annotated[list[int] | None, BeforeValidator(_check_numbers)]


class Regulariser(Settings):
    """A term of the loss that says what attention should do.

    Attributes:
        term: What is observed: `entropy` of the weights in nats, mean `distance` of query and key,
            `mass` of the weights on some keys, or `agreement` with what rows say.
        goal: "minimise" or "maximise" what is observed, or a number it should be near: the mean
            square of the difference; not for agreement.
        tokens: The keys whose mass is meant: the first, special tokens or punctuation.
        within: Or those at most so many tokens away.
        to: The field agreed with, `rationale` or `word_weights`, or `alignment` of translations;
            None: the kind's first.
        role: Of the attention, e.g. "encoder"; None where the model has one, or as `to` implies.
        layers: Numbers from 0, or from the last as -1; None: all.
        heads: Likewise.
        weight: The term counts so many times in the loss.
        name: What it is called in the log; None: as `term`.
    """

    term: Term
    goal: Annotated[str | float | None, BeforeValidator(_check_goal)] = None
    tokens: Tokens | None = None
    within: Count | None = None
    to: str | None = None
    role: str | None = None
    layers: Numbers = None
    heads: Numbers = None
    weight: Annotated[float, Field(gt=0)] = 0.01
    name: Annotated[str, Field(pattern=r"^\w+$")] | None = None

    @property
    def known_as(self) -> str:
        """Its name in the log."""
        return self.name or self.term

    @model_validator(mode="after")
    def _has_what_its_term_needs(self) -> "Regulariser":
        if self.term == "agreement":
            if self.goal is not None:
                raise ValueError("agreement is always sought; delete goal")
        elif self.goal is None:
            raise ValueError(f"goal of {self.term} is missing: minimise, maximise or a number")
        elif self.to is not None:
            raise ValueError(f"to belongs to agreement; {self.term} has none")
        keys = [name for name in ("tokens", "within") if getattr(self, name) is not None]
        if self.term == "mass" and len(keys) != 1:
            raise ValueError("mass is of some keys: give tokens or within, one of them")
        if self.term != "mass" and keys:
            raise ValueError(f"{keys[0]} belongs to mass; {self.term} is of all keys")
        if self.role is not None and self.role not in ROLES:
            raise ValueError(f"'{self.role}' is no role of attention; {nearest(self.role, ROLES)}")
        return self


class AttentionSettings(Settings):
    """What attention should do, and what is written down of it.

    Attributes:
        regularise: Terms that are added to the loss.
        log: Whether statistics of every head are written down at each evaluation, or at every so
            many.
    """

    regularise: list[Regulariser] = Field(default=[])
    log: Annotated[bool | int, BeforeValidator(_check_every)] = 0

    @model_validator(mode="after")
    def _names_differ(self) -> "AttentionSettings":
        names = [one.known_as for one in self.regularise]
        again = next((x for k, x in enumerate(names) if x in names[:k]), None)
        if again is not None:
            raise ValueError(f"two terms of regularise are named '{again}'; give each a name")
        return self

    @property
    def agreements(self) -> list[Regulariser]:
        """The terms that agree with what rows say."""
        return [one for one in self.regularise if one.term == "agreement"]

    @property
    def guides(self) -> set[str]:
        """The fields that terms agree with."""
        return {one.to for one in self.agreements if one.to is not None}


def fit_terms(found: AttentionSettings, kind: DataKind, model: ModelSettings) -> AttentionSettings:
    """Return terms with all that they leave open, as far as it follows from data and model.

    Args:
        found: What a task file says.
        kind: What its rows hold.
        model: The shape of its model.

    Returns:
        The same with `to` and `role` of agreements filled in.

    Raises:
        ValueError: If rows have nothing to agree with, or a new model lacks a layer or a head.
    """
    terms = []
    for place, one in enumerate(found.regularise):
        where = f"regularise.{place}"
        sizes = {} if model.pretrained else {"layers": model.layers, "heads": model.heads}
        for name, count in sizes.items():
            beyond = [x for x in getattr(one, name) or () if not -count <= x < count]
            if beyond:
                raise ValueError(
                    f"{where}.{name}: there is no {beyond[0]}; model.{name} is {count}, counted "
                    "from 0"
                )
        terms.append(_agreeing(one, kind, where) if one.term == "agreement" else one)
    return found.model_copy(update={"regularise": terms})


def _agreeing(one: Regulariser, kind: DataKind, where: str) -> Regulariser:
    known = [field.name for field in kind.guides]
    if not known:
        raise ValueError(
            f"{where}: rows of {kind.name} say nothing of attention to agree with; classification, "
            "tagging and translation do"
        )
    to = one.to or known[0]
    if to not in known:
        raise ValueError(f"{where}.to: there is no field '{to}'; {nearest(to, known)}")
    role = "cross" if to == "alignment" else "encoder"
    if one.role not in (None, role):
        raise ValueError(f"{where}.role: {to} is agreed with by role {role}, found '{one.role}'")
    return one.model_copy(update={"to": to, "role": role})
