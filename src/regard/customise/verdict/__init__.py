"""The verdict: what of a search's finding holds over seeds and test rows."""

from regard.customise.verdict.judge import judge_modes, read_verdict

__all__ = ["judge_modes", "read_verdict"]
