"""The learner of each kind of task."""

from regard.errors import TaskError
from regard.learners.classification import ClassificationLearner
from regard.learners.learner import Learner
from regard.learners.sequences import TranslationLearner
from regard.learners.tagging import TaggingLearner
from regard.tasks.kinds import Task

LEARNERS: dict[str, type[Learner]] = {
    "translation": TranslationLearner,
    "classification": ClassificationLearner,
    "tagging": TaggingLearner,
}


def learner_class(task: Task) -> type[Learner]:
    """Return the learner of a task's kind.

    Args:
        task: The task.

    Returns:
        Its class.

    Raises:
        TaskError: If tasks of this kind are checked, but not trained.
    """
    if task.task not in LEARNERS:
        raise TaskError(
            f"a task of the kind {task.task} cannot be trained yet; its data can be checked with "
            "`regard data`"
        )
    return LEARNERS[task.task]
