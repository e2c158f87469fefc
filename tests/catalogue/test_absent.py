"""What the catalogue lacks is said with a reason, and the reasons point at what it has."""

import re

from regard.catalogue import VARIANTS
from regard.catalogue.absent import ABSENT


def test_what_is_absent_is_no_variant():
    names = [one.name for one in ABSENT]
    assert len(set(names)) == len(names)
    assert not set(names) & set(VARIANTS)


def test_every_reason_points_at_things_that_exist():
    known = {one.name for one in ABSENT} | set(VARIANTS)
    for one in ABSENT:
        named = re.findall(r"`(\w+)`", one.reason)
        assert set(named) <= known, (one.name, set(named) - known)


def test_everything_absent_can_be_read_up():
    for one in ABSENT:
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", one.link), one.name
        assert re.search(r"\b(19|20)\d\d\b", one.source), one.name
