"""The search: one job after the other while there is time, each the best use of it.

A study is what its file says: candidates, scores, seconds. What comes next is derived from it, so
a study that was stopped or killed goes on where it was. Time is kept back for one whole run, so
that what looks best at the end of the search comes to its own end. Leaves to others: which job
(`standing`), who is new (`first`, `offspring`), how long it takes (`forecast`), training (`trial`).
"""

import gc
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from regard.customise.budget import Clock, format_duration
from regard.customise.candidate import PLAIN, Candidate, plain
from regard.customise.folder import CustomFolder
from regard.customise.forecast import Forecast
from regard.customise.ground import Ground
from regard.customise.heritage import keep, kept_at
from regard.customise.offspring import Offspring
from regard.customise.options import OBJECTIVES, Options
from regard.customise.standing import KEEP, Job, Standing, value_of
from regard.customise.trial import curve_of, run_trial
from regard.errors import RegardError
from regard.search import Score, Study, predict_cost

# How many of the first rung's best others may go on from.
_ROOTS = 6
# Of each rung, how many beside those who have earned the next keep their checkpoints.
_SPARE = 2
# A whole run that takes more of the budget than this is not kept time for.
_MOST_KEPT = 0.5


@dataclass(frozen=True)
class Progress:
    """Where a search has come to.

    Attributes:
        job: What is at hand.
        score: What came of it; None when it begins.
        standing: Where all stand.
        left_s: Seconds that are left.
        metric: What decides.
    """

    job: Job
    score: Score | None
    standing: Standing
    left_s: float
    metric: str

    def __str__(self) -> str:
        """Return a line for a terminal: what is tried, what came of it, the best so far."""
        rungs, rung, name = self.standing.rungs, self.job.rung, self.job.candidate.name
        at = f"{format_duration(self.left_s):>8} left  rung {rung + 1}/{len(rungs)}"
        if self.score is None:
            return f"{at}  {name}: on to step {rungs[rung]}"
        if self.score.failure:
            return f"{at}  {name}: failed: {self.score.failure}"
        found = f"{self.metric} {value_of(self.score, self.metric):.4g}"
        leader = self.standing.leader()
        if leader is None:
            return f"{at}  {name}: {found}"
        best = value_of(self.standing.score(leader), self.metric)
        step = rungs[self.standing.reached(leader)]
        known = self.standing.candidates[leader].name
        return f"{at}  {name}: {found}; best so far {known}, {best:.4g} at step {step}"


