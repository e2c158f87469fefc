from pathlib import Path

import pytest
from typer.testing import CliRunner

from regard.backends.cpu import library
from regard.backends.cpu.library import Entry, load_library
from regard.cli.cache import kernel_table
from regard.cli.main import app

SOURCE = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture
def where(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("REGARD_CACHE_DIR", str(folder))
    library._loaded.clear()
    return folder


def call(*words):
    done = CliRunner().invoke(app, ["cache", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_kernels_are_listed_with_size_age_and_compiler():
    entries = [
        Entry("causal-1a2b", Path("a.so"), 202_600, 995.0, "gcc 12.2.0", 1.0),
        Entry("alibi", Path("b.so"), 1_250_000, 1000 - 60 * 119.0, "clang 14.0.6", 1.0),
        Entry("old", Path("c.so"), 15_416, 1000 - 86400 * 3.0, "gcc 12.2.0", 1.0),
        Entry("ahead", Path("c.so"), 15_416, 1001.0, "gcc 12.2.0", 1.0),
    ]
    assert kernel_table(entries, "here", 1000.0) == [
        "4 compiled kernels in here, 1.5 MB",
        "  causal-1a2b     203 kB       5 s  gcc 12.2.0",
        "  alibi           1.2 MB   119 min  clang 14.0.6",
        "  old              15 kB    3 days  gcc 12.2.0",
        "  ahead            15 kB       0 s  gcc 12.2.0",
    ]


def test_empty_cache_says_where_it_would_be(where):
    assert call() == f"0 compiled kernels in {where}\n"
    assert not where.exists()


def test_kernel_is_listed_and_removed(where):
    load_library(SOURCE, "mine")
    heading, line = call().splitlines()
    assert heading.startswith(f"1 compiled kernel in {where}, ")
    assert line.split()[0] == "mine"
    assert call("--clear") == f"removed 1 compiled kernel from {where}\n"
    assert call() == f"0 compiled kernels in {where}\n"
