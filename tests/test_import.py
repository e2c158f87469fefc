"""`import regard` and a call need torch and numpy alone."""

import subprocess
import sys

OPTIONAL = (
    *("transformers", "tokenizers", "accelerate", "safetensors", "sacrebleu", "tensorboard"),
    *("triton", "matplotlib", "typer", "rich", "pydantic", "yaml"),
    *("pyarrow", "datasets", "peft", "sklearn", "scipy"),
)

# A name that stands for None cannot be imported, and whoever asks is told that there is none.
BLOCKER = f"""
import sys

sys.modules.update(dict.fromkeys({OPTIONAL!r}))
"""

TINY_CALL = """
import torch
import regard as rg

@rg.program
def plain(pair):
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
    return rg.softmax(score, where=pair.j <= pair.i)

q, k, v = torch.randn(3, 1, 2, 5, 4)
out = rg.attend(plain, q, k, v)
expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
torch.testing.assert_close(out, expected)
print("attended")
"""


def run_blocked(tmp_path, text):
    """Run a script in a fresh Python that lacks every optional package."""
    script = tmp_path / "script.py"
    script.write_text(BLOCKER + text, encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_regard_attends_without_any_optional_package(tmp_path):
    done = run_blocked(tmp_path, TINY_CALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "attended\n"


def test_rooms_that_a_small_program_does_not_use_are_not_loaded(tmp_path):
    loaded = 'print([name for name in sys.modules if name == "regard.catalogue"])'
    done = run_blocked(tmp_path, TINY_CALL + "import sys\n" + loaded)
    assert done.stdout == "attended\n[]\n", done.stderr


def test_the_blocker_blocks(tmp_path):
    done = run_blocked(tmp_path, "import rich")
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of rich" in done.stderr
