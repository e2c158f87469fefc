"""Reading rows: every kind of file alike, with line numbers, malformed rows skipped or fatal."""

import gzip
import json

import pytest

from regard.data import BadRow, Row, read_rows
from regard.data.arrow import splits_of
from regard.errors import DataError

RECORDS = [{"text": "a, b", "label": "x"}, {"text": 'say "no"\nnow', "label": "y"}]


def write_parquet(path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.Table.from_pylist(RECORDS), path)


def write_dataset(path, split=None):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x", "y"])}
    data = datasets.Dataset.from_dict(
        {"text": [one["text"] for one in RECORDS], "label": [0, 1]}, datasets.Features(features)
    )
    (datasets.DatasetDict(dict.fromkeys(split, data)) if split else data).save_to_disk(str(path))


def write_csv(path):
    text = 'label,text\nx,"a, b"\ny,"say ""no""\nnow"\n'
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_json_lines(path):
    text = "".join(json.dumps(one) + "\n" for one in RECORDS)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


FILES = {
    "a.csv": write_csv,
    "a.csv.gz": write_csv,
    "a.jsonl": write_json_lines,
    "a.jsonl.gz": write_json_lines,
    "a.parquet": write_parquet,
    "saved": write_dataset,
    "saved.data": write_dataset,
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_holds_the_same_rows(tmp_path, name):
    FILES[name](tmp_path / name)
    asked = list(read_rows(tmp_path / name, {"said": "text", "label": "label"}))
    assert [row.values for row in asked] == [
        {"said": one["text"], "label": one["label"]} for one in RECORDS
    ]
    assert [row.line for row in asked] == ([2, 3] if ".csv" in name else [1, 2])
    everything = read_rows(tmp_path / name)
    assert [row.values for row in everything] == RECORDS


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "saved"])
def test_columns_may_be_given_by_number(tmp_path, name):
    FILES[name](tmp_path / name)
    number = 2 if name == "a.csv" else 1
    texts = [row.values["t"] for row in read_rows(tmp_path / name, {"t": number}, header=True)]
    assert texts == [one["text"] for one in RECORDS] if name != "a.csv" else texts[:1] == ["a, b"]


def test_table_without_a_header_is_read_by_number(tmp_path):
    (tmp_path / "a.csv").write_text("1;one\n\n2;two\n")
    rows = list(read_rows(tmp_path / "a.csv", {"word": 2}, delimiter=";"))
    assert rows == [Row(1, {"word": "one"}), Row(3, {"word": "two"})]
    (tmp_path / "a.tsv").write_text('1\t"one\n')
    assert list(read_rows(tmp_path / "a.tsv")) == [Row(1, {"1": "1", "2": '"one'})]


def test_lines_of_text_are_rows(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    assert list(read_rows(tmp_path / "a.txt")) == [Row(1, {"text": "one"}), Row(3, {"text": "two"})]
    with pytest.raises(
        DataError, match=r"a \.txt has one column, but a, b are needed; use a \.csv"
    ):
        next(read_rows(tmp_path / "a.txt", {"a": 1, "b": 2}))


def test_keys_lead_into_objects_and_may_be_absent_if_optional(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": {"b": [1]}, "c.d": 2}\n')
    asked = {"one": "a.b", "two": "c.d", "three": "a.x"}
    (row,) = read_rows(tmp_path / "a.jsonl", asked, optional=frozenset({"three"}))
    assert row.values == {"one": [1], "two": 2}


def test_another_encoding_is_read_when_named(tmp_path):
    (tmp_path / "a.tsv").write_bytes("café\n".encode("latin-1"))
    assert next(read_rows(tmp_path / "a.tsv", encoding="latin-1")).values == {"1": "café"}
    with pytest.raises(DataError, match="line by line; save the file as UTF-8"):
        next(read_rows(tmp_path / "a.tsv", encoding="utf-16"))


MALFORMED = b'text,label\na,x\nb\nc\xff,y\nd,x\ne,"x"y\nf,y\n'


def test_malformed_rows_are_skipped_when_someone_listens_and_fatal_otherwise(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(MALFORMED)
    told: list[BadRow] = []
    kept = [row.line for row in read_rows(path, {"text": "text"}, skip=told.append)]
    assert kept == [2, 5, 7]
    assert [(bad.line, bad.check) for bad in told] == [
        (3, "ragged"),
        (4, "encoding"),
        (6, "ragged"),
    ]
    with pytest.raises(DataError, match=r"a\.csv, line 3: found 1 column, but the header has 2; "):
        list(read_rows(path, {"text": "text"}))


def test_rows_come_one_at_a_time(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\nnonsense\n')
    rows = read_rows(path, {"text": "text"})
    assert next(rows).line == 1
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: this is not JSON"):
        next(rows)


def test_long_cells_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "a" * 200_000 + "\n")
    assert len(next(read_rows(tmp_path / "a.csv")).values["text"]) == 200_000


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("a.parquet", {"t": "txt"}, "no column 'txt' for t; did you mean 'text'"),
        ("a.parquet", {"t": 3}, "no column 3 for t; the columns are 1 to 2: text, label"),
        ("saved", {"t": "txt"}, "no column 'txt' for t; did you mean 'text'"),
        ("a.csv", {"t": "txt"}, "line 1: there is no column 'txt' for t; did you mean 'text'"),
        ("a.csv", {"t": 3}, "line 1: found 2 columns, but column 3 is asked for"),
    ],
)
def test_wrong_column_is_named(tmp_path, name, columns, message):
    FILES[name](tmp_path / name)
    with pytest.raises(DataError, match=message):
        list(read_rows(tmp_path / name, columns))


def test_saved_splits_are_found_and_one_must_be_named(tmp_path):
    write_dataset(tmp_path / "all", ["train", "validation", "other"])
    assert splits_of(tmp_path / "all") == {
        "train": str(tmp_path / "all" / "train"),
        "valid": str(tmp_path / "all" / "validation"),
    }
    assert splits_of(tmp_path) is None
    with pytest.raises(DataError, match="holds splits; name one of its folders: other, train, val"):
        read_rows(tmp_path / "all").__next__()
    assert len(list(read_rows(tmp_path / "all" / "train"))) == 2


def test_saved_splits_without_training_rows_are_refused(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["trian"]}')
    with pytest.raises(DataError, match="there is no split 'train'; did you mean 'trian'"):
        splits_of(tmp_path)
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match=r"dataset_dict\.json: this saved dataset is damaged"):
        splits_of(tmp_path)


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("saved", "datasets")])
def test_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path, monkeypatch, name, package
):
    FILES[name](tmp_path / name)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(DataError, match=rf"need the package {package}; install it with: pip in"):
        list(read_rows(tmp_path / name))
