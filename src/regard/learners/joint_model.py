"""One encoder with a head for each of several tasks.

Each head is a text model of its own that reads with the encoder of all. Leaves to others: what the
outputs mean and what the losses count (`joint`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from regard.hf import tuning
from regard.learners.question_answering import SpanModel
from regard.learners.retrieval import BiEncoder
from regard.learners.text_model import OURS, TextConfig, TextModel, WordModel, encoder_in

_KINDS: dict[str, type[TextModel]] = {
    one.__name__: one for one in (TextModel, SpanModel, BiEncoder, WordModel)
}
# The name of the key of a batch that says which task it is of.
TASK = "task"
# Where the uncertainties of tasks stand among the weights.
UNCERTAINTIES = "log_variances."


class JointConfig(PreTrainedConfig):
    """The shape of a `JointModel`.

    Attributes:
        encoder: The configuration of the encoder.
        parts: For each task the class of its head as `kind`, and its shape as `TextConfig` has it.
        uncertain: Whether each task has an uncertainty that is learned.
        bottleneck: As in `TextConfig`.
    """

    model_type = "regard_joint"
    sub_configs = {"encoder": AutoConfig}  # type: ignore[assignment] # noqa: RUF012

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        parts: Sequence[Mapping[str, Any]] = (),
        uncertain: bool = False,
        bottleneck: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Fill in the shape.

        Args:
            encoder: A configuration, or its plain data with `model_type`.
            parts: As the attribute.
            uncertain: As the attribute.
            bottleneck: As the attribute.
            **more: What every configuration may hold.
        """
        self.encoder = TextConfig(encoder).encoder
        self.parts, self.uncertain = [dict(one) for one in parts], uncertain
        self.bottleneck = None if bottleneck is None else dict(bottleneck)
        super().__init__(**more)


@dataclass
class JointOutput(TokenClassifierOutput):
    """What a head says.

    Attributes:
        log_variance: Of its task, if it is learned.
        task: The place of its task.
    """

    log_variance: Tensor | None = None
    task: int | None = None


class JointModel(PreTrainedModel):
    """An encoder and the heads of several tasks."""

    config_class = JointConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: JointConfig) -> None:
        """Build it.

        Args:
            config: Its shape.
        """
        super().__init__(config)
        self.encoder = encoder_in(AutoModel.from_config(config.encoder))
        self.parts = nn.ModuleList(_part(one, config, self.encoder) for one in config.parts)
        count = len(config.parts) if config.uncertain else 0
        self.log_variances = nn.ParameterList(torch.zeros(()) for _ in range(count))
        if config.bottleneck is not None:
            tuning.build_in(self, tuning.BottleneckConfig(**config.bottleneck))
        self.post_init()

    def forward(self, task: Tensor | int, **batch: Any) -> JointOutput:
        """Return what one task's head says.

        Args:
            task: The place of the task.
            **batch: What the text model of the task takes.

        Returns:
            Its `logits`.
        """
        place = int(task)
        # A copy: several processes find out what a batch used from what its outputs come from.
        variance = self.log_variances[place].clone() if self.config.uncertain else None
        return JointOutput(
            logits=self.parts[place](**batch).logits, log_variance=variance, task=place
        )


def _part(shape: Mapping[str, Any], config: JointConfig, encoder: nn.Module) -> TextModel:
    own = {name: value for name, value in shape.items() if name != "kind"}
    # A copy: a new configuration forgets what attention the one inside it runs.
    return _KINDS[shape["kind"]](TextConfig(copy.deepcopy(config.encoder), **own), encoder)


OURS[JointConfig.model_type] = JointModel
