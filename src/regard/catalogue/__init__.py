"""Published attention mechanisms, each a program of a few lines.

`rg.catalogue.alibi` is a `Variant`: `.program` is the published one, a call sets its knobs.

Leaves to others: the mechanisms, one family a file; what a variant is (`variant`).
"""

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType

from regard.catalogue.absent import ABSENT, Absent
from regard.catalogue.variant import Variant
from regard.errors import InputError

# In the order in which a reader meets them.
FAMILIES = ("score", "position", "modifier", "mask", "normaliser", "aggregation", "ordered")


def _defined(module: ModuleType) -> Iterator[Variant]:
    return (value for value in vars(module).values() if isinstance(value, Variant))


_MODULES = {family: importlib.import_module(f"{__name__}.{family}") for family in FAMILIES}

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {one.name: one for module in _MODULES.values() for one in _defined(module)}
)
"""All of them by name, in the order of their families; none is traced before it is used."""


def find(name: str) -> Variant:
    """Return a variant.

    Args:
        name: Its name.

    Returns:
        The variant.

    Raises:
        InputError: If there is none of that name; of a mechanism known to be no program, with the
            reason.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    raise InputError(_why_not(name))


def search(words: str) -> list[Variant]:
    """Return the variants that speak of all of some words.

    Args:
        words: Looked for in names, families, titles, sources, what variants do and when to use
            them; capitals do not matter.

    Returns:
        Those found, in the catalogue's order.
    """
    return [one for one in VARIANTS.values() if _speaks(_text(one), words)]


def search_absent(words: str) -> list[Absent]:
    """Return the mechanisms that are not in the catalogue and speak of all of some words.

    Args:
        words: Looked for in names, titles, sources and reasons; capitals do not matter.

    Returns:
        Those found, in the catalogue's order.
    """
    texts = ((one, " ".join([one.name, one.title, one.source, one.reason])) for one in ABSENT)
    return [one for one, text in texts if _speaks(text, words)]


def suggest(words: str) -> str:
    """Return a hint for words that nothing is found by.

    Args:
        words: What was asked for.

    Returns:
        One line without a full stop: the nearest names, and where all of them are.
    """
    name, names = "_".join(words.lower().split()), [*VARIANTS, *(one.name for one in ABSENT)]
    # What authors call theirs, as "RoPE", is a better hint than letters that happen to agree.
    asked = set(words.lower().split())
    called = [one.name for one in VARIANTS.values() if asked and asked <= _called(one)][:3]
    near = called or difflib.get_close_matches(name, names, n=3, cutoff=0.65)
    meant = f"did you mean {' or '.join(repr(one) for one in near)}? " if near else ""
    return f"{meant}`regard catalogue` lists all"


def describe_family(family: str) -> str:
    """Return what a family is about.

    Args:
        family: One of `FAMILIES`.

    Returns:
        The first line of its file's docstring.
    """
    return (_MODULES[family].__doc__ or "").partition("\n")[0]


def _why_not(name: str) -> str:
    for one in ABSENT:
        if one.name == name:
            return f"{one.title} ({one.source}) is not in the catalogue: {one.reason}\n  {one.link}"
    return f"the catalogue has no '{name}'; {suggest(name)}"


def _called(one: Variant) -> set[str]:
    return set(re.findall(r"[\w-]+", f"{one.title} {one.source}".lower()))


def _speaks(text: str, words: str) -> bool:
    text = text.lower()
    return all(word in text for word in words.lower().split())


def _text(one: Variant) -> str:
    return " ".join([one.name, one.family, one.title, one.source, one.says, one.use])


def __getattr__(name: str) -> Variant:
    """Return the variant of that name."""
    if name not in VARIANTS:
        raise AttributeError(_why_not(name))
    return VARIANTS[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *VARIANTS])
