"""docs/tasks.md: its task files are whole, name every kind, and print what stands there."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from regard.cli.main import app
from regard.tasks import load_task
from regard.tasks.kinds import KINDS
from tests.learners.page import PAGE, shown, write_rows

FILES = re.findall(r"```yaml\n(task: .*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_kind_is_shown():
    assert {yaml.safe_load(text)["task"] for text in FILES} == set(KINDS)
    # A translation takes minutes; the page sends readers on.
    printed = {yaml.safe_load(text)["task"] for text, _ in shown()}
    assert printed == set(KINDS) - {"translation"}


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_task_files_of_the_page_mean_something(text, tmp_path):
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
    load_task(tmp_path / "task.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(("text", "printed"), shown(), ids=range(len(shown())))
def test_task_files_of_the_page_print_what_it_says(text, printed, tmp_path):
    write_rows(tmp_path)
    (tmp_path / "toy.yaml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["train", f"{tmp_path}/toy.yaml", "--run", f"{tmp_path}/run"])
    assert done.exit_code == 0, done.output
    # Other machines round otherwise; the metrics and the baseline's scores are the same.
    lines, wanted = done.stdout.splitlines(), printed.splitlines()
    assert (lines[0], lines[2]) == (wanted[0], wanted[2])
    again = CliRunner().invoke(app, ["evaluate", f"{tmp_path}/run"])
    assert again.exit_code == 0 and again.stdout.splitlines()[:3] == lines[:3]
