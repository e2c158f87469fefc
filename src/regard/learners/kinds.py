"""The learner of each kind of task."""

from regard.data.kinds import SCORED_PAIRS
from regard.learners.classification import ClassificationLearner
from regard.learners.joint import JointLearner
from regard.learners.language_modelling import CausalLearner, MaskedLearner
from regard.learners.learner import Learner
from regard.learners.pairs import PairLearner, ScoredPairLearner
from regard.learners.question_answering import QuestionAnsweringLearner
from regard.learners.retrieval import RetrievalLearner
from regard.learners.sequences import SummarisationLearner, TranslationLearner
from regard.learners.tagging import TaggingLearner
from regard.tasks.joint import JointTask
from regard.tasks.kinds import LanguageModellingTask, Task

LEARNERS: dict[str, type[Learner]] = {
    "translation": TranslationLearner,
    "summarisation": SummarisationLearner,
    "classification": ClassificationLearner,
    "tagging": TaggingLearner,
    "question_answering": QuestionAnsweringLearner,
    "language_modelling": CausalLearner,
    "pairs": PairLearner,
    "retrieval": RetrievalLearner,
}


def learner_class(task: Task) -> type[Learner]:
    """Return the learner of a task.

    Args:
        task: The task.

    Returns:
        The class of its kind, or of what the task makes of it.
    """
    if isinstance(task, JointTask):
        return JointLearner
    if isinstance(task, LanguageModellingTask) and task.model.objective == "masked":
        return MaskedLearner
    if task.data.data_kind() is SCORED_PAIRS:
        return ScoredPairLearner
    return LEARNERS[task.task]
