"""Kernels compile for a GPU, also where there is none: the compiler needs no device."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compile_ahead.py")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(
    "case",
    [
        "causal/bfloat16/64/256",
        "alibi/float16/128/256",
        "additive/bfloat16/32/128",
        "dropped_out/bfloat16/64/128",
        "causal/bfloat16/128/1",
        "learned_sink/float32/64/128",
        "shaw_relative/float32/16/64",
        "indexed_by_pairs/float32/16/64",
        "differential/float32/32/64",
        "sparsemax_window/bfloat16/64/256",
        "entmax_per_head/float32/64/64",
        "best_keys/bfloat16/64/128",
    ],
)
def test_kernels_compile_without_a_gpu(case, tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), case]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3, done.stdout
