"""Whether calls may measure, and for how long.

Leaves to others: what is measured (`triton/tune`, `ops/route`).
"""

import math
import os

import torch

from regard.errors import InputError

# Seconds that one choice may be measured for; nothing is measured unless it is set.
VARIABLE = "REGARD_TUNE"


def budget_seconds() -> float:
    """Return for how many seconds one choice may be measured.

    Returns:
        What the environment variable REGARD_TUNE says; 0 unless it is set, and while a CUDA graph
        is captured, in which nothing may be waited for.

    Raises:
        InputError: If it is no number of seconds.
    """
    told = os.environ.get(VARIABLE, "").strip()
    try:
        seconds = float(told or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(
            f"{VARIABLE} is '{told}'; set it to the seconds that one choice may be measured for, "
            f"such as {VARIABLE}=20, or to 0 to measure nothing"
        )
    if seconds and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return 0.0
    return seconds
