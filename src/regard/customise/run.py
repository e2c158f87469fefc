"""Customising a task's attention, from the task to the folder with the result."""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from regard.customise.first import first_generation
from regard.customise.folder import CustomFolder
from regard.customise.ground import survey
from regard.customise.options import Options
from regard.customise.report import write_custom_report
from regard.customise.result import Result, choose_best, write_result
from regard.customise.search import Progress, Search
from regard.tasks.kinds import Task

# Of the budget, what the report may take.
_REPORT_SHARE, _REPORT_S = 0.1, 8.0


def customise(
    task: Task,
    path: str | os.PathLike,
    options: Options | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Find attention for a task on its validation rows, within a budget.

    Ctrl-C ends it with a checkpoint of the run at hand; what was found so far is written, and
    called again with `resume` it goes on. The test rows are never scored.

    Args:
        task: The task; its own mode, if it has one, is a candidate.
        path: The folder of the study.
        options: What is asked for.
        resume: Go on with the study that is there; it may be given more time or trials.
        on_progress: Is told of each training that begins and ends.

    Returns:
        What came of it. The best mode, its task file, a table and a report are in the folder.

    Raises:
        TaskError: If the folder is taken or holds another study, or there is nothing to compare by.
        DataError: If the data cannot be used.
        UnsupportedError: If the model's attention cannot be replaced.
    """
    began = time.monotonic()
    options, folder = options or Options(), CustomFolder(Path(path))
    if resume:
        folder.take_up(task)
    ground = survey(task, options.metric)
    first, refusals = first_generation(ground, options)
    if not resume:
        folder.begin(task)
    kept = min(_REPORT_S, _REPORT_SHARE * options.seconds) if options.seconds < math.inf else 0.0
    search = Search(ground, folder, options, first, on_progress, began, kept)
    search.run()
    best = choose_best(search.standing, options.objective)
    result = Result(
        ground, folder, options, search.standing, best, search.stopped, search.clock.spent,
        tuple(refusals),
    )  # fmt: skip
    write_result(result)
    write_custom_report(result)
    return result
