"""Reading one more file of a task: what is accepted, and what each error says."""

import gzip
import json
import re

import pytest

from regard.data.kinds import TRANSLATION
from regard.data.read_file import read_file
from regard.data.row import Layout
from regard.errors import DataError


def read(path, source=None, target=None):
    """What a file of translations holds: sources, targets and lines."""
    named = {"source": source, "target": target}
    layout = Layout({field: column for field, column in named.items() if column is not None})
    rows = read_file(path, TRANSLATION, layout, ("one_line", "strip"))
    return [(row.values["source"], row.values["target"], row.line) for row in rows]


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "some.en-fr.tsv"])
def test_columns_are_found_and_lines_counted_from_one(tmp_path, name):
    path = write(tmp_path / name, "yes\toui\nno \t non\r\n")
    assert read(path) == [("yes", "oui", 1), ("no", "non", 2)]


def test_columns_can_be_chosen(tmp_path):
    path = write(tmp_path / "a.tsv", "1\toui\tyes\n2\tnon\tno\n")
    assert read(path, 3, 2) == [("yes", "oui", 1), ("no", "non", 2)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_keys_are_found(tmp_path, name):
    text = json.dumps({"en": "a\nline", "fr": "une\u00a0ligne", "more": 1})
    assert read(write(tmp_path / name, text), "en", "fr") == [("a line", "une\u00a0ligne", 1)]


def test_default_keys_are_source_and_target(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"source": "yes", "target": "oui"}\n')
    assert read(path) == [("yes", "oui", 1)]


def test_mark_that_some_editors_write_is_no_part_of_the_text(tmp_path):
    assert read(write(tmp_path / "a.tsv", b"\xef\xbb\xbfyes\toui\n"))[0][0] == "yes"


BROKEN = [
    ("a.tsv", "", "a.tsv: the file is empty; it needs at least one row"),
    (
        "a.tsv",
        "yes\toui\nno non\n",
        "a.tsv, line 2: found 1 column, but column 2 is asked for; separate columns as "
        "the other lines do",
    ),
    (
        "a.tsv",
        "yes\toui\nno\tnon\tnein\n",
        "a.tsv, line 2: found 3 columns, but the first line has 2; is there a separator too "
        "many or too few?",
    ),
    (
        "a.tsv",
        "yes\toui\n\tnon\n",
        "a.tsv, line 2: source is empty; fill it in or delete the row",
    ),
    (
        "a.tsv",
        "yes\t \n",
        "a.tsv, line 1: target is empty; fill it in or delete the row",
    ),
    (
        "a.tsv",
        b"yes\toui\nd\xe9j\xe0\tvu\n",
        "a.tsv, line 2: byte 2 is not UTF-8; save the file as UTF-8, or name its encoding "
        "in data.encoding",
    ),
    (
        "a.doc",
        "yes\toui\n",
        "a.doc: the name should end in .csv, .tsv, .jsonl or .txt, any of these and "
        ".gz, or .parquet; or it is a saved dataset",
    ),
    (
        "pairs",
        "yes\toui\n",
        "pairs: the name should end in .csv, .tsv, .jsonl or .txt, any of these and "
        ".gz, or .parquet; or it is a saved dataset",
    ),
    (
        "a.jsonl",
        '{"source": "yes", "target": "oui"}\n{"source": \n',
        "a.jsonl, line 2: this is not JSON (Expecting value: line 1 column 12 (char 11)); "
        "a .jsonl holds one object a line",
    ),
    ("a.jsonl", "[1, 2]\n", "a.jsonl, line 1: expected an object, found list"),
    (
        "a.jsonl",
        '{"sourse": "yes", "target": "oui"}\n',
        "a.jsonl, line 1: there is no key 'source'; did you mean 'sourse'? known: sourse, target",
    ),
    (
        "a.jsonl",
        '{"source": "yes", "target": 1}\n',
        "a.jsonl, line 1: 'target' should be text, found int",
    ),
]


@pytest.mark.parametrize(("name", "text", "message"), BROKEN)
def test_broken_file_is_refused_with_its_place(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / message))}$"):
        read(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no\.tsv: there is no such file; check data\.path$"):
        read(tmp_path / "no.tsv")


def test_folder_is_no_file(tmp_path):
    (tmp_path / "a.tsv").mkdir()
    with pytest.raises(DataError, match=r"a\.tsv: is a directory$"):
        read(tmp_path / "a.tsv")


@pytest.mark.parametrize("cut", [slice(0, 30), slice(5, None)])
def test_damaged_gzip_is_refused(tmp_path, cut):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"yes\toui\n" * 99)[cut])
    with pytest.raises(DataError, match=r"a\.tsv\.gz: this is no complete gzip file .*; pack it"):
        read(path)


@pytest.mark.parametrize("column", [0, -1])
def test_column_that_is_no_number_from_one_is_refused(tmp_path, column):
    path = write(tmp_path / "a.tsv", "yes\toui\n")
    with pytest.raises(
        DataError, match=rf"columns of a \.tsv are numbers from 1, found {column!r}"
    ):
        read(path, column, 2)


def test_table_with_a_header_is_read_by_names(tmp_path):
    path = write(tmp_path / "a.csv", 'id,source,target\n7,"yes, sir",oui\n')
    assert read(path) == [("yes, sir", "oui", 2)]
