"""Attention customised for a task: found within a budget on its validation rows, and judged."""

from regard.customise.budget import format_duration, parse_duration
from regard.customise.folder import CustomFolder
from regard.customise.gates import Gates, Schedule, learn_gates, read_gates
from regard.customise.options import METHODS, OBJECTIVES, Options
from regard.customise.result import Result
from regard.customise.run import customise
from regard.customise.search import Progress
from regard.customise.verdict import judge_modes, read_verdict

__all__ = [
    "METHODS", "OBJECTIVES", "CustomFolder", "Gates", "Options", "Progress", "Result", "Schedule",
    "customise", "format_duration", "judge_modes", "learn_gates", "parse_duration", "read_gates",
    "read_verdict",
]  # fmt: skip
