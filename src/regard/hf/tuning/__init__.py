"""Tuning few parameters: LoRA and AdaLoRA by PEFT, LoRA on chosen heads, bottleneck adapters.

Programs' own parameters are trained beside an adapter and saved with it. Importing this needs no
PEFT; what does need it is loaded when it is first asked for. Leaves to others: modes (`hf.apply`),
the training loop (`train`, or transformers' Trainer).
"""

import importlib
from typing import Any

from regard.errors import UnsupportedError
from regard.hf.tuning.count import Count, Trainable, trainable

_LATER = {
    "adapt": "attach",
    "load": "read",
    "adalora": "ranks",
    "AllocateRanks": "ranks",
    "BottleneckConfig": "bottleneck",
    "build_in": "built_in",
    "choose_targets": "choose",
    "own_names": "built_in",
    "HeadLoraConfig": "heads",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'regard.hf.tuning' has no attribute '{name}'")
    try:
        importlib.import_module("peft")
    except ImportError:
        raise UnsupportedError(
            f"hf.tuning.{name} needs PEFT; install it with: pip install 'regard[peft]'"
        ) from None
    # All of them, so that PEFT knows both methods whichever was asked for.
    for room in ("bottleneck", "heads"):
        importlib.import_module(f"regard.hf.tuning.{room}")
    return getattr(importlib.import_module(f"regard.hf.tuning.{_LATER[name]}"), name)


__all__ = ["Count", "Trainable", "trainable", *_LATER]  # pyright: ignore
