"""The C++ compiler of this machine: which it is, what it can do, and one call of it.

OpenMP is compiled in but not linked. Its functions are taken from the runtime that torch already
has in the process, so that both share one pool of threads. Leaves to others: what is compiled
(`emit`), where the result is kept (`library`).
"""

import ctypes
import functools
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regard.backends.cpu.folder import cache_folder, open_folder, read_trusted, write_private

_ON_PATH = ("g++", "clang++", "c++")
_FLAGS = (
    *("-std=c++17", "-O2", "-shared", "-fPIC", "-pipe", "-Wno-psabi", "-fvisibility=hidden"),
    *("-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-fno-trapping-math"),
    *("-ffp-contract=fast", "-fno-signed-zeros"),
)
# Given this way the driver passes it on to the compiler and knows nothing of it when it links.
_OPENMP = ("-Xpreprocessor", "-fopenmp")
_PROBE = """#include <cstdint>
extern "C" __attribute__((visibility("default"))) std::int32_t probe() { return 7; }
"""
_COMPILE_SECONDS = 600.0
_OPENMP_RUNTIME = re.compile(r"lib(gomp|iomp5|omp)\b.*")
# What calls look like that a compiler makes of `#pragma omp parallel`.
_OPENMP_CALL = {"gcc": "GOMP_parallel", "clang": "__kmpc_fork_call"}
# The lines of /proc/cpuinfo that say what code a core can run, x86 and ARM.
_CPU_LINES = re.compile(r"(vendor_id|model name|flags|Features|CPU (implementer|variant|part))\s*:")


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that works.

    Attributes:
        path: The program that is run.
        version: Its version, such as "12.2.0".
        kind: "gcc" or "clang".
        lanes_bytes: The size of this processor's vectors, in bytes.
        flags: What it is always given; it holds "-fopenmp" if threads can be used.
        identity: A text that differs wherever a built library could.
    """

    path: str
    version: str
    kind: str
    lanes_bytes: int
    flags: tuple[str, ...]
    identity: str

    @property
    def openmp(self) -> bool:
        """Whether `#pragma omp` has an effect."""
        return _OPENMP[-1] in self.flags


@functools.cache
def find_compiler() -> Compiler | str:
    """Return the compiler to use; it is looked for once per process.

    The environment variable REGARD_CXX names it, else CXX, else it is the first of g++, clang++
    and c++ that works. The OpenMP runtime, if it can be used, is made visible to later libraries.

    Returns:
        The compiler, or the reason why there is none.
    """
    if sys.platform == "win32":
        return "C++ kernels are not built on Windows"
    for variable in ("REGARD_CXX", "CXX"):
        if chosen := os.environ.get(variable, "").strip():
            found = _examine(_words(chosen))
            return f"{variable}={chosen}: {found}" if isinstance(found, str) else found
    reasons = []
    for name in filter(shutil.which, _ON_PATH):
        found = _examine([name])
        if isinstance(found, Compiler):
            return found
        reasons.append(f"{name}: {found}")
    if reasons:
        return "no C++ compiler works; " + "; ".join(reasons)
    return f"no C++ compiler ({', '.join(_ON_PATH)}) is on PATH; install one or set REGARD_CXX"


def compile_library(
    compiler: Compiler, source: Path, library: Path, include: Path, defines: tuple[str, ...] = ()
) -> str | None:
    """Compile a source file to a shared library.

    Args:
        compiler: The compiler.
        source: The source file; temporary files are put beside it.
        library: Where the library is written.
        include: Where headers are found.
        defines: Macros: "NAME" or "NAME=VALUE".

    Returns:
        None, or what the compiler said when it failed.
    """
    macros = [f"-D{define}" for define in defines]
    # The name is relative so that messages are short.
    files = ["-I", str(include), source.name, "-o", str(library)]
    done = _run([compiler.path, *compiler.flags, *macros, *files], source.parent)
    return done if isinstance(done, str) else None


def defined_macros(compiler: Compiler) -> frozenset[str]:
    """Return the names a compiler defines by itself, with its flags, for this processor.

    Args:
        compiler: The compiler.

    Returns:
        Names such as "__AVX2__"; none if it cannot be asked.
    """
    command = [compiler.path, *compiler.flags, "-dM", "-E", "-x", "c++", os.devnull]
    printed = _run(command, Path(tempfile.gettempdir()))
    lines = b"" if isinstance(printed, str) else printed
    words = (line.split(maxsplit=2) for line in lines.decode(errors="replace").splitlines())
    return frozenset(word[1] for word in words if len(word) > 1)


def _words(chosen: str) -> list[str]:
    """Split "ccache g++ -m64", but not a path with a space in it."""
    try:
        return [chosen] if os.path.isfile(chosen) else shlex.split(chosen)
    except ValueError:
        return [chosen]  # a quote that never ends


def _run(command: list[str], folder: Path) -> bytes | str:
    """Return what a compiler printed, or as text what it complained about."""
    # C: messages in English. TMPDIR: what a killed compiler leaves is removed with the folder.
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(folder)}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMPILE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_COMPILE_SECONDS:g} seconds"
    except OSError as problem:
        return f"it cannot be run: {problem.strerror}"
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    return said or f"it ended with status {done.returncode} and said nothing"


def _examine(words: list[str]) -> Compiler | str:
    """Return the compiler that is started by these words, or why it cannot be used."""
    path = shutil.which(words[0])
    if path is None:
        return f"there is no program {words[0]}; name a C++ compiler such as g++"
    path, march = os.path.abspath(path), _native_flag()
    stamp = "|".join([_stamp(word) for word in words] + [*words, march, cpu_identity()])
    facts = _remembered(stamp) or _probe([path, *words[1:], march], stamp)
    if isinstance(facts, str):
        return facts
    kind, version, lanes_bytes = facts
    flags = [*words[1:], march, *_FLAGS]
    if lanes_bytes == 64:
        # Both compilers would use half of each vector otherwise.
        flags.append("-mprefer-vector-width=512")
    if share_openmp(kind):
        flags += _OPENMP
        # Elsewhere than on macOS an undefined function is no error of the linker.
        flags += ["-Wl,-undefined,dynamic_lookup"] if sys.platform == "darwin" else []
    identity = "|".join([kind, version, *flags, stamp])
    return Compiler(path, version, kind, lanes_bytes, tuple(flags), identity)


def _native_flag() -> str:
    x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    return "-march=native" if x86 else "-mcpu=native"


def _stamp(word: str) -> str:
    """Return a text that changes when another compiler is installed under this name."""
    path = shutil.which(word)
    if path is None:
        return word
    found = os.stat(path)
    return f"{os.path.realpath(path)} {found.st_size} {found.st_mtime_ns}"


@functools.cache
def cpu_identity() -> str:
    """Return what tells this processor from others that run other code.

    Returns:
        Its model and the names of its instruction sets.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            # A blank line ends the first core; the others are like it.
            core = list(iter(lambda: file.readline().strip(), ""))
    except OSError:
        core = []
    named = [line for line in core if _CPU_LINES.match(line)]
    return "\n".join([platform.machine(), *(named or [platform.processor()])])


