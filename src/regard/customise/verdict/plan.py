"""What a verdict promises before its first training: contenders, seeds, metric, margin, levels.

The plan is written once. A verdict that could be changed while its scores come in (more seeds
until something shows, another margin) would be wrong more often than it says, so it is not
continued then.
Leaves to others: training and judging (`judge`), finding contenders (`contenders`).
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.errors import FileError, InputError, TaskError
from regard.modes import Mode, load_mode, save_mode
from regard.tasks import load_task, save_task
from regard.tasks.kinds import Task
from regard.train.folder import RunFolder, changes, written_whole

PLAIN = "plain"
# What is said of how to judge, beside contenders and seeds.
_JUDGED = ("alpha", "margin", "faster", "metric")


@dataclass(frozen=True)
class Contender:
    """One way of attending that is trained from scratch with every seed.

    Attributes:
        name: What it goes by.
        kind: "plain", "finalist", or "random": the winner of a random search at equal budget.
        mode: Its mode; None for plain attention.
    """

    name: str
    kind: str
    mode: Mode | None = None


@dataclass(frozen=True)
class Terms:
    """By what is to be judged.

    Attributes:
        seeds: How many trainings each contender gets, at least 2.
        alpha: The chance that any contender is called better or worse than the same baseline though
            none is.
        margin: The loss of quality that still counts as none: "1%" of plain attention's score, or a
            number in the metric's unit.
        faster: The share of plain attention's time below which a contender is called cheaper.
        metric: The name of a metric; None: that of the task's search, or else its first.
    """

    seeds: int = 5
    alpha: float = 0.05
    margin: str = "1%"
    faster: float = 0.7
    metric: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers by which nothing can be judged."""
        if self.seeds < 2:
            raise InputError(
                f"seeds is {self.seeds}: how a training varies with its seed cannot be told from "
                "fewer than 2; take 5 or more"
            )
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha:g}; it lies between 0 and 1, e.g. 0.05")
        _read_margin(self.margin)
        if not 0 < self.faster < 1:
            raise InputError(
                f"faster is {self.faster:g}; it is a share of plain attention's time, e.g. 0.7"
            )


@dataclass(frozen=True)
class Plan:
    """What a verdict will do and by what it will judge.

    Attributes:
        contenders: Plain attention first.
        seeds: Of the trainings.
        alpha: As `Terms` has it.
        margin: Likewise.
        faster: Likewise.
        metric: The name of what is judged by.
    """

    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...]
    alpha: float
    margin: str
    faster: float
    metric: str

    @property
    def baselines(self) -> tuple[Contender, ...]:
        """What finalists are compared with."""
        return tuple(one for one in self.contenders if one.kind != "finalist")

    def family(self, baseline: Contender) -> tuple[Contender, ...]:
        """Return what is compared with a baseline, and corrected together.

        Args:
            baseline: Plain attention, or random search.

        Returns:
            With plain attention all others; with random search the finalists.
        """
        if baseline.kind == PLAIN:
            return tuple(one for one in self.contenders if one.kind != PLAIN)
        return tuple(one for one in self.contenders if one.kind == "finalist")

    def allowed(self, score: float) -> float:
        """Return the margin as a number.

        Args:
            score: Plain attention's.

        Returns:
            A loss in the metric's unit.
        """
        number, percent = _read_margin(self.margin)
        return abs(score) * number / 100 if percent else number

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data; of modes their hashes."""
        contenders = [
            {"name": one.name, "kind": one.kind, "mode": one.mode and one.mode.hash}
            for one in self.contenders
        ]
        judged = {key: getattr(self, key) for key in _JUDGED}
        return {"contenders": contenders, "seeds": list(self.seeds), **judged}


def fresh_seeds(task: Task, count: int) -> tuple[int, ...]:
    """Return the seeds of a verdict: not the task's own, by whose luck a search may have chosen.

    Args:
        task: The task.
        count: How many.

    Returns:
        Those that follow the task's own.
    """
    return tuple(task.training.seed + number for number in range(1, count + 1))


def _read_margin(text: str) -> tuple[float, bool]:
    """Return the number of a margin, and whether it is in percent."""
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(%?)\s*", text)
    try:
        number = float(found[1]) if found else math.nan
    except ValueError:
        number = math.nan
    if not (found and math.isfinite(number) and number >= 0):
        raise InputError(
            f"margin is '{text}'; write 1% of plain attention's score, or a number from 0 in the "
            "metric's unit, such as 0.5"
        )
    return number, bool(found[2])


@dataclass(frozen=True)
class VerdictFolder:
    """Where a verdict keeps what.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def task(self) -> Path:
        """The task, without a mode."""
        return self.path / "task.yaml"

    @property
    def plan(self) -> Path:
        """What was promised before the first training; it being there means that it was begun."""
        return self.path / "plan.json"

    @property
    def modes(self) -> Path:
        """The mode of each contender."""
        return self.path / "modes"

    @property
    def costs(self) -> Path:
        """Step times, round by round, and peak memory."""
        return self.path / "costs.json"

    @property
    def answer(self) -> Path:
        """The verdict as data."""
        return self.path / "verdict.json"

    @property
    def page(self) -> Path:
        """The verdict as a page."""
        return self.path / "verdict.html"

    @property
    def picture(self) -> Path:
        """The gains and their intervals."""
        return self.path / "verdict.png"

    def mode(self, contender: Contender) -> Path:
        """Return the file of a contender's mode."""
        return self.modes / f"{contender.name}.json"

    def run(self, contender: Contender, seed: int) -> RunFolder:
        """Return the run folder of one training."""
        return RunFolder(self.path / "runs" / contender.name / f"seed-{seed}")


