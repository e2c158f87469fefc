"""Training: a task becomes a run folder that holds a model and its scores."""

from regard.train.model import build_model, load_learner, load_model, save_model
from regard.train.predict import Prediction, predict_run
from regard.train.run import Result, evaluate_run, train, translate_run

__all__ = [
    "Prediction", "Result", "build_model", "evaluate_run", "load_learner", "load_model",
    "predict_run", "save_model", "train", "translate_run",
]  # fmt: skip
