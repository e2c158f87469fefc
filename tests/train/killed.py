"""Trains a task in processes that are killed in turn: python killed.py TASK RUN POINT…

A point is PLACE:STEP. Each process continues what the one before left, and is killed with SIGKILL
at its point; the last has none and ends. They are forked from one that only imported, for speed.
"""

import os
import signal
import sys
from pathlib import Path

from regard.tasks import load_task
from regard.train import run, train
from regard.train.record import LogFile, MarkWhole


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(place, step):
    """Have this process killed when it comes to a place."""
    watcher, event = {
        "step": (LogFile, "on_step_begin"),
        "log": (LogFile, "on_log"),
        "save": (MarkWhole, "on_save"),
        "score": (run, "_finish"),
    }[place]
    own = getattr(watcher, event, None)

    def killing(self, args=None, state=None, control=None, *more, **named):
        if place == "score" or state.global_step >= step:
            if place == "log":
                # A line that was cut short.
                with self.path.open("a") as file:
                    file.write('{"step": ')
            die()
        return own(self, args, state, control, *more, **named) if own else None

    setattr(watcher, event, killing)


def train_in_a_child(task, folder, point):
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return status
    if point:
        place, step = point.split(":")
        arrange(place, int(step))
    train(load_task(task), folder, resume=(folder / "task.yaml").exists(), progress=False)
    os._exit(0)


def main(task, folder, *points):
    for point in points:
        status = train_in_a_child(task, Path(folder), point)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"{point}: the process was not killed, its status is {status}")
    if train_in_a_child(task, Path(folder), None):
        sys.exit("the last process did not end")


if __name__ == "__main__":
    main(*sys.argv[1:])
