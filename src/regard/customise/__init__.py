"""Attention customised for a task: modes found by training, and the verdict on those found."""

from regard.customise.gates import Gates, learn_gates, read_gates
from regard.customise.gates_schedule import Schedule
from regard.customise.verdict import judge_modes, read_verdict

__all__ = ["Gates", "Schedule", "judge_modes", "learn_gates", "read_gates", "read_verdict"]
