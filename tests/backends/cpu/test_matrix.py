"""Which matrix unit is chosen, and what is said where the one that is named cannot be used."""

import errno

import pytest
import torch

import regard as rg
from regard.backends.cpu import matrix
from regard.backends.cpu.compiler import defined_macros, find_compiler
from regard.backends.cpu.matrix import VARIABLE, matrix_defines
from regard.errors import InputError, UnsupportedError
from tests.backends.cpu.programs import rows

FLAGS = "flags : fpu avx512f avx512_bf16 amx_bf16 amx_tile amx_int8"
MACROS = {"__AVX512BF16__", "__AMX_TILE__", "__AMX_BF16__"}


@pytest.fixture
def machine(monkeypatch):
    """Be a machine of these flags and macros, whose system allows tiles or refuses them."""

    def become(flags=FLAGS, macros=MACROS, refusal=None):
        monkeypatch.setattr(matrix, "cpu_identity", lambda: f"x86_64\n{flags}")
        monkeypatch.setattr(matrix, "_macros", lambda _: frozenset(macros))
        monkeypatch.setattr(matrix, "_refusal", lambda: refusal)
        matrix_defines.cache_clear()

    monkeypatch.delenv(VARIABLE, raising=False)
    matrix_defines.cache_clear()
    yield become
    matrix_defines.cache_clear()


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, ("REGARD_AMX",)),
        ({"refusal": "the system refuses tiles"}, ("REGARD_AVX512BF16",)),
        ({"flags": FLAGS.replace("amx_tile", "")}, ("REGARD_AVX512BF16",)),
        ({"macros": {"__AVX512BF16__"}}, ("REGARD_AVX512BF16",)),
        ({"macros": MACROS - {"__AVX512BF16__"}}, ()),
        ({"flags": "flags : fpu avx2 avx512f"}, ()),
    ],
)
def test_best_unit_that_all_have_is_chosen(machine, given, chosen):
    machine(**given)
    assert matrix_defines() == chosen


@pytest.mark.parametrize(
    ("named", "chosen"),
    [
        ("plain", ()),
        ("avx512bf16", ("REGARD_AVX512BF16",)),
        ("amx", ("REGARD_AMX",)),
        ("amx-emulated", ("REGARD_AMX", "REGARD_EMULATE")),
        ("avx512bf16-emulated", ("REGARD_AVX512BF16", "REGARD_EMULATE")),
    ],
)
def test_unit_may_be_named(machine, monkeypatch, named, chosen):
    machine()
    monkeypatch.setenv(VARIABLE, named)
    assert matrix_defines() == chosen


def test_unit_is_chosen_once(machine, monkeypatch):
    machine()
    assert matrix_defines() == ("REGARD_AMX",)
    monkeypatch.setenv(VARIABLE, "plain")
    assert matrix_defines() == ("REGARD_AMX",)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"flags": "flags : fpu avx512_bf16"}, "the processor has no amx_bf16, amx_tile;"),
        ({"macros": {"__AVX512BF16__"}}, "the compiler does not define __AMX_BF16__, __AMX_TILE__"),
        ({"refusal": "the system refuses tiles: no"}, "the system refuses tiles: no;"),
    ],
)
def test_named_unit_that_cannot_be_used_is_an_error(machine, monkeypatch, given, why):
    machine(**given)
    monkeypatch.setenv(VARIABLE, "amx")
    with pytest.raises(UnsupportedError, match=f"^REGARD_MATRIX=amx: {why}") as caught:
        matrix_defines()
    assert "amx-emulated" in str(caught.value)


def test_unknown_unit_is_an_error_for_calls_of_bfloat16_alone(machine, monkeypatch):
    @rg.program
    def spread(pair):
        return rg.softmax(0.125 * rg.dot(pair.q, pair.k))

    monkeypatch.setenv(VARIABLE, "axm")
    with pytest.raises(InputError, match=r"REGARD_MATRIX=axm: .* did you mean 'amx'\?"):
        rg.attend(spread, **rows(dtype=torch.bfloat16), backend="cpu")
    rg.attend(spread, **rows(dtype=torch.float32), backend="cpu")


def test_without_a_compiler_there_is_no_unit(machine, monkeypatch):
    machine()
    monkeypatch.setattr(matrix, "find_compiler", lambda: "there is none")
    assert matrix_defines() == ()


def test_compiler_tells_what_it_defines():
    compiler = find_compiler()
    assert not isinstance(compiler, str)
    found = defined_macros(compiler)
    assert "__GNUC__" in found or "__clang__" in found
    assert ("__AVX512F__" in found) == (compiler.lanes_bytes == 64)


def test_compiler_that_cannot_be_asked_defines_nothing(tmp_path):
    compiler = find_compiler()
    assert not isinstance(compiler, str)
    gone = type(compiler)(**{**compiler.__dict__, "path": str(tmp_path / "gone")})
    assert defined_macros(gone) == frozenset()


class System:
    """Stands in for the C library: answers one system call."""

    def __init__(self, status):
        self.status, self.asked = status, []

    def syscall(self, *words):
        self.asked.append([word.value for word in words])
        return self.status


@pytest.mark.parametrize(("status", "said"), [(0, None), (-1, "the system refuses tiles: ")])
def test_system_is_asked_for_tiles(monkeypatch, status, said):
    system = System(status)
    monkeypatch.setattr(matrix.sys, "platform", "linux")
    monkeypatch.setattr(matrix.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(matrix.ctypes, "CDLL", lambda *_, **__: system)
    monkeypatch.setattr(matrix.ctypes, "get_errno", lambda: errno.EINVAL)
    found = matrix._refusal.__wrapped__()
    assert found is None if said is None else found.startswith(said)
    assert system.asked == [[158, 0x1023, 18]]


def test_tiles_are_asked_for_where_there_are_any(monkeypatch):
    monkeypatch.setattr(matrix.platform, "machine", lambda: "aarch64")
    assert "x86-64" in matrix._refusal.__wrapped__()
