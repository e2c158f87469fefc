"""What a customisation leaves: the best mode, a task file that gives its figure, and a table.

Leaves to others: the page to be read (`report`), a verdict on test rows.
"""

import csv
from dataclasses import dataclass
from typing import Any

from regard.customise.candidate import PLAIN, Candidate
from regard.customise.folder import CustomFolder
from regard.customise.ground import Ground
from regard.customise.options import Options
from regard.customise.standing import Standing, value_of
from regard.modes import Mode, save_mode
from regard.search import Refusal, by_all, pareto_ranks
from regard.tasks import save_task


@dataclass(frozen=True)
class Result:
    """What came of a customisation.

    Attributes:
        ground: The task.
        folder: Where all is kept.
        options: What was asked for.
        standing: Where all candidates stand.
        best: The key of the best one; None if none was scored.
        stopped: Why it ended: "budget", "trials", "interrupt" or "nothing new".
        spent_s: Seconds in all sittings.
        refusals: What was wrong with proposals.
    """

    ground: Ground
    folder: CustomFolder
    options: Options
    standing: Standing
    best: str | None
    stopped: str
    spent_s: float
    refusals: tuple[Refusal, ...] = ()

    @property
    def candidate(self) -> Candidate | None:
        """The best candidate."""
        return None if self.best is None else self.standing.candidates[self.best]

    @property
    def mode(self) -> Mode | None:
        """The best mode; None if the model's own attention is best."""
        return None if self.candidate is None else self.candidate.mode

    def value(self, key: str, rung: int | None = None) -> float:
        """Return the metric of a candidate.

        Args:
            key: Which.
            rung: On which rung; None: the highest it reached.

        Returns:
            The value as the metric has it.
        """
        score = self.standing.score(key) if rung is None else self.standing.scores[key][rung]
        return value_of(score, self.ground.metric)

    def steps(self, key: str) -> int:
        """Return after how many steps a candidate was scored last."""
        return self.ground.rungs[self.standing.reached(key)]

    def finalists(self, count: int = 5) -> dict[str, Mode]:
        """Return the best modes among those that ran to the end.

        Args:
            count: How many at most.

        Returns:
            Modes by name, best first; without the model's own attention.
        """
        ended = self.standing.ranked(self.standing.last)
        found: dict[str, Mode] = {}
        for mode in [one for key in ended if (one := self.standing.candidates[key].mode)][:count]:
            # Those who propose may give several the same name.
            name = f"{mode.name} {mode.hash[:6]}" if mode.name in found else mode.name
            found[name] = mode
        return found


def choose_best(standing: Standing, objective: str) -> str | None:
    """Return who has won.

    Args:
        standing: Where all stand.
        objective: "quality": the best quality at the end. "all": of those at the end that are no
            worse than the model's own attention, the one whose steps are quickest; if there is
            none, the best quality.

    Returns:
        A key; None if nobody was scored.
    """
    order = standing.order()
    if not order:
        return None
    rung = standing.reached(order[0])
    peers = [key for key in order if standing.reached(key) == rung]
    scores = {key: standing.scores[key][rung] for key in peers}
    if objective == "all" and PLAIN in scores:
        enough = [key for key in peers if scores[key].quality >= scores[PLAIN].quality]
        return min(enough, key=lambda key: scores[key].seconds_per_step)
    # Of equals the quicker one, and the model's own attention before any mode.
    return min(
        peers,
        key=lambda key: (-scores[key].quality, key != PLAIN, scores[key].seconds_per_step),
    )


def front(standing: Standing) -> set[str]:
    """Return who, among those at the highest rung, is beaten by nobody in all objectives at once.

    Args:
        standing: Where all stand.

    Returns:
        Keys.
    """
    order = standing.order()
    peers = [key for key in order if standing.reached(key) == standing.reached(order[0])]
    ranks = pareto_ranks([by_all(standing.score(key)) for key in peers])
    return {key for key, rank in zip(peers, ranks, strict=True) if not rank}


def write_result(result: Result) -> None:
    """Write the best mode, its task file and the table.

    Args:
        result: What came of it.
    """
    folder, mode = result.folder, result.mode
    folder.mode.unlink(missing_ok=True)
    if mode is not None:
        save_mode(mode, folder.mode)
    named = None if mode is None else str(folder.mode.resolve())
    save_task(result.ground.task.model_copy(update={"mode": named}), folder.best)
    with folder.table.open("w", encoding="utf-8", newline="") as file:
        rows = tried(result)
        table = csv.DictWriter(file, list(rows[0]) if rows else ["candidate"])
        table.writeheader()
        table.writerows(rows)


def tried(result: Result) -> list[dict[str, Any]]:
    """Return all that was tried, the best first, what failed last.

    Args:
        result: What came of it.

    Returns:
        A row each: name, key, origin, parents, steps, the metric there and on each rung, step
        time in ms, memory in MB, and why it was dropped.
    """
    standing, ground = result.standing, result.ground
    order = standing.order()
    failed = [key for key in standing.candidates if key not in order]
    rows = []
    for key in [*order, *failed]:
        candidate, score = standing.candidates[key], standing.score(key)
        there = key in order
        rungs = {
            f"{ground.metric} at {steps}": result.value(key, rung)
            if there and rung in standing.scores[key]
            else None
            for rung, steps in enumerate(ground.rungs)
        }
        rows.append(
            {
                "candidate": candidate.name,
                "key": key[:16],
                "origin": candidate.origin,
                "parents": " × ".join(standing.candidates[one].name for one in candidate.parents),
                "steps": result.steps(key),
                **rungs,
                "ms per step": round(1e3 * score.seconds_per_step, 2) if there else None,
                "MB": round(score.bytes / 1e6, 1) if there else None,
                "dropped": "the best" if key == result.best else standing.dropped(key),
            }
        )
    return rows
