"""Statistics of every head of attention, written down while a model is trained.

Leaves to others: observing (`hf`), drawing (`view`), telling others (`trackers`).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState

from regard import hf
from regard.data.record import Record
from regard.errors import InputError, RegardError, TaskError, located
from regard.hf.observe import Observing
from regard.hf.places import find_places
from regard.hf.seen import Seen
from regard.learners.guides import rows_of
from regard.learners.learner import Learner, evaluating
from regard.train.record import valid_scores
from regard.train.table import Table, read_table
from regard.train.trackers import Tracker

# What is written down, by the name it is observed by.
STATISTICS = {"entropy": "entropy", "distance": "distance", "sink": "mass:first"}
# Validation rows that are looked at, and how many at once.
_ROWS, _BATCH = 64, 16
# A row is drawn that has about so many tokens.
_DRAWN = 24


class Head(NamedTuple):
    """Statistics of one head; None where its program has none such.

    Attributes:
        role: Of its attention.
        layer: Counted from 0.
        head: Likewise.
        entropy: Of its weights, in nats, averaged over query rows.
        distance: Mean distance of query and key, in tokens.
        sink: Weight of the first token.
    """

    role: str
    layer: int
    head: int
    entropy: float | None
    distance: float | None
    sink: float | None


class HeadLog(TrainerCallback):
    """Writes a line for each head at every so many evaluations."""

    def __init__(
        self,
        learner: Learner,
        model: PreTrainedModel,
        rows: Sequence[Record],
        path: Path,
        step: int = 0,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        """Choose what is looked at.

        Args:
            learner: Of the task, which says how often.
            model: The model.
            rows: The validation rows.
            path: A .csv.
            step: The step the run continues from; later lines are dropped.
            trackers: Who else is told.

        Raises:
            TaskError: If there are no validation rows.
            UnsupportedError: If the model's attention cannot be reached.
        """
        if not rows:
            raise TaskError("attention.log looks at validation rows, but none are held out")
        self.model, self.trackers = model, trackers
        self.every = int(learner.task.attention.log)
        try:
            self.names = observable(model)
        except RegardError as problem:
            raise located(problem, "attention.log") from None
        examples = learner.encode(rows[:: -(-len(rows) // _ROWS)])
        places = learner.alike(examples, _BATCH)
        self.batches = [learner.collate([examples[k] for k in some]) for some in places]
        drawn = min(examples, key=lambda one: abs(len(one["input_ids"]) - _DRAWN))
        self.drawn = learner.collate([drawn])
        kept = [row for row in read_table(path) if int(row["step"]) <= step]
        self.table = Table(path, kept)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Look at the heads.

        Args:
            args: Unused.
            state: Knows the step, and how many evaluations there were.
            control: Unused.
        """
        evaluations = sum(bool(valid_scores(one)) for one in state.log_history)
        if evaluations % self.every:
            return
        heads = head_statistics(self.model, self.batches, self.names)
        for head in heads:
            self.table.add({"step": state.global_step, **head._asdict()})
        told = [one for one in self.trackers if state.global_step > one.told]
        if told:
            pictures = draw_maps(self.model, self.drawn, list(self.names))
            for tracker in told:
                tracker.heads(state.global_step, heads, pictures)


def observable(model: PreTrainedModel) -> dict[str, list[str]]:
    """Return which statistics the attention of each role has.

    Args:
        model: A model.

    Returns:
        Names of `STATISTICS` by role.

    Raises:
        UnsupportedError: If the model's attention cannot be reached.
    """
    roles = dict.fromkeys(place.role for _, place in find_places(model).values())
    return {
        role: [name for name in STATISTICS if _has(model, role, STATISTICS[name])] for role in roles
    }


def _has(model: PreTrainedModel, role: str, name: str) -> bool:
    try:
        _observing(model, role, [name], torch.zeros(1, 1, 1))
    except InputError:
        return False
    return True


def _observing(model: PreTrainedModel, role: str, names: Sequence[str], first: Tensor) -> Observing:
    features = {"first": first} if STATISTICS["sink"] in names else {}
    return hf.observe(model, names, layers=None, heads=None, role=role, **features)


def head_statistics(
    model: PreTrainedModel, batches: Sequence[Mapping[str, Any]], names: Mapping[str, Sequence[str]]
) -> list[Head]:
    """Return statistics of every head.

    Args:
        model: It is left in the mode, training or not, it was in.
        batches: What it is called with.
        names: Statistics by role.

    Returns:
        Means over the query rows that are no padding, a line for each head.
    """
    totals: dict[tuple[str, str, int], Tensor] = {}
    rows_there: dict[str, float] = dict.fromkeys(names, 0.0)
    for batch in batches:
        moved = {name: value.to(model.device) for name, value in batch.items()}
        wanted = {role: [STATISTICS[name] for name in of] for role, of in names.items()}
        with _observed(model, moved, wanted) as seen:
            for role, found in seen.items():
                rows = rows_of(moved, role)
                rows_there[role] += rows.sum().item()
                for name in names[role]:
                    for layer, values in zip(found.layers, found[STATISTICS[name]], strict=True):
                        mean = values.double().masked_fill(~rows[:, None], 0.0).sum((0, 2))
                        key = (role, name, layer)
                        totals[key] = totals.get(key, torch.zeros_like(mean)) + mean
    means = {key: (total / rows_there[key[0]]).tolist() for key, total in totals.items()}
    return list(_lines(means))


def _lines(means: Mapping[tuple[str, str, int], list[float]]) -> Iterator[Head]:
    for role, layer in dict.fromkeys((role, layer) for role, _, layer in means):
        of = [means.get((role, name, layer)) for name in STATISTICS]
        heads = next(len(values) for values in of if values is not None)
        for head in range(heads):
            own = [None if values is None else values[head] for values in of]
            yield Head(role, layer, head, *own)


@contextlib.contextmanager
def _observed(
    model: PreTrainedModel, batch: Mapping[str, Any], names: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Seen]]:
    """Call a model for a batch and yield what was observed of each role that has names."""
    called = {name: value for name, value in batch.items() if name != "labels"}
    longest = max(value.shape[-1] for value in called.values() if value.dim() > 1)
    first = torch.zeros(1, 1, longest, device=model.device)
    first[..., 0] = 1.0
    with evaluating(model), contextlib.ExitStack() as stack:
        seen = {
            role: stack.enter_context(_observing(model, role, of, first))
            for role, of in names.items()
            if of
        }
        model(**called)
        yield seen


def draw_maps(
    model: PreTrainedModel, batch: Mapping[str, Any], roles: Sequence[str]
) -> dict[str, Any]:
    """Return pictures of what every head makes of one row.

    Args:
        model: The model.
        batch: Of one row.
        roles: Of its attention.

    Returns:
        By role, uint8 (height, width, 3).
    """
    from regard.view.heads import draw_head_maps, pixels

    moved = {name: value.to(model.device) for name, value in batch.items()}
    with _observed(model, moved, {role: ["weights"] for role in roles}) as seen:
        return {
            role: pixels(
                draw_head_maps(
                    [layer[0].float().cpu().numpy() for layer in found["weights"]],
                    f"{role} attention of one validation row",
                )
            )
            for role, found in seen.items()
        }
