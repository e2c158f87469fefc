"""The schedule of gates: three phases, and a temperature that falls in equal ratios."""

import itertools

import pytest

from regard.customise import Schedule
from regard.errors import InputError


def test_gates_wait_learn_and_are_settled():
    schedule = Schedule(wait=0.2, settle=0.6)
    phases = [schedule.phase(step, 10) for step in range(10)]
    assert phases == ["wait"] * 2 + ["anneal"] * 4 + ["settled"] * 4
    assert schedule.steps(10) == (2, 6)


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_short_runs_have_steps_to_learn_in_and_steps_with_the_winners(steps):
    phases = [Schedule().phase(step, steps) for step in range(steps)]
    assert {"anneal", "settled"} <= set(phases)


def test_the_temperature_falls_in_equal_ratios():
    schedule = Schedule(wait=0.2, settle=0.7, first=2.0, last=0.02)
    begin, end = schedule.steps(40)
    found = [schedule.temperature(step, 40) for step in range(40)]
    assert set(found[: begin + 1]) == {2.0}
    assert found[end - 1 :] == pytest.approx([0.02] * (41 - end))
    ratios = [b / a for a, b in itertools.pairwise(found[begin:end])]
    assert ratios == pytest.approx([ratios[0]] * len(ratios)) and ratios[0] < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wait": 0.7}, "0 ≤ wait < settle < 1"),
        ({"settle": 1.0}, "0 ≤ wait < settle < 1"),
        ({"last": 0.0}, "0 < last ≤ first"),
        ({"first": 0.001}, "0 < last ≤ first"),
        ({"last": "much"}, "last='much' of the schedule must be a number"),
        ({"wait": True}, "wait=True of the schedule must be a number"),
        ({"first": float("inf")}, "first=inf of the schedule must be finite"),
    ],
)
def test_a_schedule_without_meaning_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Schedule(**settings)
