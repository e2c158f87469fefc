"""Tasks: what a task file may say, checked before anything runs."""

from regard.tasks.kinds import Task
from regard.tasks.plan_data import load_task_data, plan_task_data
from regard.tasks.task_file import load_task, save_task, task_schema

__all__ = ["Task", "load_task", "load_task_data", "plan_task_data", "save_task", "task_schema"]
