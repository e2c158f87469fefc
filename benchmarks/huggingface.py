"""Hugging Face models on Regard's kernels beside their own: SmolLM2, layers of T5, observing.

Needs REGARD_WEIGHTS (see `_weights`) for SmolLM2. `--quick` measures short texts, to see that it
runs.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _hf_children import T5_LAYERS, t5_memory, t5_training
from _measure import interleaved_ms, report
from _weights import smollm
from transformers import DynamicCache

import regard as rg

TOKENS, OBSERVED, T5_TOKENS = 2048, 1024, 1024
ROUNDS = 5
PREFILL = DECODE = 1.0
T5_FASTER = 1.3
# The most times the time of a call that nobody observes.
OBSERVING = {
    ("entropy",): 1.35, ("received",): 1.6, ("entropy", "distance", "received"): None
}  # fmt: skip
Row = dict[str, Any]
OURS = rg.hf.NAME


def running(model: Any, name: str, call: Callable[[], object]) -> Callable[[], object]:
    """Return a call of a model on an attention implementation."""

    def run() -> object:
        model.set_attn_implementation(name)
        return call()

    return run


def rows_of(
    case: str, times: dict[str, float], ours: str, others: list[str], bar: float
) -> list[Row]:
    """Return a row a contender; ours with how many times faster it is than the best other."""
    best = min(times[name] for name in others)
    found = []
    for name, spent in times.items():
        ratio = best / spent
        verdict = ("reached" if ratio >= bar else "not reached") if name == ours else ""
        found.append({"case": case, "contender": name, "ms": spent, "ratio": ratio,
                      "MB": "", "bar": f"≥ {bar}" if verdict else "", "": verdict})  # fmt: skip
    return found


@torch.no_grad()
def language_model(model: Any, ids: torch.Tensor, rounds: int) -> list[Row]:
    """Measure reading a text at once, and one more token after it."""
    names = (OURS, "sdpa")
    read = partial(model, input_ids=ids, use_cache=True, logits_to_keep=1)
    times = interleaved_ms({name: running(model, name, read) for name in names}, rounds)
    found = rows_of(f"prefill {ids.shape[1]}", times, OURS, ["sdpa"], PREFILL)
    cache = DynamicCache(config=model.config)
    model(input_ids=ids, past_key_values=cache)

    def step() -> None:
        model(input_ids=ids[:, :1], past_key_values=cache)
        cache.crop(-1)

    many = {name: running(model, name, step) for name in names}
    times = interleaved_ms(many, 4 * rounds)
    return found + rows_of(f"decode at {ids.shape[1]}", times, OURS, ["sdpa"], DECODE)


def t5(tokens: int, rounds: int) -> list[Row]:
    """Measure layers of T5's encoder with their learned position bias, forward and backward."""
    model, train = t5_training()
    step = partial(train, tokens)
    calls = {name: running(model, name, step) for name in (OURS, "sdpa", "eager")}
    times = interleaved_ms(calls, rounds)
    case = f"{T5_LAYERS} layers of T5-small at {tokens}, forward + backward"
    found = rows_of(case, times, OURS, ["sdpa", "eager"], T5_FASTER)
    for row in found:
        row["MB"] = t5_memory(row["contender"], tokens)
    return found


@torch.no_grad()
def observing(model: Any, ids: torch.Tensor, rounds: int) -> list[Row]:
    """Measure what observing every layer costs, beside weights that eager attention returns."""

    def observe(names: tuple[str, ...]) -> object:
        with rg.hf.observe(model, names) as seen:
            model(input_ids=ids, logits_to_keep=1)
        return seen

    read = partial(model, input_ids=ids, logits_to_keep=1)
    calls = {"nothing": running(model, OURS, read)}
    calls |= {
        ", ".join(names): running(model, OURS, partial(observe, names)) for names in OBSERVING
    }
    dense = partial(read, output_attentions=True)
    calls["eager, output_attentions"] = running(model, "eager", dense)
    times = interleaved_ms(calls, rounds)
    bars: dict[str, float | None] = {", ".join(names): bar for names, bar in OBSERVING.items()}
    found: list[Row] = []
    for name, spent in times.items():
        ratio, bar = spent / times["nothing"], bars.get(name)
        verdict = "" if bar is None else "reached" if ratio <= bar else "not reached"
        found.append({"case": f"observing at {ids.shape[1]}, times the time", "contender": name,
                      "ms": spent, "ratio": ratio, "MB": "", "bar": f"≤ {bar}" if bar else "",
                      "": verdict})  # fmt: skip
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    share, rounds = (8, 1) if quick else (1, ROUNDS)
    rows = t5(T5_TOKENS // share, rounds)
    model, _ = smollm()
    torch.manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (1, TOKENS // share))
    rows += language_model(model, ids, rounds)
    rows += observing(model, ids[:, : OBSERVED // share], rounds)
    title = "Hugging Face models, float32, batch of 1; ratio: times as fast as the best other"
    result = Path(__file__).with_suffix(".json")
    report(title, rows, Path("/dev/null") if quick else result)


if __name__ == "__main__":
    main()
