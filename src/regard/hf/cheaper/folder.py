"""The folder of a run: what was found so far, so that a run that was stopped goes on.

Its files are data: JSON and safetensors. Leaves to others: checkpoints of training (`distil`).
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from regard.errors import FileError
from regard.hf.cheaper.layers import State
from regard.hf.cheaper.look import Look
from regard.hf.cheaper.pieces import Pieces
from regard.hf.cheaper.price import Prices
from regard.hf.cheaper.report import Cheaper
from regard.ir.files import read_json, write_text

_REPORT, _CHOICE, _MODEL = "report.json", "choice.json", "model"


@dataclass(frozen=True)
class Choice:
    """What was seen and timed.

    Attributes:
        looks: What was seen of each layer.
        prices: What candidates cost.
    """

    looks: tuple[Look, ...]
    prices: Prices

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "looks": [
                {"error": one.error.tolist(), "kept": _without_nan(one.kept.tolist())}
                for one in self.looks
            ],
            "prices": {"times": self.prices.times, "kinds": self.prices.kinds},
        }

    @classmethod
    def from_dict(cls, value: Any) -> "Choice":
        """Read it from plain data, as `to_dict` made it."""
        looks = tuple(
            Look(
                torch.tensor(one["error"], dtype=torch.float64),
                torch.tensor(
                    [[math.nan if x is None else x for x in row] for row in one["kept"]],
                    dtype=torch.float64,
                ),
            )
            for one in value["looks"]
        )
        prices = value["prices"]
        return cls(looks, Prices(prices["times"], prices["kinds"]))


class Folder:
    """Where a run keeps what it finds.

    Args:
        path: The folder; None keeps nothing.
        settings: What a run is: another one must not go on with its files.

    Raises:
        FileError: If the folder holds a finished run, or another one.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.choice: Choice | None = None
        if path is None:
            return
        if (path / _REPORT).is_file():
            raise FileError(f"{path}: holds a finished run; name another folder, or remove it")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise FileError(f"{path}: {problem.strerror}; a run is kept in a folder") from None
        if (path / _CHOICE).is_file():
            self.choice = self._read(path / _CHOICE)

    def _read(self, file: Path) -> Choice:
        value = read_json(file)
        if not isinstance(value, dict) or value.get("run") != self.mark:
            raise FileError(
                f"{file}: is of another model, other texts or other settings; name another folder"
            )
        try:
            return Choice.from_dict(value)
        except (KeyError, TypeError, ValueError) as problem:
            raise FileError(f"{file}: cannot be read ({problem}); remove it") from None

    def checkpoint_of(self, state: State) -> Path | None:
        """Return where training of a state keeps its checkpoint."""
        if self.path is None:
            return None
        name = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:12]
        return self.path / f"distil-{name}.safetensors"

    def keep(self, choice: Choice) -> None:
        """Write what was seen and timed."""
        if self.path is not None:
            text = json.dumps({"run": self.mark, **choice.to_dict()})
            write_text(text + "\n", self.path / _CHOICE)

    def finish(self, found: Cheaper) -> None:
        """Write the model and the report; a run that was stopped may still go on.

        Args:
            found: The report.
        """
        if self.path is None:
            return
        found.model.save_pretrained(self.path / _MODEL)
        write_text(f"{found}\n", self.path / "report.txt")
        text = json.dumps(found.as_dict(), ensure_ascii=False, indent=1, default=str)
        name = "stopped.json" if found.stopped else _REPORT
        write_text(text + "\n", self.path / name)
        if not found.stopped:
            for file in self.path.glob("distil-*.safetensors"):
                file.unlink()


def settings_of(model: PreTrainedModel, pieces: Pieces, **others: Any) -> dict[str, Any]:
    """Return what a run is.

    Args:
        model: The original.
        pieces: The texts.
        **others: What else decides.

    Returns:
        Plain data.
    """
    weights = {
        name: [
            list(one.shape),
            float(one.detach().double().sum()),
            float(one.detach().flatten()[0]),
        ]
        for name, one in model.named_parameters()
    }
    texts = [part.tolist() for part in (pieces.train, pieces.choose, pieces.held_out)]
    told = hashlib.sha256(json.dumps([weights, texts]).encode()).hexdigest()
    return {"model": told, **others}


def _without_nan(rows: list[list[float]]) -> list[list[float | None]]:
    return [[None if one != one else one for one in row] for row in rows]
