"""What the gates of a run leave in its folder: what was asked, their course, what settling cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.customise.gates.prices import Prices
from regard.errors import TaskError
from regard.train.folder import written_whole


@dataclass(frozen=True)
class GatesFolder:
    """Where a run keeps what of its gates.

    Attributes:
        path: The run folder.
        asked: What decides how the gates learn, as plain data.
        prices: What each program costs in each gate, if gates are charged for it.
    """

    path: Path
    asked: Mapping[str, Any]
    prices: Prices | None = None

    @property
    def about(self) -> Path:
        """What was asked for, and the scores before and after settling."""
        return self.path / "gates.json"

    @property
    def course(self) -> Path:
        """Shares of each candidate in each gate over training."""
        return self.path / "gates.csv"

    @property
    def picture(self) -> Path:
        """The same, drawn."""
        return self.path / "gates.png"

    def begin(self) -> None:
        """Write down what was asked for, if it is not there."""
        if not self.about.is_file():
            self._write(None)

    def check_same(self) -> None:
        """Check that a run which goes on is asked for what it began with.

        Raises:
            TaskError: If it is not; the message names what differs.
        """
        begun = self.read()["asked"]
        changed = [name for name, value in self.asked.items() if begun.get(name) != value]
        if changed:
            raise TaskError(
                f"{self.path}: since this run began, {' and '.join(changed)} of its gates changed; "
                "undo that, or begin another run"
            )

    def note_settled(
        self, step: int, before: Mapping[str, float], after: Mapping[str, float]
    ) -> None:
        """Write down what settling cost.

        Args:
            step: When it was.
            before: Scores of the validation rows with the last shares.
            after: With the winners alone, and the same weights.
        """
        self._write({"step": step, "before": before, "after": after})

    def read(self) -> dict[str, Any]:
        """Return what was written down.

        Returns:
            `asked`, `prices`, and `settled`: `step`, `before` and `after`, or None.

        Raises:
            TaskError: If gates were never learned here.
        """
        if not self.about.is_file():
            raise TaskError(f"{self.path}: no gates were learned here; it would hold gates.json")
        return json.loads(self.about.read_text(encoding="utf-8"))

    def _write(self, settled: Mapping[str, Any] | None) -> None:
        value = {"asked": self.asked, "prices": self.prices, "settled": settled}
        with written_whole(self.about) as part:
            part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
