"""What terms of attention cost a training step: beside the same step without them."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _measure import interleaved_ms, report

from regard.learners import Learner, learner_class
from regard.learners.guides import GUIDES
from regard.learners.tokenizer import train_tokenizer
from regard.tasks import load_task
from regard.train.model import build_model
from regard.train.regularise import Regularisers

# Rows and tokens of a batch.
SHAPES = ((16, 64), (4, 256), (1, 1024))
ROUNDS = 5
ENTROPY = "{term: entropy, goal: minimise}"
TERMS = {
    "entropy": ENTROPY,
    "entropy, distance and mass on special tokens": f"{ENTROPY}, {{term: distance, goal: minimise}}"
    ", {term: mass, goal: minimise, tokens: special}",
    "mass within 4 tokens (dense)": "{term: mass, goal: maximise, within: 4}",
    "agreement with a rationale": "{term: agreement}",
}
TASK = """
task: classification
data: {{path: rows.jsonl}}
model: {{width: 256, layers: 2, heads: 4, ffn: 1024, dropout: 0.0, positions: 1024}}
training: {{label_smoothing: 0.0}}
attention: {{regularise: [{terms}]}}
"""


def learner_of(terms: str) -> Learner:
    """Return the learner of a task with terms."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "task.yaml")
        path.write_text(TASK.format(terms=terms))
        task = load_task(path)
    words = train_tokenizer(["the quick brown fox jumps over a lazy dog ."], 60)
    return learner_class(task)(task, words, ["a", "b"])


def step(learner: Learner, model: Any, terms: Regularisers, batch: dict[str, Any]) -> None:
    """Run forward and backward from the loss and all terms, as the trainer does."""
    model.zero_grad()
    called = {name: value for name, value in batch.items() if name not in ("labels", GUIDES)}
    if not terms:
        learner.loss(model(**called), batch["labels"]).backward()
        return
    with terms.watch(batch) as seen:
        outputs = model(**called)
    seen.add(learner.loss(outputs, batch["labels"])).backward()


def batch_of(rows: int, tokens: int) -> dict[str, Any]:
    """Return a batch without padding, each row with a word that matters."""
    guide = torch.zeros(rows, 1, tokens)
    guide[:, :, 3] = 1.0
    return {
        "input_ids": torch.randint(3, 20, (rows, tokens)),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "labels": torch.randint(0, 2, (rows,)),
        GUIDES: {"rationale": guide},
    }


def main() -> None:
    """Measure, print and write."""
    torch.manual_seed(0)
    table: list[dict[str, object]] = []
    learners = {"no term": learner_of(""), **{name: learner_of(one) for name, one in TERMS.items()}}
    model = build_model(learners["no term"]).train()
    for rows, tokens in SHAPES:
        batch = batch_of(rows, tokens)
        calls = {
            name: partial(step, learner, model, Regularisers(learner, model), batch)
            for name, learner in learners.items()
        }
        times = interleaved_ms(calls, ROUNDS)
        for name, spent in times.items():
            ratio = spent / times["no term"]
            table.append({"rows": rows, "tokens": tokens, "term": name, "ms": spent,
                          "times no term": ratio})  # fmt: skip
    title = "a training step, forward and backward: 2 layers, width 256, 4 heads, float32"
    report(title, table, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
