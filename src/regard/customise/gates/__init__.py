"""Learned gates: a single run in which every head chooses one of several programs."""

from regard.customise.gates.learn import Gates, learn_gates, read_gates
from regard.customise.gates.schedule import Schedule

__all__ = ["Gates", "Schedule", "learn_gates", "read_gates"]
