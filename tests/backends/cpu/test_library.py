import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from regard.backends.cpu import compiler, folder, library
from regard.backends.cpu.library import cached, clear, load_library
from regard.errors import FileError, UnsupportedError

ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return %d; }\n'
DAY = 24 * 3600.0
# Stands in for the packages above, whose own imports take seconds.
OTHER_PROCESS = """
import sys, types
for name in ("regard", "regard.backends", "regard.backends.cpu"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = ["/".join([sys.argv[1], *name.split(".")])]
from regard.backends.cpu import library
print(library.load_library(sys.argv[2], "mine").answer())
"""
SOURCE_FOLDER = str(Path(library.__file__).parents[3])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a process that has loaded nothing."""
    where = tmp_path / "cache"
    monkeypatch.setenv("REGARD_CACHE_DIR", str(where))
    forget(monkeypatch)
    return where


@pytest.fixture
def builds(monkeypatch):
    """The names of what the compiler was given, in order."""
    seen = []

    def counted(found, source, *rest):
        seen.append(source.parent.name)
        return compiler.compile_library(found, source, *rest)

    monkeypatch.setattr(library, "compile_library", counted)
    return seen


def forget(monkeypatch):
    """Be as a new process: nothing is in memory."""
    for name in ("_loaded", "_locks"):
        getattr(library, name).clear()
    monkeypatch.setattr(library, "_warned", set())


def kept(cache, suffix):
    (path,) = (path for path in cache.glob(f"*{suffix}") if "compiler" not in path.name)
    return path


def names(cache):
    return {path.suffix for path in cache.iterdir() if "compiler" not in path.name}


def other_process(source):
    command = [sys.executable, "-W", "error", "-c", OTHER_PROCESS, SOURCE_FOLDER, source]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wrapper(path, monkeypatch, doing):
    """Have other processes use a compiler that does something before it compiles a kernel."""
    found = compiler.find_compiler()
    assert isinstance(found, compiler.Compiler)
    lines = ["#!/bin/sh", f"case $* in *kernel.cpp*) {doing};; esac", f'exec {found.path} "$@"']
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("REGARD_CXX", str(path))


def test_source_becomes_a_library(cache):
    found = load_library(ANSWER % 41, "mine")
    assert found.answer() == 41
    assert kept(cache, ".cpp").read_text(encoding="utf-8") == ANSWER % 41
    facts = json.loads(kept(cache, ".json").read_text(encoding="utf-8"))
    assert facts["name"] == "mine" and facts["build_seconds"] > 0
    assert facts["size_bytes"] == kept(cache, ".so").stat().st_size
    assert names(cache) == {".so", ".cpp", ".json"}


def test_what_is_kept_is_private(cache):
    load_library(ANSWER % 1, "mine")
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in cache.iterdir()}
    assert modes == {".so": 0o700, ".cpp": 0o600, ".json": 0o600}
    assert cache.stat().st_mode & 0o777 == 0o700


def test_same_source_is_one_library_in_a_process(builds):
    assert load_library(ANSWER % 1, "mine") is load_library(ANSWER % 1, "other name")
    assert len(builds) == 1


def test_new_process_finds_the_library_on_disk(builds, monkeypatch):
    load_library(ANSWER % 2, "mine")
    forget(monkeypatch)
    assert load_library(ANSWER % 2, "mine").answer() == 2
    assert len(builds) == 1


def test_loading_from_disk_is_quick(monkeypatch):
    load_library(ANSWER % 2, "mine")
    seconds = []
    for _ in range(5):
        forget(monkeypatch)
        compiler.find_compiler.cache_clear()
        compiler.cpu_identity.cache_clear()
        library.headers_digest.cache_clear()
        began = time.perf_counter()
        load_library(ANSWER % 2, "mine")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.025


@pytest.mark.parametrize("what", ["source", "defines", "headers", "identity"])
def test_all_that_matters_is_part_of_the_key(what, builds, monkeypatch, tmp_path):
    source, defines = ANSWER % 3, ()
    load_library(source, "mine", defines)
    forget(monkeypatch)
    if what == "source":
        source = ANSWER % 4
    elif what == "defines":
        defines = ("X",)
    elif what == "headers":
        monkeypatch.setattr(library, "headers_digest", lambda: "other headers")
    else:
        found = compiler.find_compiler()
        assert isinstance(found, compiler.Compiler)
        other = compiler.Compiler(**{**found.__dict__, "identity": "another processor"})
        monkeypatch.setattr(library, "find_compiler", lambda: other)
    load_library(source, "mine", defines)
    assert len(builds) == 2


def test_headers_count_by_name_and_content(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "TEMPLATES", tmp_path)
    digests = set()
    for name, text in [("a.h", "1"), ("a.h", "2"), ("b.h", "2"), ("deep/a.h", "2")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        library.headers_digest.cache_clear()
        digests.add(library.headers_digest())
    library.headers_digest.cache_clear()
    assert len(digests) == 4


def test_threads_build_once(builds):
    ready, found = threading.Barrier(8), []

    def load():
        ready.wait()
        found.append(load_library(ANSWER % 5, "mine"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1 and len(found) == 8 and len(set(map(id, found))) == 1


def test_processes_build_once(cache, tmp_path, monkeypatch):
    log = tmp_path / "log"
    wrapper(tmp_path / "compiler", monkeypatch, f"echo built >> '{log}'; sleep 0.5")
    processes = [other_process(ANSWER % 6) for _ in range(3)]
    done = [process.communicate(timeout=90) for process in processes]
    assert [out for out, _ in done] == ["6\n"] * 3, done
    assert log.read_text(encoding="utf-8") == "built\n"
    assert names(cache) == {".so", ".cpp", ".json"}


def test_forked_child_builds_although_a_thread_of_its_parent_was_building(monkeypatch):
    source, go_on = ANSWER % 7, threading.Event()
    building = threading.Event()

    def slow(*given):
        building.set()
        go_on.wait(30)
        return compiler.compile_library(*given)

    monkeypatch.setattr(library, "compile_library", slow)
    monkeypatch.setattr(folder, "_LOCK_SECONDS", 0.1)
    thread = threading.Thread(target=load_library, args=(source, "mine"))
    thread.start()
    assert building.wait(30)
    with warnings.catch_warnings():
        # Newer Pythons warn of any fork beside threads; that it is done anyway is the point.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            library.compile_library = compiler.compile_library
            os._exit(load_library(source, "mine").answer())
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7
    assert load_library(source, "mine").answer() == 7


def swap(path, data):
    """Put another file in the place of one; a library that is loaded must not change."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o600)


