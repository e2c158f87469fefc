"""A model folder as data: what it holds, looked at before anything is built from it.

Leaves to others: building and filling the model (`files`), the mode's own form (`modes`).
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from regard.errors import FileError, RegardError
from regard.hf.interface import NAME
from regard.hf.saving import CONFIG_FILE, GUARD, MARK, MODE_FILE
from regard.modes.mode import Mode, load_mode

GENERATION_FILE = "generation_config.json"
_MAX_BYTES = {CONFIG_FILE: 2**24, GENERATION_FILE: 2**20}
_MAX_INDEX_BYTES = 2**27
_MAX_LAYERS = 10_000
# What a configuration may call its attention; other names may be kernels of a hub, which is code.
_ATTENTION = {"eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm", NAME, GUARD}
_ATTENTION_KEYS = ("attn_implementation", "experts_implementation")
# What would have transformers patch itself, fetch code or read weights from elsewhere.
_REFUSED_KEYS = (
    "quantization_config",
    "fusion_config",
    "distributed_config",
    "transformers_weights",
)


@dataclass(frozen=True)
class Stored:
    """A tensor of a file.

    Attributes:
        file: The file's path.
        shape: Its shape.
        dtype: Its type, or None if torch is not asked to keep it.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Folder:
    """What a model folder holds.

    Attributes:
        path: Where it is.
        config: What config.json says.
        weights: The file that holds the weights, or the index of several.
        tensors: What the weights hold, by name.
        mode: The mode, or None.
        base_model: The repository of the model that was re-programmed, if it is known.
    """

    path: Path
    config: dict[str, Any]
    weights: Path
    tensors: dict[str, Stored]
    mode: Mode | None
    base_model: str | None

    @property
    def architectures(self) -> list[str]:
        """The names of classes that config.json gives, none if it gives something else."""
        names = self.config.get("architectures")
        return [str(name) for name in names] if isinstance(names, list) else []


