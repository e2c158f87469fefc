"""Re-programming Hugging Face models: their own attention, replaced by programs of a mode."""

from regard.hf.apply import apply, restore
from regard.hf.files import load, save
from regard.hf.interface import NAME
from regard.hf.observe import record_weights

__all__ = ["NAME", "apply", "load", "record_weights", "restore", "save"]
