"""Figures come back in the next process, for what they were measured for, and nothing else does."""

import json
import threading

import pytest

from regard.backends.cpu import library
from regard.backends.measured import figures
from regard.backends.measured.figures import keep_figures, known_figures, size_class

ABOUT = {"figures": "tiles", "device": "NVIDIA H200", "queries": 4096}
FOUND = {"tiles": [128, 64, 4, 3], "ms": 0.25}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(figures, "_known", {})
    return tmp_path / "kernels"


def forget(monkeypatch):
    """Do as another process would."""
    monkeypatch.setattr(figures, "_known", {})


def test_figures_are_read_again_by_the_next_process(folder, monkeypatch):
    assert known_figures(ABOUT) is None
    keep_figures(ABOUT, FOUND)
    forget(monkeypatch)
    assert known_figures(ABOUT) == FOUND


@pytest.mark.parametrize("change", [{"device": "NVIDIA A100"}, {"queries": 8192}, {"more": 1}])
def test_figures_of_something_else_are_not_taken(folder, change):
    keep_figures(ABOUT, FOUND)
    assert known_figures(ABOUT | change) is None


@pytest.mark.parametrize("package", ["regard", "torch", "triton"])
def test_figures_of_another_version_are_not_taken(folder, monkeypatch, package):
    keep_figures(ABOUT, FOUND)
    forget(monkeypatch)
    versions = figures._versions()
    monkeypatch.setattr(figures, "_versions", lambda: versions | {package: "0.0.1"})
    assert known_figures(ABOUT) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"about": 1}', '{"about": {}, "found": {}}'])
def test_broken_file_is_ignored_with_a_warning_once_and_written_anew(folder, monkeypatch, text):
    keep_figures(ABOUT, FOUND)
    (path,) = folder.iterdir()
    path.write_text(text)
    forget(monkeypatch)
    with pytest.warns(UserWarning, match=r"figures-.*ignored.*regard cache --clear"):
        assert known_figures(ABOUT) is None
    assert known_figures(ABOUT) is None
    keep_figures(ABOUT, FOUND)
    forget(monkeypatch)
    assert known_figures(ABOUT) == FOUND


def test_file_that_others_may_write_is_not_believed(folder, monkeypatch):
    keep_figures(ABOUT, FOUND)
    (path,) = folder.iterdir()
    path.chmod(0o666)
    forget(monkeypatch)
    with pytest.warns(UserWarning, match="others may write to it"):
        assert known_figures(ABOUT) is None


def test_without_a_folder_figures_are_kept_for_the_process(folder):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("no folder")
    keep_figures(ABOUT, FOUND)
    assert known_figures(ABOUT) == FOUND


def test_file_says_what_was_measured(folder):
    keep_figures(ABOUT, FOUND)
    (path,) = folder.iterdir()
    kept = json.loads(path.read_text())
    assert kept["about"].items() >= ABOUT.items() and kept["found"] == FOUND
    assert {"regard", "torch", "triton"} <= kept["about"].keys()


def test_clearing_the_cache_removes_figures(folder):
    keep_figures(ABOUT, FOUND)
    library.clear()
    assert list(folder.iterdir()) == []


def test_who_reads_while_others_write_finds_a_whole_file(folder, monkeypatch):
    long = FOUND | {"pad": "x" * 99999}

    def write():
        for _ in range(50):
            keep_figures(ABOUT, long)

    keep_figures(ABOUT, long)
    writers = [threading.Thread(target=write) for _ in range(2)]
    for one in writers:
        one.start()
    (path,) = folder.glob("figures-*.json")
    while any(one.is_alive() for one in writers):
        assert json.loads(path.read_text())["found"] == long
    assert list(folder.iterdir()) == [path]


def test_sizes_are_told_apart_by_powers_of_two():
    assert [size_class(size) for size in (0, 1, 2, 3, 16, 17, 4096)] == [1, 1, 2, 4, 16, 32, 4096]
