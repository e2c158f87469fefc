import ctypes
import os
import re
import subprocess
import sys

import pytest
import torch

from regard.backends.cpu import compiler as c
from regard.backends.cpu.compiler import Compiler, compile_library, find_compiler

SOURCE = """
extern "C" int omp_get_max_threads(void);
extern "C" __attribute__((visibility("default"))) int threads() {
    int turns = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : turns)
    for (int i = 0; i < 10; i++) turns += 1;
    return 100 * turns + omp_get_max_threads();
}
"""


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A process that has looked for no compiler yet, and remembers none."""
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("REGARD_CXX", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    find_compiler.cache_clear()
    yield
    find_compiler.cache_clear()


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def working():
    found = find_compiler()
    assert isinstance(found, Compiler), found
    return found


def test_compiler_of_the_path_is_found():
    found = working()
    assert os.path.isabs(found.path) and found.kind in ("gcc", "clang")
    assert re.fullmatch(r"\d+(\.\d+)*", found.version)
    assert found.lanes_bytes in (16, 32, 64)
    assert {"-O2", "-fPIC", "-fno-math-errno"} <= set(found.flags)
    assert find_compiler() is found


def test_vector_size_is_that_of_the_processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        able = next((set(line.split()) for line in file if line.startswith("flags")), set())
    expected = 64 if "avx512f" in able else 32 if {"avx2", "fma"} <= able else 16
    assert working().lanes_bytes == expected


@pytest.mark.parametrize(
    ("macros", "facts"),
    [
        ({"__GNUC__": "12", "__VERSION__": '"12.2.0"'}, ("gcc", "12.2.0", 16)),
        ({"__GNUC__": "12", "__AVX2__": "1"}, ("gcc", "unknown", 16)),
        ({"__GNUC__": "12", "__AVX2__": "1", "__FMA__": "1"}, ("gcc", "unknown", 32)),
        (
            {
                **{"__GNUC__": "4", "__clang__": "1", "__VERSION__": '"Debian Clang 14.0.6"'},
                **{"__AVX512F__": "1", "__AVX2__": "1", "__FMA__": "1"},
            },
            ("clang", "14.0.6", 64),
        ),
        ({"_MSC_VER": "1900"}, "it is neither GCC nor Clang"),
    ],
)
def test_macros_are_understood(macros, facts):
    assert c._facts(macros) == facts


def test_long_vectors_are_asked_for_where_there_are_some(monkeypatch):
    monkeypatch.setattr(c, "_probe", lambda *_: ("gcc", "12.2.0", 64))
    assert "-mprefer-vector-width=512" in working().flags


def test_threads_are_those_of_torch(tmp_path):
    found = working()
    assert found.openmp
    before = c.openmp_runtimes()
    source, built = tmp_path / "kernel.cpp", tmp_path / "kernel.so"
    source.write_text(SOURCE, encoding="utf-8")
    assert compile_library(found, source, built, tmp_path) is None
    library = ctypes.CDLL(str(built))
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        assert library.threads() == 1000 + count
    torch.set_num_threads(threads)
    assert c.openmp_runtimes() == before


def test_runtime_that_does_not_answer_the_compiler_is_not_used(monkeypatch):
    monkeypatch.setitem(c._OPENMP_CALL, "gcc", "no_such_call")
    assert not c.share_openmp("gcc")


def test_runtime_whose_file_is_gone_is_not_used(monkeypatch):
    monkeypatch.setattr(c, "openmp_runtimes", lambda: ["gone/libgomp.so.1"])
    assert not c.share_openmp("gcc")


def test_without_a_runtime_there_is_one_thread_and_another_identity(monkeypatch):
    threaded = working()
    monkeypatch.setattr(c, "openmp_runtimes", list)
    find_compiler.cache_clear()
    alone = working()
    assert threaded.openmp and not alone.openmp
    assert threaded.identity != alone.identity


def test_runtimes_are_known_by_their_names(monkeypatch):
    names = ["lib/libgomp-24e2ab19.so.1.0.0", "b c/libiomp5.so", "libomp.dylib", "libomp.so.5"]
    others = ["libompl.so", "libomptarget.so", "xlibgomp.so", "[heap]", ""]
    monkeypatch.setattr(c, "_loaded_files", lambda: iter([*names, *others, *names]))
    assert c.openmp_runtimes() == names


def test_runtime_is_found_on_macos_too(monkeypatch):
    class Process:
        def __init__(self, _):
            names = [b"lib/libomp.dylib", b"lib/libSystem.dylib", None]
            self._dyld_image_count = lambda: len(names)

            def name(index):
                return names[index]

            self._dyld_get_image_name = name

    monkeypatch.setattr(c.sys, "platform", "darwin")
    monkeypatch.setattr(c.ctypes, "CDLL", Process)
    assert c.openmp_runtimes() == ["lib/libomp.dylib"]


def test_no_compiler_on_the_path_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() == (
        "no C++ compiler (g++, clang++, c++) is on PATH; install one or set REGARD_CXX"
    )


@pytest.mark.parametrize("variable", ["REGARD_CXX", "CXX"])
def test_compiler_that_does_not_exist_is_a_reason(monkeypatch, variable):
    monkeypatch.setenv(variable, "no-such-g++ -m64")
    assert find_compiler() == (
        f"{variable}=no-such-g++ -m64: there is no program no-such-g++; "
        "name a C++ compiler such as g++"
    )


def test_quote_that_never_ends_is_part_of_the_name(monkeypatch):
    monkeypatch.setenv("CXX", "g'++")
    assert find_compiler() == (
        "CXX=g'++: there is no program g'++; name a C++ compiler such as g++"
    )


def test_our_variable_comes_before_the_common_one(monkeypatch, tmp_path):
    mine = script(tmp_path / "my g++", f'exec {working().path} "$@"')
    find_compiler.cache_clear()
    monkeypatch.setenv("CXX", "no-such-g++")
    monkeypatch.setenv("REGARD_CXX", str(mine))
    assert working().path == str(mine)


def test_compiler_may_be_given_words_of_its_own(monkeypatch, tmp_path):
    launcher = script(tmp_path / "launcher", 'exec "$@"')
    plain = working()
    find_compiler.cache_clear()
    monkeypatch.setenv("CXX", f"{launcher} {plain.path} -DMINE=1")
    found = working()
    assert found.path == str(launcher)
    assert found.flags[:2] == (plain.path, "-DMINE=1")
    assert found.identity != plain.identity


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo 'cc1plus: error: it is broken' >&2; exit 1", "cc1plus: error: it is broken"),
        ("exit 3", "it ended with status 3 and said nothing"),
        # Knows its macros, but has no linker.
        (
            'case "$*" in *-dM*) echo "#define __GNUC__ 9";; *) echo no ld >&2; exit 1;; esac',
            "no ld",
        ),
    ],
)
def test_compiler_that_fails_on_two_lines_is_a_reason(monkeypatch, tmp_path, text, why):
    broken = script(tmp_path / "broken", text)
    monkeypatch.setenv("REGARD_CXX", str(broken))
    assert find_compiler() == f"REGARD_CXX={broken}: it fails on a program of two lines: {why}"


def test_file_that_is_no_program_is_a_reason(monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    monkeypatch.setenv("REGARD_CXX", str(broken))
    assert "it cannot be run: Exec format error" in str(find_compiler())


def test_compiler_that_never_ends_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(c, "_COMPILE_SECONDS", 0.05)
    monkeypatch.setenv("REGARD_CXX", str(script(tmp_path / "slow", "exec sleep 5")))
    assert str(find_compiler()).endswith("it took longer than 0.05 seconds")


def test_unknown_compiler_is_a_reason(monkeypatch, tmp_path):
    other = script(tmp_path / "other", "echo '#define _MSC_VER 1900'")
    monkeypatch.setenv("REGARD_CXX", str(other))
    assert find_compiler() == f"REGARD_CXX={other}: it is neither GCC nor Clang"


def test_no_temporary_folder_is_a_reason(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(c.tempfile, "TemporaryDirectory", full)
    assert "it cannot be tried in a temporary folder" in str(find_compiler())


def test_windows_is_a_reason(monkeypatch):
    monkeypatch.setattr(c.sys, "platform", "win32")
    assert find_compiler() == "C++ kernels are not built on Windows"


def test_second_compiler_of_the_path_is_tried(monkeypatch, tmp_path):
    real = working().path
    find_compiler.cache_clear()
    script(tmp_path / "g++", "exit 1")
    works = script(tmp_path / "clang++", f'PATH="{os.environ["PATH"]}" exec {real} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert working().path == str(works)


def test_all_compilers_that_do_not_work_are_named(monkeypatch, tmp_path):
    for name in ("g++", "c++"):
        script(tmp_path / name, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    why = "it fails on a program of two lines: it ended with status 1 and said nothing"
    assert find_compiler() == f"no C++ compiler works; g++: {why}; c++: {why}"


def test_answers_are_remembered_by_other_processes(monkeypatch, tmp_path):
    first = working()
    (remembered,) = (tmp_path / "cache").glob("compiler-*.json")
    assert remembered.stat().st_mode & 0o777 == 0o600
    find_compiler.cache_clear()
    monkeypatch.setattr(c, "_run", lambda *_: pytest.fail("the compiler was asked again"))
    assert find_compiler() == first


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_memory_that_makes_no_sense_is_not_used(tmp_path, text):
    first = working()
    (remembered,) = (tmp_path / "cache").glob("compiler-*.json")
    remembered.write_text(text, encoding="utf-8")
    find_compiler.cache_clear()
    assert find_compiler() == first


def test_memory_others_may_write_to_is_not_used(tmp_path):
    first = working()
    (remembered,) = (tmp_path / "cache").glob("compiler-*.json")
    remembered.write_text('{"kind": "gcc", "version": "0", "lanes_bytes": 16}', encoding="utf-8")
    remembered.chmod(0o666)
    find_compiler.cache_clear()
    assert find_compiler() == first


def test_memory_is_done_without_where_nothing_can_be_kept(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("REGARD_CACHE_DIR", str(file))
    assert working()


def test_replaced_compiler_has_another_identity(monkeypatch, tmp_path):
    real = working().path
    mine = script(tmp_path / "mine", f'exec {real} "$@"')
    monkeypatch.setenv("REGARD_CXX", str(mine))
    find_compiler.cache_clear()
    before = working()
    os.utime(mine, (1, 1))
    find_compiler.cache_clear()
    assert working().identity != before.identity


def test_processor_is_part_of_the_identity(monkeypatch):
    before = working()
    assert "flags" in c.cpu_identity() or "Features" in c.cpu_identity()
    assert "MHz" not in c.cpu_identity()
    monkeypatch.setattr(c, "cpu_identity", lambda: "another processor")
    find_compiler.cache_clear()
    assert working().identity != before.identity


def test_processor_without_a_list_is_asked_for_its_name(monkeypatch):
    def no_file(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_file)
    monkeypatch.setattr(c.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(c.platform, "processor", lambda: "arm")
    assert c.cpu_identity.__wrapped__() == "arm64\narm"
    assert c._native_flag() == "-mcpu=native"


def test_messages_are_english_and_name_the_file_shortly(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    source = tmp_path / "kernel.cpp"
    source.write_text("int f() { return x; }", encoding="utf-8")
    said = compile_library(working(), source, tmp_path / "kernel.so", tmp_path)
    assert said is not None and re.search(r"^kernel.cpp:1:\d+: error: ", said, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["kernel.cpp"]


def test_headers_and_macros_reach_the_compiler(tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mine.h").write_text("#define MINE 30\n", encoding="utf-8")
    source, built = tmp_path / "kernel.cpp", tmp_path / "kernel.so"
    text = '#include "mine.h"\nextern "C" [[gnu::visibility("default")]] int f()'
    source.write_text(text + " { return MINE + A + B; }", encoding="utf-8")
    said = compile_library(working(), source, built, tmp_path / "include", ("A=4", "B"))
    assert said is None
    assert ctypes.CDLL(str(built)).f() == 35


def test_process_without_torch_compiles_for_one_thread():
    text = (
        "import sys, types\n"
        "package = types.ModuleType('cpu'); package.__path__ = [sys.argv[1]]\n"
        "for name in ('regard', 'regard.backends', 'regard.backends.cpu'):\n"
        "    sys.modules[name] = package\n"
        "from regard.backends.cpu.compiler import find_compiler\n"
        "assert 'torch' not in sys.modules\n"
        "print(find_compiler().openmp)\n"
    )
    command = [sys.executable, "-c", text, os.path.dirname(c.__file__)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
