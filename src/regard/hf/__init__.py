"""Re-programming Hugging Face models: their own attention, replaced by programs of a mode."""

from regard.hf import tuning
from regard.hf.apply import apply, restore
from regard.hf.cheaper import Pieces, cheapen, cut
from regard.hf.check import check_model
from regard.hf.files import from_pretrained
from regard.hf.interface import NAME
from regard.hf.observe import observe
from regard.hf.streaming import StreamingCache
from regard.hf.tuning.count import trainable

__all__ = [
    "NAME", "Pieces", "StreamingCache", "apply", "cheapen", "check_model", "cut",
    "from_pretrained", "observe", "restore", "trainable", "tuning",
]  # fmt: skip
