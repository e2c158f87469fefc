"""How tests compile the headers of kernels by themselves, without a program around them."""

import shutil
import subprocess
from pathlib import Path

TEMPLATE = Path(__file__).parents[3] / "src/regard/backends/cpu/template"
# What every test of the headers compiles with; how much is optimised is its own.
FLAGS = (
    "-std=c++17 -fno-math-errno -fno-trapping-math -ffp-contract=fast -fno-signed-zeros "
    "-fno-exceptions -fno-rtti -Wall -Wextra -Werror -Wno-psabi -fPIC"
).split()


def compile_headers(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compile a file that may include the headers.

    A machine without a compiler fails these tests: skipping them would leave the kernels untested.

    Args:
        folder: Where the compiler runs.
        *arguments: What it is given besides `FLAGS` and where the headers lie.

    Returns:
        How it ended, and what it said.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler, "neither g++ nor clang++ is installed, and the headers must be compiled"
    command = [compiler, *FLAGS, f"-I{TEMPLATE}", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
