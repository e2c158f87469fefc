"""References to programs and modes: what they find, and what is said when they find nothing."""

import re

import pytest

from regard.catalogue.find_program import load_program
from regard.errors import FileError, InputError, RegardError
from regard.ir.files import save
from regard.modes import READY, Mode, save_mode
from regard.tasks.programs import build_mode
from tests.train.tiny import PROGRAMS


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PROGRAMS, encoding="utf-8")
    return path


def test_no_setting_is_no_mode():
    assert build_mode(None) is None


def test_program_is_found_in_a_python_file(file):
    assert load_program(f"{file}:relative").name == "relative"


def test_mode_is_built_of_a_program_for_each_role(file, tmp_path):
    save(load_program(f"{file}:relative"), tmp_path / "saved.json")
    mode = build_mode({"encoder": f"{file}:relative", "cross": str(tmp_path / "saved.json")})
    assert isinstance(mode, Mode)
    assert [(one.role, one.program.name) for one in mode.assignments] == [
        ("encoder", "relative"),
        ("cross", "relative"),
    ]
    assert mode.intent == "encoder: mine.py:relative, cross: saved.json"


def test_mode_is_read_from_its_file(file, tmp_path):
    mode = Mode("mine", "to see near words", encoder=load_program(f"{file}:relative"))
    save_mode(mode, tmp_path / "mode.json")
    assert build_mode(str(tmp_path / "mode.json")) == mode


def test_file_may_import_the_file_beside_it(file, tmp_path):
    (tmp_path / "other.py").write_text("from mine import relative as again\n", encoding="utf-8")
    assert load_program(f"{tmp_path / 'other.py'}:again").name == "relative"


def refused(reference, kind):
    with pytest.raises(kind) as caught:
        build_mode({"cross": reference})
    return str(caught.value)


def test_unknown_name_is_refused_with_the_nearest(file):
    assert refused(f"{file}:relatve", InputError) == (
        f"mode.cross: {file} defines no 'relatve'; did you mean 'relative'? known: relative"
    )


def test_missing_file_is_refused(tmp_path):
    path = tmp_path / "none.py"
    assert refused(f"{path}:f", FileError) == f"mode.cross: {path}: no such file"


def test_other_kind_of_reference_is_refused():
    message = refused("some/additive", InputError)
    assert message.startswith(
        "mode.cross: 'some/additive' names no program; give the name of a variant"
    )


def test_mode_may_name_a_ready_mode_for_each_role():
    mode = build_mode({"encoder": "local", "cross": "aligned"})
    assert mode is not None
    found = {one.role: one.program for one in mode.assignments}
    assert found == {
        "encoder": READY["local"].programs["encoder"], "cross": READY["aligned"].programs["cross"]
    }  # fmt: skip
    with pytest.raises(InputError, match=r"mode\.cross: mode local has nothing for role 'cross'"):
        build_mode({"cross": "local"})


def test_mode_may_name_variants_of_the_catalogue():
    mode = build_mode({"decoder": "sliding_window(window=8)", "cross": "scaled_dot_product"})
    assert mode is not None
    assert [one.program.name for one in mode.assignments] == [
        "sliding_window",
        "scaled_dot_product",
    ]


def test_unknown_variant_is_refused():
    message = refused("scaled_dot_produkt", InputError)
    assert message.startswith("mode.cross: the catalogue has no 'scaled_dot_produkt'; did you mean")


def test_what_is_no_program_is_refused(file):
    assert refused(f"{file}:half", InputError) == (
        f"mode.cross: 'half' in {file} is of type float, which is no program; known: relative"
    )


def test_file_that_does_not_run_is_refused_with_its_error(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n", encoding="utf-8")
    assert refused(f"{path}:f", FileError) == (
        f"mode.cross: {path}:1: ZeroDivisionError: division by zero"
    )


def test_error_in_a_program_names_its_file(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(PROGRAMS.replace("pair.k", "pair.quay"), encoding="utf-8")
    message = refused(f"{path}:relative", RegardError)
    assert re.match("mode.cross: 'quay' is not", message)
    assert "broken.py" in message


def test_missing_mode_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"none\.json: no such file"):
        build_mode(str(tmp_path / "none.json"))