def _probe(command: list[str], stamp: str) -> tuple[str, str, int] | str:
    """Ask a compiler what it is, see that it can build a library, and remember the answer."""
    try:
        printed, built = _compile_probe(command)
    except OSError as problem:
        return f"it cannot be tried in a temporary folder: {problem}"
    for said in (printed, built):
        if isinstance(said, str):
            return f"it fails on a program of two lines: {_first_line(said)}"
    assert isinstance(printed, bytes)
    words = (line.split(maxsplit=2)[1:] for line in printed.decode(errors="replace").splitlines())
    facts = _facts({word[0]: word[-1] for word in words if word})
    if not isinstance(facts, str):
        _remember(stamp, facts)
    return facts


def _compile_probe(command: list[str]) -> tuple[bytes | str, bytes | str]:
    """The predefined macros, and what is printed when a library is built."""
    with tempfile.TemporaryDirectory(prefix="regard-", ignore_cleanup_errors=True) as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(_PROBE, encoding="utf-8")
        printed = _run([*command, "-dM", "-E", source.name], source.parent)
        built = _run([*command, *_FLAGS, source.name, "-o", "probe.so"], source.parent)
    return printed, built


def _facts(macros: dict[str, str]) -> tuple[str, str, int] | str:
    """Read kind, version and size of vectors from the macros a compiler predefines."""
    if "__clang__" not in macros and "__GNUC__" not in macros:
        return "it is neither GCC nor Clang"
    kind = "clang" if "__clang__" in macros else "gcc"
    numbers = re.search(r"\d+(\.\d+)*", macros.get("__VERSION__", ""))
    lanes_bytes = 32 if {"__AVX2__", "__FMA__"} <= macros.keys() else 16
    lanes_bytes = 64 if "__AVX512F__" in macros else lanes_bytes
    return kind, numbers.group() if numbers else "unknown", lanes_bytes


def _first_line(said: str) -> str:
    lines = [line for line in said.splitlines() if "error" in line] or said.splitlines()
    return lines[0].strip()


def _memory(folder: Path, stamp: str) -> Path:
    asked = hashlib.sha256("|".join([stamp, *_FLAGS, _PROBE]).encode()).hexdigest()
    return folder / f"compiler-{asked}.json"


def _remembered(stamp: str) -> tuple[str, str, int] | None:
    """Return what another process found out; asking a compiler takes a tenth of a second."""
    try:
        known = json.loads(read_trusted(_memory(cache_folder(), stamp)))
        return known["kind"], known["version"], known["lanes_bytes"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(stamp: str, facts: tuple[str, str, int]) -> None:
    text = json.dumps(dict(zip(("kind", "version", "lanes_bytes"), facts, strict=True)))
    try:
        write_private(_memory(open_folder(), stamp), text.encode())
    except OSError:
        # Whether anything can be kept is for `library` to say, once.
        return


def share_openmp(kind: str) -> bool:
    """Make the OpenMP runtime of this process visible to libraries that are loaded later.

    Args:
        kind: Of the compiler; the calls of "clang" are not those of "gcc".

    Returns:
        Whether there is a runtime that answers the compiler's calls.
    """
    # Torch's own first, if another package brought one too.
    for path in sorted(openmp_runtimes(), key=lambda path: "torch" not in path):
        try:
            if hasattr(ctypes.CDLL(path), _OPENMP_CALL[kind]):
                ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
                return True
        except OSError:
            continue  # the file was replaced since it was loaded
    return False


def openmp_runtimes() -> list[str]:
    """Return the OpenMP runtimes that are loaded in this process.

    Returns:
        Their paths, each once.
    """
    loaded = dict.fromkeys(_loaded_files())
    return [path for path in loaded if _OPENMP_RUNTIME.match(os.path.basename(path))]


def _loaded_files() -> Iterator[str]:
    """The files mapped into this process, as Linux or macOS lists them."""
    if sys.platform == "darwin":
        process = ctypes.CDLL(None)
        process._dyld_get_image_name.restype = ctypes.c_char_p
        for index in range(process._dyld_image_count()):
            yield os.fsdecode(process._dyld_get_image_name(index) or b"")
        return
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    # address, rights, offset, device, inode, and a path that may hold spaces
    fields = (line.split(maxsplit=5) for line in maps.splitlines())
    yield from (field[5] for field in fields if len(field) == 6)
