"""`rg.save` and `rg.load`, which take programs and modes alike."""

import pytest

import regard as rg
from regard.errors import FileError, InputError
from tests.nn import programs as p

MODE = rg.Mode("local", "reads locally", encoder=p.alibi, cross=p.plain)


@pytest.mark.parametrize("what", [p.alibi, MODE])
def test_what_was_saved_is_loaded(tmp_path, what):
    rg.save(what, tmp_path / "what.json")
    found = rg.load(tmp_path / "what.json")
    assert type(found) is type(what) and found == what and found.hash == what.hash
    assert found.name == what.name


@pytest.mark.parametrize("what", [None, 5, [p.plain]])
def test_nothing_else_is_saved(tmp_path, what):
    with pytest.raises(InputError) as error:
        rg.save(what, tmp_path / "what.json")
    assert str(error.value) == f"rg.save writes a program or a mode, not {what!r}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'line 1: this is no file of Regard; one starts with {"regard": "program"'),
        ('{"regard": "module"}', 'regard: "module" is not a program'),
        ('{"regard": "mode", "version": 3}', "version: written by a newer Regard (version 3, this"),
        ("{", "line 1 column 2: expecting property name"),
    ],
)
def test_a_file_that_is_neither_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "what.json"
    path.write_text(text)
    with pytest.raises(FileError) as error:
        rg.load(path)
    assert str(error.value).startswith(f"{path}: {message}")
