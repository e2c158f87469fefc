"""Rows of .parquet files and of folders that `datasets` saved; no code of theirs is run.

Both packages are extras, imported where they are used.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from regard.data.json_lines import pick
from regard.data.lines import no_file
from regard.data.row import BadRow, Column, Layout, Row
from regard.errors import DataError, nearest

_BATCH = 1024
_SPLITS = {
    "train": "train",
    "validation": "valid",
    "valid": "valid",
    "dev": "valid",
    "test": "test",
}


def read_parquet(place: Path, layout: Layout) -> Iterator[Row | BadRow]:
    """Yield the rows of a .parquet, counted from 1.

    Args:
        place: The file.
        layout: The columns, by name or number.

    Yields:
        Its rows.

    Raises:
        DataError: If it cannot be read, lacks a column, or pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{place}: {_needs('.parquet files', 'pyarrow')}") from None
    if not place.is_file():
        raise no_file(place)
    try:
        with parquet.ParquetFile(place) as file:
            names = file.schema_arrow.names
            asked = _by_name(place, layout, names)
            wanted = None if asked.columns is None else _tops(asked, names)
            line = 0
            for batch in file.iter_batches(_BATCH, columns=wanted):
                for record in batch.to_pylist():
                    line += 1
                    yield Row(line, pick(record, asked))
    except (arrow.ArrowException, OSError) as problem:
        first = str(problem).strip().splitlines()[0]
        raise DataError(f"{place}: this is no .parquet file ({first}); write it anew") from None


def read_saved_dataset(place: Path, layout: Layout) -> Iterator[Row | BadRow]:
    """Yield the rows of a saved dataset, counted from 1, with class numbers as their names.

    Args:
        place: The folder that `Dataset.save_to_disk` wrote.
        layout: The columns, by name or number.

    Yields:
        Its rows.

    Raises:
        DataError: If it cannot be read, lacks a column, or `datasets` is not installed.
    """
    if (place / "dataset_dict.json").is_file():
        names = ", ".join(sorted(path.name for path in place.iterdir() if path.is_dir()))
        raise DataError(f"{place}: this folder holds splits; name one of its folders: {names}")
    if not (place / "state.json").is_file():
        raise DataError(
            f"{place}: this folder is no saved dataset; Dataset.save_to_disk writes one"
        )
    try:
        from datasets import load_from_disk
    except ImportError:
        raise DataError(f"{place}: {_needs('saved datasets', 'datasets')}") from None
    try:
        dataset: Any = load_from_disk(str(place))
    except Exception as problem:  # whatever the package meets in a damaged folder
        raise DataError(
            f"{place}: this saved dataset is damaged ({problem}); save it anew"
        ) from None
    asked = _by_name(place, layout, dataset.column_names)
    if asked.columns is not None:
        # Columns nobody asked for, pictures perhaps, are not decoded.
        dataset = dataset.select_columns(_tops(asked, dataset.column_names))
    naming = {name: _naming(feature) for name, feature in dataset.features.items()}
    for line, record in enumerate(dataset, 1):
        yield Row(line, pick({k: naming[k](value) for k, value in record.items()}, asked))


def splits_of(place: Path) -> dict[str, str] | None:
    """Return the splits of a folder that `DatasetDict.save_to_disk` wrote.

    Args:
        place: Any path.

    Returns:
        Folders by train, valid and test, or None if it is no such folder.

    Raises:
        DataError: If the folder says nothing of a training split.
    """
    index = place / "dataset_dict.json"
    if not index.is_file():
        return None
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["splits"]
        found = {_SPLITS[name]: str(place / name) for name in names if name in _SPLITS}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"{index}: this saved dataset is damaged ({problem}); save it anew"
        ) from None
    if "train" not in found:
        raise DataError(f"{place}: there is no split 'train'; {nearest('train', names)}")
    return found


def _damaged(place: Path, problem: Exception) -> DataError:
    return DataError(f"{place}: this saved dataset is damaged ({problem}); save it anew")


def _needs(what: str, package: str) -> str:
    return f"{what} need the package {package}; install it with: pip install 'regard[data]'"


def _by_name(place: Path, layout: Layout, names: list[str]) -> Layout:
    """Return the layout with numbers replaced by names, all of which are there."""
    if layout.columns is None:
        return layout
    found: dict[str, Column] = {}
    for field, column in layout.columns.items():
        name = column
        if isinstance(column, int):
            if not 1 <= column <= len(names):
                raise DataError(
                    f"{place}: there is no column {column} for {field}; the columns are 1 to "
                    f"{len(names)}: {', '.join(names)}"
                )
            name = names[column - 1]
        elif column not in names and column.split(".")[0] not in names:
            if field in layout.optional:
                continue
            raise DataError(
                f"{place}: there is no column '{column}' for {field}; {nearest(column, names)}; "
                f"name it in data.columns.{field}"
            )
        found[field] = name
    return Layout(found, layout.optional)


def _tops(layout: Layout, names: list[str]) -> list[str]:
    """Return the columns that the asked names, or objects they lead into, stand in."""
    asked = [str(column) for column in (layout.columns or {}).values()]
    return list(dict.fromkeys(x if x in names else x.split(".")[0] for x in asked))


def _naming(feature: Any) -> Callable[[Any], Any]:
    """Return the function that turns numbers of classes into their names, in lists as well."""
    names, inner = getattr(feature, "names", None), getattr(feature, "feature", None)
    if names:
        # -1 stands for a label that is withheld.
        return lambda value: names[value] if isinstance(value, int) and value >= 0 else None
    if getattr(inner, "names", None):
        one = _naming(inner)
        return lambda values: None if values is None else [one(value) for value in values]
    return lambda value: value
