"""Gives a verdict in processes that are killed in turn: python killed_verdict.py TASK RUNS POINT…

A point is PLACE:STEP, as `tests/train/killed.py` has it; no process comes to the end.
"""

import os
import signal
import sys
from pathlib import Path

from regard.customise.verdict import judge_modes
from regard.customise.verdict.plan import Terms
from regard.tasks import load_task
from tests.train.killed import arrange


def judge_in_a_child(task, folder, point):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    place, step = point.split(":")
    arrange(place, int(step))
    resume = (folder / "plan.json").exists()
    judge_modes(load_task(task), ["local"], folder, Terms(seeds=2), resume=resume, progress=False)
    os._exit(0)


def main(task, folder, *points):
    for point in points:
        status = judge_in_a_child(task, Path(folder), point)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"{point}: the process was not killed, its status is {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
