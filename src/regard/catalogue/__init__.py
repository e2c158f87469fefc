"""Published attention mechanisms, each a program of a few lines.

`rg.catalogue.alibi` is a `Variant`: `.program` is the published one, a call sets its knobs.

Leaves to others: the mechanisms, one family a file; what a variant is (`variant`).
"""

import importlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType

from regard.catalogue.variant import Variant
from regard.errors import InputError, nearest

# In the order in which a reader meets them.
FAMILIES = ("score", "position", "modifier", "mask", "normaliser", "aggregation", "ordered")


def _defined(module: ModuleType) -> Iterator[Variant]:
    return (value for value in vars(module).values() if isinstance(value, Variant))


_MODULES = [importlib.import_module(f"{__name__}.{family}") for family in FAMILIES]

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {one.name: one for module in _MODULES for one in _defined(module)}
)
"""All of them by name, in the order of their families; none is traced before it is used."""


def find(name: str) -> Variant:
    """Return a variant.

    Args:
        name: Its name.

    Returns:
        The variant.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in VARIANTS:
        raise InputError(f"the catalogue has no '{name}'; {nearest(name, VARIANTS)}")
    return VARIANTS[name]


def search(words: str) -> list[Variant]:
    """Return the variants that speak of all of some words.

    Args:
        words: Looked for in names, families, titles, sources, what variants do and when to use
            them; capitals do not matter.

    Returns:
        Those found, in the catalogue's order.
    """
    wanted = words.lower().split()
    return [one for one in VARIANTS.values() if all(word in _text(one) for word in wanted)]


def _text(one: Variant) -> str:
    return " ".join([one.name, one.family, one.title, one.source, one.says, one.use]).lower()


def __getattr__(name: str) -> Variant:
    """Return the variant of that name."""
    if name not in VARIANTS:
        raise AttributeError(f"the catalogue has no '{name}'; {nearest(name, VARIANTS)}")
    return VARIANTS[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *VARIANTS])
