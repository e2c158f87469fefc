"""Tasks: data from local files, batches, scores; one task a file."""

from regard.tasks.data import Pair, read_pairs
from regard.tasks.task_file import Task, load_task, save_task

__all__ = ["Pair", "Task", "load_task", "read_pairs", "save_task"]
