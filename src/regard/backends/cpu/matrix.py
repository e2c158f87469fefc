"""Which matrix unit multiplies rows of bfloat16: one that processor, compiler and system all have.

Leaves to others: the products (`template/bfloat16.h`), and which calls have such rows (`module`).
"""

import ctypes
import functools
import os
import platform
import sys

from regard.backends.cpu.compiler import Compiler, cpu_identity, defined_macros, find_compiler
from regard.errors import InputError, UnsupportedError, nearest

VARIABLE = "REGARD_MATRIX"
PLAIN, EMULATED = "plain", "-emulated"
_ROUNDING = {"avx512_bf16": "__AVX512BF16__"}
# Best first: the flags of /proc/cpuinfo that each needs, and the compiler's macros for them.
_NEEDS = {
    "amx": {"amx_tile": "__AMX_TILE__", "amx_bf16": "__AMX_BF16__", **_ROUNDING},
    "avx512bf16": _ROUNDING,
}
_MACROS = {"amx": "REGARD_AMX", "avx512bf16": "REGARD_AVX512BF16"}
# Of Linux on x86-64; source: Documentation/arch/x86/xstate.rst.
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


@functools.cache
def matrix_defines() -> tuple[str, ...]:
    """Return the macros that build a library for the matrix unit; it is chosen once per process.

    The environment variable REGARD_MATRIX names it: "amx", "avx512bf16" or "plain", or one of the
    first two with "-emulated", which runs anywhere and slowly. Else it is the best there is.

    Returns:
        Macros for `load_library`; none where products are float32's.

    Raises:
        InputError: If REGARD_MATRIX names no unit.
        UnsupportedError: If it names one that cannot be used here.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if not chosen:
        found = next((unit for unit in _NEEDS if _lack(unit) is None), PLAIN)
        return _defines(found)
    known = [PLAIN, *_NEEDS, *(unit + EMULATED for unit in _NEEDS)]
    if chosen not in known:
        raise InputError(f"{VARIABLE}={chosen}: there is no such unit; {nearest(chosen, known)}")
    if chosen in _NEEDS and (lack := _lack(chosen)) is not None:
        raise UnsupportedError(f"{VARIABLE}={chosen}: {lack}; unset it or try {chosen}{EMULATED}")
    return _defines(chosen)


def _defines(chosen: str) -> tuple[str, ...]:
    unit = chosen.removesuffix(EMULATED)
    if unit == PLAIN:
        return ()
    return (_MACROS[unit], "REGARD_EMULATE") if unit != chosen else (_MACROS[unit],)


def _lack(unit: str) -> str | None:
    """Return what keeps a unit from being used here, or None."""
    compiler, needs = find_compiler(), _NEEDS[unit]
    if isinstance(compiler, str):
        return compiler
    if missing := sorted(needs.keys() - cpu_identity().split()):
        return f"the processor has no {', '.join(missing)}"
    if missing := sorted(set(needs.values()) - _macros(compiler)):
        return f"the compiler does not define {', '.join(missing)}"
    return _refusal() if unit == "amx" else None


@functools.cache
def _macros(compiler: Compiler) -> frozenset[str]:
    return defined_macros(compiler)


@functools.cache
def _refusal() -> str | None:
    """Ask Linux to let this process use tiles; return why it may not, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "tiles are used on Linux for x86-64 alone"
    system = ctypes.CDLL(None, use_errno=True)
    asked = (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    if system.syscall(*map(ctypes.c_long, asked)) == 0:
        return None
    return f"the system refuses tiles: {os.strerror(ctypes.get_errno())}"