@pytest.mark.parametrize(
    "harm",
    [
        lambda so: swap(so, so.read_bytes()[:-8]),
        lambda so: swap(so, bytes(so.stat().st_size)),
        lambda so: swap(so, b""),
        lambda so: so.unlink(),
        lambda so: so.with_suffix(".json").unlink(),
        lambda so: swap(so.with_suffix(".json"), b"{"),
        lambda so: swap(so.with_suffix(".json"), b"[]"),
        lambda so: swap(so.with_suffix(".json"), b"{}"),
        lambda so: swap(so.with_suffix(".json"), b"\xff"),
    ],
    ids=[
        *("truncated", "zeros", "empty", "no library"),
        *("no facts", "half facts", "list", "nothing", "binary facts"),
    ],
)
def test_library_that_is_not_what_was_built_is_built_again(harm, cache, builds, monkeypatch):
    load_library(ANSWER % 8, "mine")
    before = kept(cache, ".so").read_bytes()
    harm(kept(cache, ".so"))
    for _ in range(2):
        forget(monkeypatch)
        assert load_library(ANSWER % 8, "mine").answer() == 8
    assert len(builds) == 2
    assert kept(cache, ".so").read_bytes() == before
    assert len(cached()) == 1


def test_killed_build_hinders_nobody_and_is_cleaned_up_later(cache, tmp_path, monkeypatch):
    started = tmp_path / "started"
    once = f"[ -e '{started}' ] || {{ touch '{started}'; exec sleep 5; }}"
    wrapper(tmp_path / "compiler", monkeypatch, once)
    process = other_process(ANSWER % 9)
    until = time.monotonic() + 60
    while not started.exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    (left,), (lock,) = cache.glob(f"{folder.BUILDING}*"), cache.glob("*.lock")
    out, problem = other_process(ANSWER % 9).communicate(timeout=60)
    assert out == "9\n", problem
    assert left.exists() and not lock.exists()
    lock.touch()
    for path in (left, lock):
        os.utime(path, (time.time() - DAY,) * 2)
    load_library(ANSWER % 10, "mine")
    assert not left.exists() and not lock.exists()


