"""What a task asks of its data, as plain values.

Leaves to others: how a task file says it (`tasks`), doing it (`corpus`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regard.data.check_rows import Limits
from regard.data.kinds import DataKind
from regard.data.report import REFUSE, WARN
from regard.data.row import Column, Layout
from regard.data.split import HeldOut

# What is done about a row that fails a check, unless the task says otherwise.
ACTIONS: dict[str, Any] = {
    "malformed": REFUSE,
    "empty": REFUSE,
    "lengths": REFUSE,
    "answer": REFUSE,
    "unknown_label": REFUSE,
    "leak": REFUSE,
    "near_leak": WARN,
    "conflict": WARN,
    "bio": WARN,
    "long": WARN,
    "mojibake": WARN,
    "duplicate": WARN,
    "letters": WARN,
}


@dataclass(frozen=True)
class Plan:
    """What a task asks of its data.

    Attributes:
        kind: What rows hold.
        files: Files by split: `train`, and `valid` and `test` if they are not held out of it.
        layout: Columns and encoding.
        steps: How texts are normalised, in order.
        actions: What is done about a row that fails a check, by its name, as far as it is not as in
            `ACTIONS`: "refuse", "warn" or "leave_out".
        held_out: How much is held out of `train` for each split without files.
        limits: How long rows may be.
        group: The column that rows are kept together by.
        labels: All labels there are; None takes those of the training rows.
        no_answer: Whether a question may have no answer.
        letters: Whether texts without letters are looked for.
        sha256: What the fingerprint must be, or None.
    """

    kind: DataKind
    files: Mapping[str, tuple[str, ...]]
    layout: Layout = field(default_factory=Layout)
    steps: tuple[str, ...] = ("strip",)
    actions: Mapping[str, str] = field(default_factory=dict)
    held_out: HeldOut = field(default_factory=HeldOut)
    limits: Limits = field(default_factory=Limits)
    group: Column | None = None
    labels: tuple[str, ...] | None = None
    no_answer: bool = False
    letters: bool = False
    sha256: str | None = None

    def action(self, check: str) -> str:
        """Return what is done about a row that fails a check.

        Args:
            check: Its name.

        Returns:
            "refuse", "warn" or "leave_out".
        """
        return self.actions.get(check, ACTIONS[check])
