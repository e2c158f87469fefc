"""The gates of a run: what trains them, when they are settled, what is written down of them.

They stand in a run as a way of tuning does, so that checkpoints, Ctrl-C and killed processes are
the run's affair. Leaves to others: the loop (`train`), the model (`model`), files
(`folder`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState

from regard.customise.gates.folder import GatesFolder
from regard.customise.gates.model import GatedModel
from regard.customise.gates.schedule import Schedule
from regard.train.table import Table, read_table
from regard.train.tuning import Loss, Tuning

# Lines of the course of each gate, about.
_LINES = 60
Quality = Callable[[PreTrainedModel], dict[str, float]]


class Gating(Tuning):
    """Weights are trained as the task says, gates by evidence.

    Attributes:
        gated: The model with gates.
    """

    def __init__(
        self,
        inner: Tuning,
        gated: GatedModel,
        schedule: Schedule,
        folder: GatesFolder,
        quality: Quality,
        charge: Callable[[Sequence[Tensor]], Tensor] | None = None,
    ) -> None:
        """Prepare the gates.

        Args:
            inner: What the task says of the weights.
            gated: The model with gates.
            schedule: When gates learn and are settled.
            folder: Where their course is kept.
            quality: Scores a model on the validation rows.
            charge: Returns a term of the loss for the shares of each layer.
        """
        self.inner, self.gated, self.schedule, self.folder = inner, gated, schedule, folder
        self.quality, self.charge = quality, charge
        # The optimiser of the run has none of what needs no gradient when it is made.
        for _, layer in gated.layers:
            layer.logits.requires_grad_(False)
        self.settled = False
        super().__init__(inner.model)

    @property
    def watchers(self) -> list[TrainerCallback]:
        """Who tells the gates of steps."""
        return [*self.inner.watchers, _Steps(self)]

    def loss(self, loss: Loss) -> Loss:
        """Return the loss with what the gates are charged for, as long as they learn."""
        loss, charge = self.inner.loss(loss), self.charge
        if charge is None:
            return loss

        def charged(*given: Any, **options: Any) -> Tensor:
            found = loss(*given, **options)
            if self.settled or not self.model.training:
                return found
            return found + charge([layer.shares() for _, layer in self.gated.layers])

        return charged

    def enter(self, step: int, most: int) -> None:
        """Do what is to be done before a step.

        Args:
            step: From 0.
            most: The steps of the run.
        """
        phase = self.schedule.phase(step, most)
        for _, layer in self.gated.layers:
            layer.temperature = self.schedule.temperature(step, most)
            layer.logits.requires_grad_(phase == "anneal")
        if phase != "settled" or self.settled:
            return
        # A run that goes on from a later step has this behind it.
        measured = step == self.schedule.steps(most)[1]
        before = self.quality(self.model) if measured else {}
        self.settle()
        if measured:
            self.folder.note_settled(step, before, self.quality(self.model))

    def learn(self) -> None:
        """Let the gates learn from the gradients they have."""
        for _, layer in self.gated.layers:
            layer.learn()

    def settle(self) -> None:
        """Run the winner of each gate alone from now on."""
        self.gated.settle()
        self.settled = True

    def finish(self, folder: Path) -> PreTrainedModel:
        """Return the model with one program on each head."""
        self.inner.finish(folder)
        names = dict.fromkeys(
            name for _, layer in self.gated.layers for one in layer.offers for name in one.programs
        )
        return self.gated.finish("gates", f"of each head the best of {', '.join(names)}")


class _Steps(TrainerCallback):
    """Tells gates of the steps of a run, and writes down their course."""

    def __init__(self, gating: Gating) -> None:
        self.gating = gating

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Write down what was asked for, and go on with the course."""
        folder = self.gating.folder
        folder.begin()
        kept = [row for row in read_table(folder.course) if int(row["step"]) <= state.global_step]
        self.table = Table(folder.course, kept)
        if not kept:
            self._write(0)

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Set the temperature, or settle."""
        self.gating.enter(state.global_step, state.max_steps)

    def on_optimizer_step(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Let the gates learn."""
        if self.gating.schedule.phase(state.global_step, state.max_steps) == "anneal":
            self.gating.learn()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write a line for each gate and candidate now and then, until they are settled."""
        step, end = state.global_step, self.gating.schedule.steps(state.max_steps)[1]
        if step == end or (step < end and step % max(1, end // _LINES) == 0):
            self._write(step)

    def _write(self, step: int) -> None:
        for row in self.gating.gated.course():
            self.table.add({"step": step, **row})
