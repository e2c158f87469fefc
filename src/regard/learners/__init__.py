"""Learners: what each kind of task does with a model, from its rows to its answers."""

from regard.learners.evaluation import Evaluation, evaluate
from regard.learners.kinds import LEARNERS, learner_class
from regard.learners.learner import Learner

__all__ = ["LEARNERS", "Evaluation", "Learner", "evaluate", "learner_class"]
