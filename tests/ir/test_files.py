"""Programs on disk: written in one step, and errors that name the file."""

import os
import stat
from pathlib import Path

import pytest

from regard.errors import FileError
from regard.ir import files
from regard.ir.files import load, read_json, save, write_text
from regard.ir.program import AttentionProgram
from tests.ir import graphs


def local(name: str = "local_alibi") -> AttentionProgram:
    return AttentionProgram(graphs.local_alibi(), name, "α", ("causal",))


def test_a_saved_program_is_loaded_as_itself(tmp_path):
    path = tmp_path / "local.json"
    save(local(), path)
    again = load(str(path))
    assert again == local()
    assert (again.name, again.doc, again.contracts) == ("local_alibi", "α", ("causal",))
    assert path.read_bytes() == local().to_json().encode()


def test_saving_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "local.json"
    path.write_text("old")
    save(local(), path)
    assert load(path) == local()
    assert os.listdir(tmp_path) == ["local.json"]


def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    save(local(), tmp_path / "local.json")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "local.json")]
    assert modes[0] == modes[1]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    save(local(), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert load(tmp_path / "real.json") == local()


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "local.json"
    save(local("old"), path)

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(FileError) as caught:
        save(local("new"), path)
    assert str(caught.value) == f"{path}: no space left on device"
    assert load(path).name == "old"
    assert os.listdir(tmp_path) == ["local.json"]


def test_a_program_too_large_for_a_file_is_not_saved(tmp_path):
    path = tmp_path / "deep.json"
    with pytest.raises(FileError, match="more than 1048576") as caught:
        save(AttentionProgram(graphs.deep(21_000), "deep"), path)
    assert str(caught.value).startswith(f"{path}: line 1: ")
    assert not path.exists()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none" / "x.json"
    with pytest.raises(FileError) as caught:
        write_text("x", path)
    assert str(caught.value) == f"{path}: no such file or directory"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or directory"),
        (b"", "line 1 column 1: expecting value"),
        (b"\x89PNG\r\n", "byte 0 is not text in UTF-8"),
        (b'{"a": "\xff"}', "byte 7 is not text in UTF-8"),
        (b"\xef\xbb\xbf{}", "line 1 column 1: unexpected utf-8 bom (decode using utf-8-sig)"),
        (b"\x00" * 10, "line 1 column 1: expecting value"),
        (b" " * 1_048_577, "line 1: 1048577 characters, more than 1048576"),
        (b" " * 4_200_000, "more than 4194304 bytes; no file of Regard is that large"),
        (b'{"regard": "mode"}', 'regard: "mode" is not a program'),
        (b"[1]", 'line 1: this is no file of Regard; one starts with {"regard": "program"'),
    ],
)
def test_a_bad_file_is_named_with_the_place_inside_it(tmp_path, content, message):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a directory"


def test_other_files_of_regard_are_read_by_the_same_rules(tmp_path):
    path = Path(tmp_path / "mode.json")
    path.write_text('{"regard": "mode", "version": 1}')
    assert read_json(path) == {"regard": "mode", "version": 1}
    path.write_text('{"regard": "mode", "regard": "mode"}')
    with pytest.raises(FileError, match='key "regard" is given twice'):
        read_json(path)
