"""scripts/unreached_errors.py names exactly the raises that did not run."""

from scripts.unreached_errors import main, raise_lines, unreached

TEXT = """def f(x):
    if x < 0:
        raise ValueError("negative")
    try:
        return 1 / x
    except ZeroDivisionError as error:
        raise KeyError(
            "zero"
        ) from error
"""


def test_raise_lines_are_found_at_any_depth():
    assert raise_lines(TEXT) == [3, 7]


def test_only_lines_that_did_not_run_are_listed(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(TEXT, encoding="utf-8")
    found = list(unreached([file], lambda _: {1, 2, 3, 4, 5}))
    assert found == [(file, 7, "raise KeyError(")]
    assert list(unreached([file], lambda _: {3, 7})) == []


def test_missing_measurement_is_said(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none")]) == 1
    assert "holds no measurement; run `make errors`" in capsys.readouterr().err