def read_folder(path: Path, variant: str | None = None) -> Folder:
    """Look at everything in a model folder; runs no code from it and builds no model.

    Args:
        path: A folder that `save_pretrained` wrote.
        variant: As in model.VARIANT.safetensors.

    Returns:
        What it holds.

    Raises:
        FileError: If a file is missing, cannot be read, or does not belong to the others.
    """
    if not path.is_dir():
        raise FileError(
            f"{path}: no such folder; what lies on a hub is fetched by "
            f"huggingface_hub.snapshot_download(name), which returns a folder"
        )
    if (path / "adapter_config.json").is_file():
        raise FileError(
            f"{path}: adapter_config.json says that this is an adapter; load the model it is for, "
            "and then the adapter on that model"
        )
    config = _read_config(path)
    mode, base_model = _read_mode(path, config)
    weights = _find_weights(path, variant)
    tensors = _read_tensors(weights)
    return Folder(path, config, weights, tensors, mode, base_model)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Put a file's name before whatever other libraries say of it; they share no error class.

    Args:
        path: The file or folder.

    Yields:
        Nothing.

    Raises:
        FileError: In the place of any error that is not Regard's own.
    """
    try:
        yield
    except RegardError:
        raise
    except Exception as problem:
        raise FileError(f"{path}: {str(problem) or type(problem).__name__}") from None


def read_json_object(path: Path, most: int) -> dict[str, Any]:
    """Read a JSON object that another library wrote.

    Args:
        path: The file.
        most: How many bytes it may have.

    Returns:
        The object.

    Raises:
        FileError: If it is larger, nested too deeply, or no JSON object.
    """
    with reading(path):
        with open(path, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise FileError(f"{path}: more than {most} bytes; no such file is that large")
        try:
            value = json.loads(data)
        except RecursionError:
            raise FileError(f"{path}: lists and objects are nested too deeply") from None
    if not isinstance(value, dict):
        raise FileError(f"{path}: a JSON object belongs here, not {type(value).__name__}")
    return value


def check_generation_file(path: Path) -> bool:
    """Say whether a folder has settings for generation, and check that they can be read.

    Args:
        path: The folder.

    Returns:
        Whether there are any.

    Raises:
        FileError: If they are no JSON object; transformers would ignore them in silence.
    """
    file = path / GENERATION_FILE
    if not file.is_file():
        return False
    read_json_object(file, _MAX_BYTES[GENERATION_FILE])
    return True


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG_FILE
    if not file.is_file():
        raise FileError(f"{path}: no {CONFIG_FILE}; is this a folder that save_pretrained wrote?")
    config = read_json_object(file, _MAX_BYTES[CONFIG_FILE])
    _check_entries(file, config)
    return config


def _check_entries(file: Path, value: Any) -> None:
    """Refuse entries, however deep, that name code, other files, or a model without an end."""
    for key, item in _entries(value):
        if key in _REFUSED_KEYS and item is not None:
            raise FileError(
                f"{file}: {key} is not supported; it makes transformers run or fetch more than "
                "this folder's weights. Save the model without it"
            )
        if key.removeprefix("_").removesuffix("_internal") in _ATTENTION_KEYS:
            names = item.values() if isinstance(item, dict) else [item]
            for name in names:
                if name is not None and not isinstance(name, dict) and name not in _ATTENTION:
                    raise FileError(
                        f"{file}: {key} names {name!r}, which may be code of a hub and is not run; "
                        "remove that line, and say what to run as from_pretrained(folder, "
                        "attn_implementation=…)"
                    )
        if "layer" in key and type(item) is int and item > _MAX_LAYERS:
            raise FileError(f"{file}: {key} is {item}; no model has that many layers")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, in objects within objects and lists too."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _read_mode(path: Path, config: dict[str, Any]) -> tuple[Mode | None, str | None]:
    """Return the mode and the base model; mode.json and config.json must speak of the same."""
    file, mark = path / MODE_FILE, config.get(MARK)
    if mark is not None and not isinstance(mark, dict):
        raise FileError(f"{path / CONFIG_FILE}: {MARK} is no object; save the model again")
    if not file.is_file():
        if mark is not None:
            raise FileError(
                f"{path}: no {MODE_FILE}, and config.json says that the weights need the mode "
                f"{mark.get('hash')}; fetch it from where the weights came from"
            )
        return None, None
    mode = load_mode(file)
    if mark is None:
        raise FileError(
            f"{file}: config.json does not say that the weights belong to a mode; they were saved "
            f"by a model without one. Remove {MODE_FILE}, or save the re-programmed model again"
        )
    if mark.get("hash") != f"sha256:{mode.hash}":
        raise FileError(
            f"{file}: this is mode '{mode.name}', sha256:{mode.hash}, and the weights belong to "
            f"{mark.get('hash')}; put their own mode back, or save the model again"
        )
    base = mark.get("base_model")
    return mode, base if isinstance(base, str) else None


def _find_weights(path: Path, variant: str | None) -> Path:
    """Return the file of the weights, or the index of several."""
    stem = f"model.{variant}" if variant else "model"
    # As transformers writes them, the variant of an index stands before "index".
    single, index = (
        path / f"{stem}.safetensors",
        path
        / (
            f"model.safetensors.index.{variant}.json" if variant else "model.safetensors.index.json"
        ),
    )
    if single.is_file() and index.is_file() and all(one.is_file() for one in _shards(index)):
        raise FileError(
            f"{path}: both {single.name} and {index.name} hold weights; remove those that were "
            "saved earlier"
        )
    if single.is_file():
        return single
    if index.is_file():
        return index
    pickled = sorted(one.name for one in path.glob("*.bin"))
    if pickled:
        raise FileError(
            f"{path}: {pickled[0]} is a pickle, which can run code and is not read; have "
            "transformers write it as safetensors, where you trust it"
        )
    raise FileError(f"{path}: no {single.name} and no {index.name}; the weights are missing")


def _shards(index: Path) -> dict[Path, set[str]]:
    """Return the names of tensors by file."""
    names = read_json_object(index, _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise FileError(f"{index}: no weight_map; save the model again")
    found: dict[Path, set[str]] = {}
    for name, file in names.items():
        # A name with a folder in it could lead anywhere.
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise FileError(f"{index}: {name} lies in {file!r}, which is no file of this folder")
        if not file.endswith(".safetensors"):
            raise FileError(f"{index}: {name} lies in {file!r}, which is no safetensors file")
        found.setdefault(index.parent / file, set()).add(name)
    return found


def _read_tensors(weights: Path) -> dict[str, Stored]:
    """Return what the weights hold, by the heads of their files."""
    if weights.suffix == ".safetensors":
        return _head(weights)
    found: dict[str, Stored] = {}
    for file, names in _shards(weights).items():
        if not file.is_file():
            raise FileError(f"{weights}: {file.name} is missing; fetch it, or save the model again")
        head = _head(file)
        if lost := names - head.keys():
            raise FileError(f"{file}: the file lacks {min(lost)}, which {weights.name} says it has")
        if twice := found.keys() & head.keys():
            raise FileError(
                f"{file}: {min(twice)} also lies in {found[min(twice)].file.name}; save the model "
                "again"
            )
        found |= head
    return found


def _head(file: Path) -> dict[str, Stored]:
    with reading(file), safe_open(file, framework="pt") as opened:
        found = {}
        for name in opened.keys():
            part = opened.get_slice(name)
            dtype = _DTYPES.get(part.get_dtype())
            found[name] = Stored(file, tuple(part.get_shape()), dtype)
        return found


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
