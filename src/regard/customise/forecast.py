"""How long a job will take, from what earlier ones took, so that none begins that would not end.

Before: plain attention takes 20 ms a step; a mode whose attention is predicted to take 5 ms more.
After: 100 of its steps take 2.5 s, and what surrounds the steps as long as it ever did.
Leaves to others: predicting attention (`search/predict`), measuring (`trial`).
"""

from collections.abc import Callable

from regard.customise.candidate import PLAIN, Candidate
from regard.customise.standing import Job
from regard.search import Score

# Of the measured step time; machines have other things to do as well.
_MARGIN = 1.15


class Forecast:
    """Learns from jobs that ended.

    Args:
        attention: Returns the predicted seconds of a candidate's attention in a step.
    """

    def __init__(self, attention: Callable[[Candidate], float]) -> None:
        self.attention = attention
        self.steps: dict[str, float] = {}
        self.around = 0.0

    def learn(self, job: Job, score: Score, seconds: float) -> None:
        """Take down what a job took.

        Args:
            job: The job.
            score: Knows the seconds of a step.
            seconds: All of it.
        """
        if score.failure:
            return
        self.steps[job.candidate.key] = score.seconds_per_step
        self.around = max(self.around, seconds - job.steps * score.seconds_per_step)

    def step(self, candidate: Candidate) -> float:
        """Return how long a training step of a candidate takes.

        Args:
            candidate: Which.

        Returns:
            Seconds: measured, or else those of plain attention and what it is predicted to take
            more; 0 before anything was measured.
        """
        if candidate.key in self.steps:
            return self.steps[candidate.key]
        if not self.steps:
            return 0.0
        base = self.steps.get(PLAIN, max(self.steps.values()))
        more = self.attention(candidate) - self.attention(Candidate(PLAIN, PLAIN, ""))
        return base + max(0.0, more)

    def seconds(self, job: Job) -> float:
        """Return how long a job will take.

        Args:
            job: The job.

        Returns:
            Seconds; 0 before anything was measured.
        """
        return _MARGIN * job.steps * self.step(job.candidate) + self.around
