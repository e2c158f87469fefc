"""Compile emitted kernels for sm_90 where there is no GPU: python compile_ahead.py CASE …

A case is PROGRAM/DTYPE/WIDTH/QUERIES. Prints a line for each kernel; fails if one does not compile.
Leaves to others: whether kernels are right (`test_contract`) and fast (`benchmarks/gpu.py`).
"""

import sys

import torch
import triton
from triton.backends.compiler import GPUTarget

from regard.backends.base import registered
from regard.backends.triton import TritonBackend, caller
from regard.testing.contract import run_both
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS


class NoDevice:
    """A driver that knows what to compile for, and can run nothing."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0


class AheadCaller(caller.TritonCaller):
    """Compiles what it is to launch."""

    def _start(self, program, arguments, fixed, tiles, grid):
        options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
        made = program.run.warmup(*arguments, **fixed, **options, grid=grid)
        print(f"{made.name}: {len(made.asm['cubin'])} bytes, {made.metadata.shared} shared")


class Ahead(TritonBackend):
    """The backend as if it had a device."""

    name, make_caller = "ahead", AheadCaller

    def why_not(self, device):
        return None


def main():
    triton.runtime.driver.set_active(NoDevice())
    registered()["ahead"] = Ahead()
    for case in sys.argv[1:]:
        name, dtype, width, queries = case.split("/")
        sizes = Sizes(B=1, H=2, G=2, N=int(queries), M=1024, D=int(width), E=int(width))
        inputs = make_inputs(PROGRAMS[name].root, sizes, getattr(torch, dtype), seed=1)
        run_both(PROGRAMS[name], inputs, backend="ahead")


if __name__ == "__main__":
    main()