@dataclass
class Search:
    """A search for the attention of a task.

    Attributes:
        ground: The task.
        folder: Where all is kept.
        options: What is asked for.
        first: The first generation, the model's own attention first.
        on_progress: Is told of each job that begins and ends.
        began: When this sitting began, by `time.monotonic`; None: now.
        reserve_s: Of the budget, what is kept for the report.
        stopped: Why it ended: "budget", "trials", "interrupt"; "nothing new" if no other mode was
            found.
    """

    ground: Ground
    folder: CustomFolder
    options: Options
    first: Sequence[Candidate]
    on_progress: Callable[[Progress], None]
    began: float | None = None
    reserve_s: float = 0.0
    stopped: str = ""

    def __post_init__(self) -> None:
        """Open the study and read what is known."""
        objectives = OBJECTIVES[self.options.objective]
        self.standing = Standing(self.ground.rungs, objectives)
        self.study = Study(self.folder.database, self.ground.fingerprint)
        self.clock = Clock(self.folder.database, self.options.seconds, self.began)
        self.forecast = Forecast(self._attention)
        wild = self.options.method == "random"
        self.offspring = Offspring(self.ground.space, self.options.seed, wild)
        self.attention: dict[str, float] = {}
        for row in self.study.results():
            candidate = Candidate.from_dict(row["key"], row["about"])
            score = Score(*(row[name] for name in _SCORE))
            job = self.standing.job(candidate, self.ground.rungs.index(row["steps"]))
            self.forecast.learn(job, score, row["seconds"])
            self.standing.put(candidate, job.rung, score, self._loss(job))

    def run(self) -> None:
        """Search until time or trials are used up, or Ctrl-C.

        Raises:
            RegardError: If not even the model's own attention can be trained.
        """
        # Each run collects garbage; it need not look through all libraries every time.
        gc.collect()
        gc.freeze()
        try:
            while (job := self._next()) is not None:
                if not self._carry_out(job):
                    return
        except KeyboardInterrupt:
            self.stopped = "interrupt"
        finally:
            gc.unfreeze()
            self.clock.close()
            self.study.close()

    # ── What comes next ───────────────────────────────────────────────────────────────────────
    def _next(self) -> Job | None:
        """Return the next job that would end in time, or None if there is none."""
        self.stopped = ""
        for job in (*self._waiting(), *self.standing.promotions()):
            if self._fits(job):
                return job
        fresh = self._fresh()
        return fresh if fresh is not None and self._fits(fresh) else self._closing()

    def _waiting(self) -> list[Job]:
        """Return the first jobs of those of the first generation that were not begun."""
        if not self._may_begin():
            return []
        waiting = [one for one in self.first if self.standing.reached(one.key) < 0]
        return [self.standing.first_job(one) for one in waiting]

    def _may_begin(self) -> bool:
        return self.options.trials is None or len(self.standing.candidates) < self.options.trials

    def _fresh(self) -> Job | None:
        """Return the first job of a candidate that was not there yet."""
        if not self._may_begin():
            self.stopped = "trials"
            return None
        made = self.offspring.draw(self.standing, self._roots())
        if made is None:
            self.stopped = "nothing new"
            return None
        return self.standing.first_job(made)

    def _closing(self) -> Job | None:
        """Return what is still worth the time that is left: the first of each rung, or plain."""
        if not self.stopped:
            self.stopped = "budget"
        own = [one for key, one in self.standing.candidates.items() if key == PLAIN]
        for one in (*self.standing.prospects(), *own):
            reached = self.standing.reached(one.key)
            # In one go if that fits, and else as far as it does.
            for rung in reversed(range(reached + 1, self.standing.last + 1)):
                job = self.standing.job(one, rung)
                if self.forecast.seconds(job) <= self._left():
                    return job
        return None

    def _fits(self, job: Job) -> bool:
        """Return whether a job ends in time, and leaves time for a whole run after it."""
        seconds, last = self.forecast.seconds(job), self.standing.last
        whole = self.forecast.seconds(Job(job.candidate, last, self.ground.rungs[last]))
        for_this = job.rung == last and job.candidate.key != PLAIN
        kept = 0.0 if for_this or whole > _MOST_KEPT * self.clock.budget_s else whole
        return seconds + kept <= self._left()

    def _left(self) -> float:
        return self.clock.left - self.reserve_s

    def _attention(self, candidate: Candidate) -> float:
        """Return the predicted seconds of a candidate's attention in a step; 0 without a limit."""
        if self.options.seconds == math.inf:
            return 0.0
        if candidate.key not in self.attention:
            mode = candidate.mode or self.offspring.starts[0]
            try:
                found = predict_cost(mode, self.ground.space, self.ground.batch).seconds
            except RegardError:
                # Of a task's own mode that leaves places out, or a backend nobody counts.
                found = 0.0
            self.attention[candidate.key] = found
        return self.attention[candidate.key]

    # ── Doing it ──────────────────────────────────────────────────────────────────────────────
    def _carry_out(self, job: Job) -> bool:
        """Train, and take down what came of it; return whether the search goes on."""
        self._tell(job, None)
        candidate, began = job.candidate, time.monotonic()
        root = None if candidate.root is None else self.standing.candidates[candidate.root]
        stopped = ""
        try:
            outcome = run_trial(self.ground, self.folder, job, root, self.clock, self.reserve_s)
            score, stopped = outcome.score, outcome.stopped
        except (RegardError, torch.OutOfMemoryError) as problem:
            if candidate == plain():
                raise
            score = Score(-math.inf, math.inf, math.inf, str(problem) or type(problem).__name__)
        self.stopped = stopped
        if score is None:
            return False
        seconds = time.monotonic() - began
        steps = self.ground.rungs[job.rung]
        self.study.keep(candidate.key, steps, score, seconds, candidate.as_dict())
        self.forecast.learn(job, score, seconds)
        self.standing.put(candidate, job.rung, score, self._loss(job))
        if job.rung == 0 and candidate.root is None and not score.failure:
            keep(self.folder.run_of(candidate.key), steps)
        self._tidy()
        self._tell(job, score)
        return not stopped

    def _loss(self, job: Job) -> float | None:
        heir = job.candidate.root is not None and job.rung < self.standing.last
        run = self.folder.run_of(job.candidate.key, heir)
        return dict(curve_of(run, "loss")).get(self.ground.rungs[job.rung])

    def _tell(self, job: Job, score: Score | None) -> None:
        self.on_progress(Progress(job, score, self.standing, self.clock.left, self.ground.metric))

    def _roots(self) -> dict[str, str]:
        """Return whose weights the children of each candidate go on from."""
        # An heir's first rung is the second one, and the last one is for whole runs alone; what an
        # adapter learned belongs to the programs it stands in.
        if len(self.ground.rungs) < 3 or self.ground.task.tuning.method != "full":
            return {}
        kept = set(self._kept_roots())
        roots = {key: one.root or key for key, one in self.standing.candidates.items()}
        return {key: root for key, root in roots.items() if root in kept}

    def _kept_roots(self) -> Iterator[str]:
        own = [key for key in self.standing.ranked(0) if not self.standing.candidates[key].root]
        for key in own[:_ROOTS]:
            if kept_at(self.folder.run_of(key)).is_dir():
                yield key

    def _tidy(self) -> None:
        """Delete checkpoints that nobody will go on from; their runs would begin anew."""
        for rung in range(len(self.ground.rungs)):
            ranked = self.standing.ranked(rung)
            spared = 0 if rung == self.standing.last else math.ceil(KEEP * len(ranked)) + _SPARE
            for place, key in enumerate(ranked):
                if self.standing.reached(key) == rung and place >= spared:
                    for heir in (False, True):
                        folder = self.folder.run_of(key, heir).checkpoints
                        shutil.rmtree(folder, ignore_errors=True)
        roots = {one.root for one in self.standing.candidates.values()} | {*self._kept_roots()}
        for key in self.standing.candidates:
            if key not in roots:
                shutil.rmtree(kept_at(self.folder.run_of(key)), ignore_errors=True)


_SCORE = ("quality", "seconds_per_step", "bytes", "failure")
