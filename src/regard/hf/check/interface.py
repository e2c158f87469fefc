"""Check that the implementation under test is really what runs.

A name that only one of transformers' two registries knows loses every mask; a model that does not
ask the registries claims any name and runs its own code.
"""

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from regard.hf.check.report import FAILED, PASSED, SKIPPED, Row
from regard.hf.check.subject import Subject

NAMES = ("interface",)


def check_interface(subject: Subject) -> list[Row]:
    """Check that both registries know the name, and that every attention module calls it.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    if subject.attention not in ALL_MASK_ATTENTION_FUNCTIONS:
        where = (
            f"transformers knows no mask function '{subject.attention}', so that models hand over "
            "no mask: register one under that name with AttentionMaskInterface"
        )
        return [Row(name, FAILED, where=where)]
    with subject.using(subject.reference):
        asked = {call.path for call in subject.calls(**subject.pictures)}
    if not asked:
        return [Row(name, SKIPPED, where="the model asks transformers for no attention function")]
    called = {call.path for call in subject.calls(**subject.pictures)}
    lost = sorted(asked - called)
    if lost:
        where = f"{len(lost)} of {len(asked)} modules do not call it, such as {lost[0]}"
        return [Row(name, FAILED, where=where)]
    return [Row(name, PASSED, where=f"called by {len(called)} modules")]
