"""The reference interpreter: slow, dense, and the definition of what a program means."""

from regard.reference.evaluate import evaluate

__all__ = ["evaluate"]
