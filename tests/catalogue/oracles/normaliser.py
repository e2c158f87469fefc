"""Dense formulas, written from the papers."""

from tests.catalogue.oracles.calls import Call

CALLS: dict[str, Call] = {}
