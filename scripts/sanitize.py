"""Run kernels under GCC's sanitizers, or valgrind: do they touch what they must not?

    make sanitize                                        addresses and undefined behaviour
    .venv/bin/python scripts/sanitize.py --valgrind      numbers that nobody wrote, two programs

Every call runs in another process, whose kernels are built with `-fsanitize` into a cache folder of
their own, and is compared with the reference too. Leaks are not looked for: Python has its own. Of
valgrind's errors those count whose stack holds a kernel. Exit status 1 if anything was found.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SANITIZED = "g++ -fsanitize=address,undefined -fno-omit-frame-pointer -g"
# Sizes at which vectors, panels and blocks end; the last two are decoded as well.
SIZES = [
    {"n": 1, "m": 1, "d": 1, "e": 1},
    {"b": 2, "h": 4, "g": 2, "n": 17, "m": 19, "d": 3, "e": 5},
    {"h": 2, "g": 1, "n": 97, "m": 257, "d": 20, "e": 72},
    {"b": 2, "n": 8, "m": 513, "d": 8, "e": 8},
    {"n": 3, "m": 770, "d": 21, "e": 40},
]
PROGRAMS = ("near", "everything", "additive", "sinking", "difference", "share", "dropping")
FEW = ("near", "additive")
# What programs of the contract add: tables, diagonals, pair inputs, rows of other widths, chosen
# rows with the sums of weights they collect, thresholds and choices of keys.
CONTRACT = (
    "t5_buckets",
    "mlp",
    "every_operator",
    "indexed_by_pairs",
    "further_rows",
    "laser",
    "gated",
    "shaw_relative",
    "transformer_xl",
    "disentangled",
    "moving_values",
    "entmax_per_head",
    "sparsemax_window",
    "best_keys",
    "sparse_difference",
)
# What is listed of a row and added up over rows, in sweeps that keep more than sums.
OBSERVED = ("top:3", "received", "distance")
REPORT = re.compile(r"ERROR: AddressSanitizer|runtime error:")


def main() -> int:
    """Run what the arguments ask for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--valgrind", action="store_true", help="look for unwritten numbers instead"
    )
    parser.add_argument("--only", metavar="NAME", help="run one program alone")
    parser.add_argument("--call", nargs=2, metavar=("NAME", "DTYPE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.call:
        return call(*given.call)
    names = FEW if given.valgrind else PROGRAMS + CONTRACT
    names = [given.only] if given.only else names
    check = valgrind if given.valgrind else sanitize
    # Lanes are half as many in float64, which two programs show as well as all.
    jobs = [(name, "float32") for name in names]
    jobs += [] if given.valgrind else [(name, "float64") for name in names if name in FEW]
    with tempfile.TemporaryDirectory(prefix="regard-sanitize-") as folder:
        bad = [f"{name} {dtype}" for name, dtype in jobs if not check(name, dtype, folder)]
    print(f"findings in: {', '.join(bad)}" if bad else "nothing found")
    return 1 if bad else 0


def sanitize(name: str, dtype: str, folder: str) -> bool:
    """Run one program's calls with sanitizers; print and return what was found."""
    library = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {
        "REGARD_CXX": SANITIZED,
        "REGARD_CACHE_DIR": str(Path(folder, "kernels")),
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0:halt_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    done = run([], name, dtype, environment)
    said = done.stdout + done.stderr
    good = done.returncode == 0 and not REPORT.search(said)
    print(f"{name} {dtype}: {'nothing found' if good else said[-6000:]}", flush=True)
    return good


def valgrind(name: str, dtype: str, folder: str) -> bool:
    """Run one program's smaller calls under memcheck; print and return what was found."""
    kernels = Path(folder, "kernels")
    # Built first, outside valgrind, and with what it can run: it knows no AVX-512.
    environment = {
        "REGARD_CXX": "g++ -g",
        "REGARD_CACHE_DIR": str(kernels),
        "REGARD_SANITIZE_FEW": "1",
        "PYTHONMALLOC": "malloc",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ",
    }
    first = run([], name, dtype, environment)
    if first.returncode:
        print(f"{name} {dtype}: {first.stdout + first.stderr}", flush=True)
        return False
    log = Path(folder, f"{name}.log")
    tool = ["valgrind", "--error-limit=no", "--undef-value-errors=yes", f"--log-file={log}"]
    done = run([*tool, "--num-callers=30"], name, dtype, environment)
    blocks = re.split(r"\n==\d+== \n", log.read_text(errors="replace"))
    ours = [
        block for block in blocks if "regard::" in block and re.search(r"\n?==\d+== +at ", block)
    ]
    told = "\n\n".join(ours[:5]) if ours else "nothing found"
    if done.returncode:
        told = f"valgrind or the call failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    print(f"{name} {dtype}: {len(ours)} errors in kernels, {told}", flush=True)
    return not ours and not done.returncode


def run(prefix: list[str], name: str, dtype: str, environment: dict[str, str]):
    """Run one program's calls in another process."""
    command = [*prefix, sys.executable, __file__, "--call", name, dtype]
    return subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True,
        text=True, cwd=ROOT,
    )  # fmt: skip


# ── In the other process ──────────────────────────────────────────────────────────────────────
def call(name: str, dtype: str) -> int:
    """Attend forward and backward in all sizes; return 1 if a result is wrong."""
    sys.path.insert(0, str(ROOT))
    import torch

    from regard.testing.inputs import Sizes, make_inputs
    from regard.testing.programs import PROGRAMS as CONTRACT_PROGRAMS
    from tests.backends.cpu import programs

    kind, wrong = getattr(torch, dtype), 0
    for size in SIZES[1:2] if os.environ.get("REGARD_SANITIZE_FEW") else SIZES:
        torch.manual_seed(0)
        if name in CONTRACT:
            program = CONTRACT_PROGRAMS[name]
            # These take rows apart, so the widths are theirs.
            given = {"H": 2, "G": 1, "B": 1, **{k.upper(): v for k, v in size.items()}}
            letters = Sizes(**{**given, "D": 8, "E": 6})
            tensors = make_inputs(program.root, letters, kind)
        else:
            program, tensors = getattr(programs, name), programs.rows(**size, dtype=kind)
            if name == "sinking":
                batch, _, n, m = *tensors["q"].shape[:3], tensors["k"].shape[2]
                tensors |= {
                    "part": torch.ones(batch, 1, n).long(),
                    "kind": torch.arange(m).view(1, 1, m) % 3,
                }
        wrong += check(program, tensors, kind)
    return wrong


def check(program, tensors, dtype) -> int:
    """Compare a call with the reference, trained, decoded, observed; return how many are wrong."""
    import torch

    import regard as rg
    from tests.backends.cpu.programs import run as attend

    m = tensors["k"].shape[2]
    options = {"seed": 3, "key_lengths": [max(m - 3, 1)] * len(tensors["q"])}
    expected = attend(program, tensors, backend="reference", **options)
    found = attend(program, tensors, backend="cpu", **options)
    with torch.no_grad():
        for into, backend in ((expected, "reference"), (found, "cpu")):
            torch.manual_seed(0)
            into["decoded"] = rg.attend(program, **tensors, backend=backend, **options)
            torch.manual_seed(0)
            watched = {**options, "observe": OBSERVED, "backend": backend}
            seen = rg.attend(program, **tensors, **watched)[1]
            # Which of two keys is first may be rounding.
            into |= {name: one[0] if name == "top:3" else one for name, one in seen.items()}
    wrong, rounding = 0, 1e4 * torch.finfo(dtype).eps
    for key, value in expected.items():
        scale = max(1.0, float(value.abs().max()))
        if not float((found[key] - value).abs().max()) <= rounding * scale:
            print(f"{program.name} {tuple(tensors['q'].shape)} {m}: {key} is wrong")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