def test_lock_of_a_killed_build_is_free(cache):
    cache.mkdir(mode=0o700)
    lock = cache / f"{library._job(ANSWER % 9, 'mine', ()).key}.lock"
    lock.touch()
    load_library(ANSWER % 9, "mine")
    assert not lock.exists()


def test_patience_with_a_lock_ends(tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    text = "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
    text += "print('held', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", text, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with monkeypatch.context() as impatient:
            impatient.setattr(folder, "_LOCK_SECONDS", 0.05)
            with folder.locked(path) as held:
                assert not held
        assert path.exists()
        process.communicate("")
    with folder.locked(path) as held:
        assert held
    assert not path.exists()


def test_file_system_without_locks_is_used_all_the_same(tmp_path, monkeypatch):
    import fcntl

    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unknown)
    assert load_library(ANSWER % 11, "mine").answer() == 11
    assert len(cached()) == 1


def fail_below(monkeypatch, module, name, where, number):
    """Let a function fail when a path below a folder is among what it is given."""
    real = getattr(module, name)

    def failing(*given, **named):
        paths = [str(one) for one in (*given, *named.values())]
        if any(path.startswith(str(where)) for path in paths):
            raise OSError(number, os.strerror(number))
        return real(*given, **named)

    monkeypatch.setattr(module, name, failing)


