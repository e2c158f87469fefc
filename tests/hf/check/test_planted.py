"""Every class of bug is found when planted, by the check whose matter it is."""

import pytest

from regard.hf.check import check_model
from regard.hf.check.tiny import tiny_model
from tests.hf.check.planted import BUGS, RIGHT, registered, whole_mask

MODELS = sorted({bug.model for bug in BUGS.values()})


@pytest.mark.parametrize("model", MODELS)
def test_right_implementation_passes_where_bugs_are_planted(model):
    with registered(RIGHT, whole_mask) as name:
        report = check_model(tiny_model(model), name)
    assert report.failures == ()


@pytest.mark.parametrize("told", BUGS)
def test_planted_bug_is_found(told):
    bug = BUGS[told]
    with registered(bug.attend, bug.mask) as name:
        report = check_model(tiny_model(bug.model), name, only=[bug.finds, bug.spares])
    assert bug.finds in report.failures
    assert bug.spares not in report.failures, str(report)
