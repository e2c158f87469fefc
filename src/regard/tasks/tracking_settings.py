"""The part `tracking` of a task file: who is told of a run beside its log.

Leaves to others: telling them (`train`).
"""

from typing import Annotated, Literal

from pydantic import Field

from regard.tasks.settings import Settings


class TrackingSettings(Settings):
    """Who is told of a run beside its log, which is kept as log.jsonl and log.csv in any case.

    Attributes:
        tensorboard: Whether TensorBoard's events are written into the run folder; None: if its
            package is installed.
        wandb: Weights & Biases: "online", or "offline" into the run folder, to be sent later with
            `wandb sync`; None: not told.
        project: The name of the project there.
    """

    tensorboard: bool | None = None
    wandb: Literal["online", "offline"] | None = None
    project: Annotated[str, Field(min_length=1)] = "regard"
