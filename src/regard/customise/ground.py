"""The ground of a customisation: the task as every candidate trains it, its rungs and its space.

Looked at once, with a model that is thrown away. Leaves to others: candidates (`first`,
`offspring`), their training (`trial`).
"""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import reduce

from regard.data import Corpus
from regard.errors import TaskError, nearest
from regard.hf.places import Place, find_places
from regard.learners import Learner, learner_class
from regard.learners.batches import TokenBudgetBatches, length_of
from regard.learners.evaluation import records_of
from regard.learners.pretrained import fit
from regard.metrics.records import measures_of
from regard.search import Batch, Layers, Space
from regard.tasks.kinds import Task
from regard.train import build_model
from regard.train.run import Known, know

# The first rung is an eighth of the run, each further one twice as far.
_FIRST, _FURTHER = 8, 2
# Layers and heads fall into so many groups at most, so that a mode stays readable.
_GROUPS = 2
# Rows that are looked at to learn how long texts are, and how much longer the longest may be.
_LOOKED_AT, _LONG = 400, 0.9


@dataclass(frozen=True)
class Ground:
    """What every candidate shares.

    Attributes:
        task: The task as it is trained, with its data's fingerprint, nothing to search, and
            evaluations on the rungs.
        known: Its records, the test rows left out, and its subwords.
        learner: Of the task.
        space: The places that modes fill.
        batch: What a training step reads, for predictions.
        steps: Of a whole run.
        rungs: Steps at which candidates are compared, the last at the end.
        metric: What decides.
    """

    task: Task
    known: Known
    learner: Learner
    space: Space
    batch: Batch
    steps: int
    rungs: tuple[int, ...]
    metric: str

    @property
    def fingerprint(self) -> str:
        """What a study must agree on to go on: the task, its data and the metric."""
        told = json.dumps([self.task.model_dump(mode="json"), self.metric], sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()
        return f"{self.task.task} by {self.metric}, {digest[:16]}"


def survey(task: Task, metric: str | None = None) -> Ground:
    """Look at a task's data and model.

    Args:
        task: The task.
        metric: Of the validation rows; None: `search.metric`, or the first.

    Returns:
        The ground.

    Raises:
        TaskError: If there are no validation rows, or no such metric.
        DataError: If the data cannot be used.
        UnsupportedError: If the model's attention cannot be replaced.
    """
    kind = learner_class(task)
    if metric is None and task.search is not None:
        metric = task.search.metric
    if kind.model_class is not None:
        task = fit(task)
    known = know(task)
    corpus = known.corpus
    if not corpus.splits.valid:
        raise TaskError("modes are compared on validation rows; hold some out, or name data.valid")
    data = task.data.model_copy(update={"sha256": corpus.sha256})
    task = task.model_copy(update={"data": data, "search": None})
    learner = kind(task, known.tokenizer, corpus.labels)
    chosen = _metric(learner, corpus, metric)
    examples = learner.encode(corpus.splits.train[:_LOOKED_AT])
    lengths = sorted(length_of(one) for one in examples)
    length = lengths[math.ceil(_LONG * len(lengths)) - 1]
    places = [place for _, place in find_places(build_model(learner)).values()]
    steps = task.training.steps or _steps_of_epochs(learner, corpus)
    every, rungs = rungs_of(task, steps)
    training = task.training.model_copy(update={"eval_every": every})
    batch = Batch(max(1, task.training.batch_tokens // length), length, width=places[0].width)
    task = task.model_copy(update={"training": training})
    # No candidate ever holds the test rows.
    blind = replace(corpus, splits=corpus.splits._replace(test=[]))
    known, space = Known(blind, known.tokenizer), space_of(places, length)
    return Ground(task, known, learner, space, batch, steps, rungs, chosen)


def rungs_of(task: Task, steps: int) -> tuple[int, tuple[int, ...]]:
    """Return where candidates of a task are compared.

    Args:
        task: The task; where its evaluations select what a run ends with, they stay as they are.
        steps: Of a whole run.

    Returns:
        Steps from one evaluation to the next, and the rungs, each a multiple of it but the last.
    """
    training, every = task.training, max(1, round(steps / _FIRST))
    if training.selects or 0 < training.eval_every <= every:
        own = training.eval_every
        first = own * max(1, round(every / own))
        every = own
    else:
        first = every
    rungs = []
    while first < steps:
        rungs.append(first)
        first *= _FURTHER
    # A rung just before the end would tell nothing.
    if rungs and rungs[-1] > 0.75 * steps:
        rungs.pop()
    return every, (*rungs, steps)


def space_of(places: list[Place], length: int) -> Space:
    """Return the space of modes for a model.

    Args:
        places: Of its attention.
        length: How long its texts are.

    Returns:
        Layers and heads by role, in groups; programs may read what every place gives.
    """
    roles = {}
    for role in dict.fromkeys(place.role for place in places):
        own = [place for place in places if place.role == role]
        heads = min(place.heads for place in own)
        # Heads that share keys stay together.
        shared = min(place.key_heads or place.heads for place in own)
        groups = min(_GROUPS, len(own)), math.gcd(_GROUPS, shared)
        roles[role] = Layers(len(own), heads, *groups)
    given = reduce(frozenset.intersection, (place.given for place in places))
    return Space(roles, length, given)


def _metric(learner: Learner, corpus: Corpus, wanted: str | None) -> str:
    """Return the metric that decides; what needs no model is measured alike."""
    train, valid, _ = corpus.splits
    guessed = records_of(learner, valid, learner.baseline(train, valid))
    (measures,) = measures_of(learner.task.task, [guessed], learner.options)
    known = [one.name for one in measures]
    if wanted is not None and wanted not in known:
        raise TaskError(f"there is no metric '{wanted}'; {nearest(wanted, known)}")
    return wanted or known[0]


def _steps_of_epochs(learner: Learner, corpus: Corpus) -> int:
    training = learner.task.training
    batches = TokenBudgetBatches(learner.encode(corpus.splits.train), training.batch_tokens)
    # As transformers counts: the last update of an epoch may have fewer batches.
    updates = math.ceil(len(batches) / training.accumulate)
    return math.ceil(updates * (training.epochs or 1))
