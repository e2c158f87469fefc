"""What the benchmark of Hugging Face models measures in processes of their own: memory.

In one process each contender would find the memory that another has left. `t5_memory` starts this
file; what is found comes back as its last line.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from _measure import PeakMemory, cores
from transformers import T5Config, T5EncoderModel

import regard as rg

T5_LAYERS = 4


def t5_training() -> tuple[Any, Callable[[int], None]]:
    """Return layers of T5's encoder, and what runs them forward and backward on so many tokens."""
    config = T5Config(num_layers=T5_LAYERS, dropout_rate=0.0)
    torch.manual_seed(0)
    model = T5EncoderModel(config).train()
    ids = torch.randint(2, config.vocab_size, (1, 1 << 14))

    def train(tokens: int) -> None:
        model.zero_grad()
        model(input_ids=ids[:, :tokens]).last_hidden_state.square().mean().backward()

    return model, train


def t5_memory(name: str, tokens: int) -> float:
    """Return how far forward and backward raise the memory of a new process.

    Args:
        name: The attention implementation.
        tokens: How many tokens.

    Returns:
        The growth at its highest, in MB.
    """
    command = [sys.executable, __file__, name, str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure in this process."""
    torch.set_num_threads(cores())
    name, tokens = sys.argv[1], int(sys.argv[2])
    model, train = t5_training()
    # Whatever is loaded once is there before; little memory is.
    assert rg.hf.NAME
    model.set_attn_implementation(name)
    for _ in range(3):
        train(tokens // 8)
    with PeakMemory() as peak:
        train(tokens)
    print(json.dumps(peak.grown_bytes / 1e6))


if __name__ == "__main__":
    main()