def begin(folder: VerdictFolder, task: Task, plan: Plan) -> None:
    """Write down what is promised.

    Args:
        folder: Where; there must be nothing yet.
        task: The task, without a mode.
        plan: The promise.

    Raises:
        TaskError: If there is something already.
    """
    path = folder.path
    if path.exists() and not path.is_dir():
        raise TaskError(f"{path}: this is a file; a verdict needs a folder")
    if folder.plan.is_file():
        raise TaskError(
            f"{path}: there is a verdict already; continue it with --resume, or choose another "
            "folder with --runs"
        )
    # Without a plan, a task and modes are what a beginning that was killed left.
    if path.exists() and (others := {one.name for one in path.iterdir()} - {"task.yaml", "modes"}):
        raise TaskError(
            f"{path}: the folder is not empty, it holds {min(others)}; choose another with --runs"
        )
    folder.modes.mkdir(parents=True, exist_ok=True)
    for one in plan.contenders:
        if one.mode is not None:
            save_mode(one.mode, folder.mode(one))
    save_task(task, folder.task)
    with written_whole(folder.plan) as part:
        part.write_text(json.dumps(plan.as_dict(), indent=1) + "\n", encoding="utf-8")


def check_same(folder: VerdictFolder, task: Task, plan: Plan) -> None:
    """Refuse to continue what was begun otherwise.

    Args:
        folder: Of a verdict.
        task: The task, without a mode.
        plan: What is asked for now.

    Raises:
        TaskError: If there is no verdict, or it promised something else.
    """
    begun_task, begun = read_begun(folder)
    found = [*changes(begun_task, task), *_differences(begun, plan)]
    if found:
        raise TaskError(
            f"{folder.path}: this verdict was begun otherwise: {'; '.join(found)}. What is judged "
            "is promised before the first score; undo that, or begin another with --runs"
        )


def read_begun(folder: VerdictFolder) -> tuple[Task, Plan]:
    """Read what a verdict promised.

    Args:
        folder: Its folder.

    Returns:
        The task without a mode, and the plan.

    Raises:
        TaskError: If there is no verdict.
        FileError: If a file of it is broken.
    """
    if not folder.plan.is_file():
        raise TaskError(f"{folder.path}: there is no verdict here; leave out --resume to begin one")
    try:
        told = json.loads(folder.plan.read_text(encoding="utf-8"))
        contenders = tuple(_read_contender(folder, one) for one in told["contenders"])
        plan = Plan(contenders, tuple(told["seeds"]), **{key: told[key] for key in _JUDGED})
    except (ValueError, TypeError, KeyError) as problem:
        raise FileError(f"{folder.plan}: this is no plan of a verdict ({problem})") from None
    if plan.as_dict() != told:
        raise FileError(f"{folder.modes}: these are not the modes that {folder.plan.name} names")
    return load_task(folder.task), plan


def _read_contender(folder: VerdictFolder, told: dict[str, Any]) -> Contender:
    named = Contender(told["name"], told["kind"])
    if told["mode"] is None:
        return named
    return Contender(named.name, named.kind, load_mode(folder.mode(named)))


def _differences(begun: Plan, now: Plan) -> Iterator[str]:
    for key in ("seeds", *_JUDGED):
        was, is_ = getattr(begun, key), getattr(now, key)
        if was != is_:
            yield f"{key} was {was} and is {is_}"
    was, is_ = (", ".join(one.name for one in plan.contenders) for plan in (begun, now))
    if was != is_:
        yield f"contenders were {was} and are {is_}"
    elif begun.as_dict()["contenders"] != now.as_dict()["contenders"]:
        yield "the programs or kinds of its contenders are others"