def expect_private(source, number, why, cache):
    """Load with one warning that gives the reason; nothing is kept, and nothing left behind."""
    with pytest.warns(UserWarning, match=why):
        assert load_library(source % number, "mine").answer() == number
    assert load_library(source % (number + 1), "mine").answer() == number + 1
    assert not cache.is_dir() or not list(cache.glob("*.so"))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files."""
    where = tmp_path / "temporary"
    where.mkdir()
    monkeypatch.setattr(library.tempfile, "tempdir", str(where))
    return where


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["replace", "mkdir", "open"])
def test_where_nothing_can_be_written_libraries_are_built_apart(
    name, number, cache, temporary, monkeypatch
):
    fail_below(monkeypatch, os, name, cache, number)
    expect_private(ANSWER, 12, os.strerror(number), cache)
    assert list(temporary.iterdir()) == []


def test_compiler_that_finds_the_disk_full_is_no_fault_of_the_source(cache, temporary, monkeypatch):
    def full(found, source, *rest):
        if source.is_relative_to(cache):
            return "ld: final link failed: No space left on device"
        return compiler.compile_library(found, source, *rest)

    monkeypatch.setattr(library, "compile_library", full)
    expect_private(ANSWER, 14, "No space left on device", cache)
    assert list(temporary.iterdir()) == []
    assert not list(cache.glob(f"{folder.BUILDING}*"))


def test_linker_that_dies_on_a_full_disk_is_no_fault_of_the_source(cache, monkeypatch):
    def full(found, source, *rest):
        if source.is_relative_to(cache):
            return "collect2: fatal error: ld terminated with signal 7 [Bus error]"
        return compiler.compile_library(found, source, *rest)

    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(library, "compile_library", full)
    monkeypatch.setattr(library.shutil, "disk_usage", lambda _: usage._replace(free=0))
    expect_private(ANSWER, 16, "No space left on device", cache)


def test_no_room_anywhere_is_an_error(cache, temporary, monkeypatch):
    load_library(ANSWER % 0, "mine")
    full = "as: error: No space left on device"
    monkeypatch.setattr(library, "compile_library", lambda *_: full)
    monkeypatch.setattr(library, "_warned", {"before"})
    with pytest.raises(UnsupportedError, match=r"^mine: .* neither .* set REGARD_CACHE_DIR or TMP"):
        load_library(ANSWER % 18, "mine")
    assert list(temporary.iterdir()) == []
    fail_below(monkeypatch, os, "mkdir", temporary, errno.ENOSPC)
    with pytest.raises(UnsupportedError, match="No space left on device"):
        load_library(ANSWER % 18, "mine")


def test_cache_folder_that_is_a_file_is_not_used(cache):
    cache.touch()
    with pytest.warns(UserWarning, match=f"are not kept in {cache}: {cache}: it is no folder"):
        assert load_library(ANSWER % 20, "mine").answer() == 20


def test_cache_folder_that_is_not_writable_is_not_used(cache, monkeypatch):
    cache.mkdir(mode=0o700)
    monkeypatch.setattr(folder.os, "access", lambda *_: False)
    expect_private(ANSWER, 21, "it is not writable", cache)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_folder_others_may_write_to_is_not_used(cache, mode):
    cache.mkdir()
    cache.chmod(mode)
    expect_private(ANSWER, 23, rf"others may write to it \(mode {mode:o}\)", cache)


def test_folder_of_another_user_is_not_used(cache, monkeypatch):
    cache.mkdir(mode=0o700)
    user = os.geteuid()
    monkeypatch.setattr(folder.os, "geteuid", lambda: user + 1)
    expect_private(ANSWER, 25, f"it belongs to user {user}, not to you", cache)


@pytest.mark.parametrize("suffix", [".so", ".json"])
def test_file_others_may_write_to_is_not_loaded(cache, suffix, monkeypatch, builds):
    load_library(ANSWER % 27, "mine")
    kept(cache, suffix).chmod(0o620)
    forget(monkeypatch)
    with pytest.warns(UserWarning, match=rf"\{suffix}: others may write to it \(mode 620\)"):
        assert load_library(ANSWER % 27, "mine").answer() == 27
    assert len(builds) == 2


@pytest.mark.parametrize("suffix", [".so", ".json"])
def test_file_of_another_user_is_not_loaded(cache, suffix, monkeypatch, builds):
    load_library(ANSWER % 28, "mine")
    real = os.fstat

    def foreign(handle):
        found = list(real(handle))
        name = os.readlink(f"/proc/self/fd/{handle}")
        if name.endswith(suffix) and "compiler" not in name:
            found[4] += 1  # st_uid
        return os.stat_result(found)

    forget(monkeypatch)
    monkeypatch.setattr(folder.os, "fstat", foreign)
    with pytest.warns(UserWarning, match=rf"\{suffix}: it belongs to user"):
        assert load_library(ANSWER % 28, "mine").answer() == 28
    assert len(builds) == 2


def test_link_is_not_followed(cache, monkeypatch, tmp_path):
    load_library(ANSWER % 29, "mine")
    path = kept(cache, ".so")
    path.rename(tmp_path / "elsewhere.so")
    path.symlink_to(tmp_path / "elsewhere.so")
    forget(monkeypatch)
    with pytest.warns(UserWarning, match="symbolic links"):
        assert load_library(ANSWER % 29, "mine").answer() == 29


def test_library_the_cache_folder_cannot_run_is_loaded_from_elsewhere(cache, monkeypatch):
    real = library.ctypes.CDLL

    def load(path):
        if path.startswith(str(cache)):
            raise OSError("failed to map segment from shared object")
        return real(path)

    monkeypatch.setattr(library.ctypes, "CDLL", load)
    with pytest.warns(UserWarning, match="failed to map segment"):
        assert load_library(ANSWER % 30, "mine").answer() == 30


def test_function_that_exists_nowhere_is_an_error():
    source = 'extern "C" int nowhere(); extern "C" int answer() { return nowhere(); }'
    with (
        pytest.warns(UserWarning, match="undefined symbol: nowhere"),
        pytest.raises(UnsupportedError, match="undefined symbol: nowhere"),
    ):
        load_library(source, "mine")


def test_source_that_does_not_compile_is_an_error_that_names_its_file(cache):
    source = "int f() {\n  return x;\n}\n"
    with pytest.raises(UnsupportedError) as caught:
        load_library(source, "mine")
    message = str(caught.value)
    assert message.startswith("mine: ") and "does not compile its kernel\n" in message
    assert "  kernel.cpp:2:10: error: " in message
    assert message.endswith(f"\nits source: {kept(cache, '.cpp')}")
    assert kept(cache, ".cpp").read_text(encoding="utf-8") == source
    assert names(cache) == {".cpp"}


def test_long_message_is_cut():
    source = "\n".join(f"int f{i}() {{ return x{i}; }}" for i in range(30))
    with pytest.raises(UnsupportedError, match=r"… and \d+ more lines\nits source"):
        load_library(source, "mine")


def test_source_that_does_not_compile_is_kept_even_without_a_cache(cache, temporary):
    cache.touch()
    with (
        pytest.warns(UserWarning, match="it is no folder"),
        pytest.raises(UnsupportedError, match=f"its source: {temporary}"),
    ):
        load_library("int f() { return x; }", "mine")
    (source,) = temporary.glob("*/kernel.cpp")
    assert source.read_text(encoding="utf-8") == "int f() { return x; }"


def test_no_compiler_is_an_error_with_the_reason(monkeypatch):
    monkeypatch.setattr(library, "find_compiler", lambda: "no C++ compiler is on PATH")
    with pytest.raises(UnsupportedError, match=r"^mine: no C\+\+ compiler is on PATH$"):
        load_library(ANSWER % 31, "mine")


def test_libraries_are_listed_the_newest_first(cache):
    assert cached() == []
    for number, name in ((32, "old"), (33, "new")):
        load_library(ANSWER % number, name)
    for path in cache.glob("*.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.get("name") == "old":
            path.write_text(json.dumps({**facts, "built": "2020-01-02T03:04:05+00:00"}))
    new, old = cached()
    assert (new.name, old.name) == ("new", "old")
    assert old.built == 1577934245
    assert new.path.stat().st_size == new.size_bytes
    assert new.compiler.startswith(("gcc ", "clang ")) and new.build_seconds > 0


def test_clearing_removes_ours_and_nothing_else(cache):
    found = load_library(ANSWER % 34, "mine")
    load_library(ANSWER % 35, "mine")
    compiler.find_compiler.cache_clear()
    compiler.find_compiler()
    for name in ("diary.cpp", "settings.json", "other.lock"):
        (cache / name).write_text("{}")
        os.utime(cache / name, (1, 1))
    assert clear() == 2
    assert sorted(path.name for path in cache.iterdir()) == [
        *("diary.cpp", "other.lock", "settings.json")
    ]
    assert found.answer() == 34
    assert clear() == 0


def test_clearing_without_a_folder_removes_nothing(cache):
    assert clear() == 0 and not cache.exists()


def test_file_that_cannot_be_removed_is_an_error(cache, monkeypatch):
    load_library(ANSWER % 36, "mine")
    fail_below(monkeypatch, os, "unlink", cache, errno.EACCES)
    with pytest.raises(FileError, match=r"not all files could be removed: .*Permission denied"):
        clear()


def test_cleared_library_is_built_again(builds, monkeypatch):
    load_library(ANSWER % 37, "mine")
    clear()
    forget(monkeypatch)
    assert load_library(ANSWER % 37, "mine").answer() == 37
    assert len(builds) == 2


@pytest.mark.parametrize(
    ("platform", "variables", "where"),
    [
        ("linux", {"REGARD_CACHE_DIR": "~/mine"}, "mine"),
        ("linux", {"XDG_CACHE_HOME": "HOME/caches"}, "caches/regard/cpu"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, ".cache/regard/cpu"),
        ("linux", {}, ".cache/regard/cpu"),
        ("darwin", {}, "Library/Caches/regard/cpu"),
    ],
)
def test_cache_folder_is_the_users(platform, variables, where, tmp_path, monkeypatch):
    for name in ("REGARD_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("HOME", str(tmp_path)))
    monkeypatch.setattr(folder.sys, "platform", platform)
    assert folder.cache_folder() == tmp_path / where
