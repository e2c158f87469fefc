"""Several tasks with one encoder: a learner that holds a learner for each.

Every batch is of one task, and its learner knows what to do with it. Leaves to others: which task
comes next (`joint_batches`), the model (`joint_model`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard.data.joint import OF, TaskRecord, labels_of_task
from regard.data.record import Record
from regard.errors import RegardError, TaskError, located, nearest

# As a whole, because it is only half there when it comes here.
from regard.learners import kinds
from regard.learners.batches import IGNORED, Example, TokenBudgetBatches
from regard.learners.encoders import encoder_of, fill, head_shape
from regard.learners.joint_batches import JointBatches
from regard.learners.joint_model import TASK, JointConfig, JointModel
from regard.learners.learner import LOSS, Learner, evaluating, means_of
from regard.learners.tokenizer import train_word_tokenizer
from regard.tasks.joint import JointTask
from regard.tasks.kinds import LanguageModellingTask, Task

# What `measure` calls the loss of a task with its weight.
_WEIGHTED = "weighted"


class JointLearner(Learner):
    """Several tasks, of which each example and each row names its own.

    Attributes:
        joint: The task.
        parts: The learner of each task by its name.
        names: The tasks, in the order of the model's heads.
    """

    model_class: ClassVar[type | None] = JointModel
    baseline_name: ClassVar[str] = "what needs no model"

    def __init__(
        self, task: Task, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str] = ()
    ) -> None:
        """Make the learners.

        Args:
            task: A joint task.
            tokenizer: Its subwords.
            labels: Those of all tasks, named TASK/LABEL.
        """
        assert isinstance(task, JointTask)
        super().__init__(task, tokenizer, labels)
        self.joint = task
        self.parts = {
            name: kinds.learner_class(one)(one, tokenizer, labels_of_task(self.labels, name))
            for name, one in task.parts().items()
        }
        self.names = list(self.parts)
        self._learned: dict[str, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the texts of its kind."""
        assert isinstance(record, TaskRecord)
        yield from kinds.LEARNERS[record.kind].texts_of(record)

    @classmethod
    def make_tokenizer(cls, task: Task, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """Learn subwords that serve all kinds: they tell two texts apart, and may be hidden.

        Args:
            task: The task.
            texts: Those of the training records of all tasks.

        Returns:
            The tokenizer.
        """
        assert isinstance(task, JointTask)
        hides = any(isinstance(one, LanguageModellingTask) for one in task.tasks.values())
        return train_word_tokenizer(texts, task.tokenizer.size, mask=hides)

    def check(self) -> None:
        """Refuse settings of a task that do not fit its data."""
        for name, one in self.parts.items():
            try:
                one.check()
            except RegardError as problem:
                raise located(problem, f"tasks.{name}") from None

    def build(self) -> JointModel:
        """Return one encoder with a head for each task."""
        source = encoder_of(self.task, len(self.tokenizer), self.pad)
        shapes = []
        for name, one in self.parts.items():
            if source.causal and isinstance(one.task, LanguageModellingTask):
                raise TaskError(
                    f"tasks.{name}: the encoder of {self.task.model.pretrained} sees only what "
                    "comes before, and hidden words are found from both sides; leave the task out"
                )
            kind = one.part_class or one.model_class
            assert kind is not None
            shape = head_shape(one.task, one.outputs, source.causal)
            if isinstance(one.task, LanguageModellingTask):
                shape["pooling"] = None
            shapes.append({"kind": kind.__name__, **shape})
        named = {"id2label": dict(enumerate(self.labels))} if self.labels else {}
        config = JointConfig(
            source.config, shapes, uncertain=self.joint.weighting == "uncertainty",
            bottleneck=source.bottleneck, **named,
        )  # fmt: skip
        return fill(JointModel(config), source, self.task, self.tokenizer)

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return the examples of each task, one task after the other, each with its place."""
        return [
            {**example, TASK: place}
            for place, (name, one) in enumerate(self.parts.items())
            for example in one.encode(rows_of_task(rows, name), learning)
        ]

    def vary(self, example: Example, seed: str) -> Example:
        """Return an example as its task sees it."""
        place, own = self._own(example)
        return {**self._at(place).vary(own, seed), TASK: place}

    def weigh(self, examples: Sequence[Example]) -> None:
        """Fix what errors in each label count, for each task."""
        for place, one in enumerate(self.parts.values()):
            one.weigh([example for example in examples if example[TASK] == place])

    def batches(self, examples: Sequence[Example], seed: int) -> JointBatches:
        """Return what draws a task for each update, and then batches of it."""
        budget = self.task.training.batch_tokens
        parts = []
        for places in self._places(examples):
            own = [examples[place] for place in places]
            parts.append((places, TokenBudgetBatches(own, budget, seed)))
        temperature = self.joint.sampling.temperature
        return JointBatches(parts, temperature, self.task.training.accumulate, seed)

    def alike(self, examples: Sequence[Example], rows: int) -> Iterator[list[int]]:
        """Cut examples into batches of one task."""
        for places, one in zip(self._places(examples), self.parts.values(), strict=True):
            own = [examples[place] for place in places]
            for batch in one.alike(own, min(rows, one.batch)):
                yield [places[number] for number in batch]

    def _places(self, examples: Sequence[Example]) -> list[list[int]]:
        """Return where the examples of each task are."""
        found: list[list[int]] = [[] for _ in self.names]
        for number, example in enumerate(examples):
            found[example[TASK]].append(number)
        return found

    @property
    def collate(self) -> Any:
        """What makes tensors of the examples of one task."""
        return self._collated

    def _collated(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        place, _ = self._own(examples[0])
        batch = self._at(place).collate([self._own(example)[1] for example in examples])
        return {**batch, TASK: torch.tensor(place)}

    @staticmethod
    def _own(example: Example) -> tuple[int, Example]:
        return example[TASK], {name: value for name, value in example.items() if name != TASK}

    def _at(self, place: int) -> Learner:
        return self.parts[self.names[place]]

    def loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Return the loss of the batch's task with its weight.

        Args:
            outputs: Of the model.
            labels: As the task's own learner has them.
            num_items_in_batch: What to divide by where a batch comes in parts; None: the labels.

        Returns:
            w · L with a weight that is given. With one that is learned, exp(−s) · L + s/2 for a
            negative log likelihood L, and exp(−s) · L/2 + s/2 for a squared error, s = log σ² being
            the task's `log_variance` (Kendall, Gal & Cipolla 2018, arXiv 1705.07115, equations 5
            and 10).
        """
        own = self._at(outputs.task).loss(outputs, labels, num_items_in_batch)
        items = labels.ne(IGNORED).sum()
        whole = items if num_items_in_batch is None else num_items_in_batch
        if torch.is_grad_enabled():
            self._keep(outputs, own * whole, items)
        return self._weighted(outputs, own, items / whole)

    def _weighted(self, outputs: Any, own: Tensor, share: Any) -> Tensor:
        """Return a loss with its weight; `share` is the part of an update that it is of."""
        weight = self._weight(outputs)
        if outputs.log_variance is None:
            return weight * own
        return weight * own + share * outputs.log_variance / 2

    def _weight(self, outputs: Any) -> Any:
        name = self.names[outputs.task]
        if outputs.log_variance is None:
            given = self.joint.weighting
            return given[name] if isinstance(given, dict) else 1.0
        return (0.5 if self.parts[name].squares else 1.0) * torch.exp(-outputs.log_variance)

    def _keep(self, outputs: Any, total: Tensor, items: Tensor) -> None:
        name = self.names[outputs.task]
        kept = {LOSS: total.detach()}
        if outputs.log_variance is not None:
            kept["weight"] = self._weight(outputs).detach() * items
        for key, value in kept.items():
            before, count = self._learned.get(f"{name}{OF}{key}", (0.0, 0))
            self._learned[f"{name}{OF}{key}"] = before + value, count + items

    def learned(self) -> dict[str, tuple[float, float]]:
        """Return the loss of each task, and its weight if that is learned."""
        found = {name: (float(total), float(n)) for name, (total, n) in self._learned.items()}
        self._learned = {}
        return found

    @property
    def losses(self) -> list[str]:
        """That of all, and that of each task."""
        return [LOSS, *(f"{name}{OF}{LOSS}" for name in self.names)]

    def measure(self, outputs: Any, labels: Tensor) -> dict[str, float]:
        """Return the loss of the batch's task, without and with its weight."""
        name, own = self.names[outputs.task], self._at(outputs.task).loss(outputs, labels)
        weighted = self._weighted(outputs, own, 1.0)
        return {f"{name}{OF}{LOSS}": own.item(), f"{name}{OF}{_WEIGHTED}": weighted.item()}

    def summarise(self, measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the mean of the tasks' weighted losses, and the loss of each."""
        means = means_of(measured)
        weighted = [value for name, value in means.items() if name.endswith(OF + _WEIGHTED)]
        own = {name: value for name, value in means.items() if name in self.losses}
        return {LOSS: sum(weighted) / len(weighted), **own}

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[Any]:
        """Return what the batch's task answers."""
        own = {name: value for name, value in batch.items() if name != TASK}
        place = int(batch[TASK])
        return self._at(place).read(model.parts[place], own)

    def answer(self, model: PreTrainedModel, rows: Sequence[Record]) -> list[Any]:
        """Return what each task answers to its rows."""
        whole: Any = model
        with evaluating(model):
            return self._each(
                rows, lambda name, own: self.parts[name].answer(self._part(name, whole), own)
            )

    def _part(self, name: str, model: Any) -> Any:
        return model.parts[self.names.index(name)]

    def _each(
        self, rows: Sequence[Record], do: Callable[[str, list[Record]], list[Any]]
    ) -> list[Any]:
        """Return what is done with the rows of each task, in the order of the rows."""
        there = {name: rows_of_task(rows, name) for name in self.names}
        found = {name: iter(do(name, own)) for name, own in there.items() if own}
        return [next(found[task_of(row)]) for row in rows]

    def record(self, row: Record, answer: Any) -> dict[str, Any]:
        """Keep what its task keeps, and the name of the task."""
        return {TASK: task_of(row), **self.parts[task_of(row)].record(row, answer)}

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[Any]:
        """Answer as the baseline of each task."""
        return self._each(
            rows, lambda name, own: self.parts[name].baseline(rows_of_task(train, name), own)
        )

    @property
    def options(self) -> dict[str, Any]:
        """The kind of each task, and its settings of the metrics."""
        return {
            "tasks": {
                name: {"task": one.task.task, "options": one.options}
                for name, one in self.parts.items()
            }
        }

    def only(self, name: str | None, model: PreTrainedModel) -> tuple[Learner, PreTrainedModel]:
        """Return one of the tasks, with its head and the encoder."""
        if name is None:
            raise TaskError(
                f"this run joins several tasks; say which with --task: {', '.join(self.names)}"
            )
        if name not in self.parts:
            raise TaskError(f"--task {name}: there is no such task; {nearest(name, self.names)}")
        return self.parts[name], self._part(name, model)


def task_of(row: Record) -> str:
    """Return the task of a row.

    Args:
        row: One of several tasks.

    Returns:
        The name of the task.
    """
    assert isinstance(row, TaskRecord)
    return row.task


def rows_of_task(rows: Sequence[Record], name: str) -> list[Record]:
    """Return the rows of a task.

    Args:
        rows: Of several.
        name: The task.

    Returns:
        Its rows, in their order.
    """
    return [row for row in rows if task_of(row) == name]
