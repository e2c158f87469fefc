"""Tasks: what a task file may say, data as it asks for them, batches, scores."""

from regard.tasks.data import Pair, read_pairs
from regard.tasks.kinds import Task
from regard.tasks.plan_data import plan_task_data
from regard.tasks.task_file import load_task, save_task, task_schema

__all__ = [
    "Pair", "Task", "load_task", "plan_task_data", "read_pairs", "save_task", "task_schema",
]  # fmt: skip
