"""The part `tuning` of a task file: which weights of a pretrained model are trained.

Leaves to others: doing it (`train.tuning`).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regard.tasks.settings import Count, CountOrNone, Fraction, Settings

# By method, the settings that mean something in it.
_TAKES = {
    "full": (),
    "head_only": (),
    "lora": ("rank", "alpha", "dropout", "targets", "layers", "heads"),
    "adalora": ("rank", "alpha", "dropout", "targets", "layers"),
    "houlsby": ("width",),
    "pfeiffer": ("width",),
}
_PROJECTIONS = ("q", "k", "v", "o")


class TuningSettings(Settings):
    """Which weights of a pretrained model are trained, beside its head and its mode's parameters.

    Attributes:
        method: "full", all; "head_only", no others; "lora" and "adalora", an update of low rank of
            chosen projections; "houlsby" and "pfeiffer", a bottleneck after both sublayers of each
            layer, or after its feed-forward block.
        rank: Of an update; of adalora the mean at its end, and half as much again before.
        alpha: Updates are scaled by alpha / rank; None: twice the rank.
        dropout: Probability of dropping what an update reads.
        targets: "q", "k", "v" and "o" of every attention, "all" linear layers, or names of modules.
        layers: Numbers of the layers that are trained, from 0; None: all.
        heads: By role, [layer, head] pairs: an update of chosen heads alone.
        width: Channels of a bottleneck.
    """

    method: Literal["full", "head_only", "lora", "adalora", "houlsby", "pfeiffer"] = "full"
    rank: Count = 8
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Fraction = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = Field(default=["q", "v"])
    layers: Annotated[list[CountOrNone], Field(min_length=1)] | None = None
    heads: dict[str, list[tuple[CountOrNone, CountOrNone]]] | None = None
    width: Count = 64

    @model_validator(mode="after")
    def _settings_are_of_the_method(self) -> "TuningSettings":
        fields, takes = type(self).model_fields, _TAKES[self.method]
        given = [
            name
            for name in fields
            if name != "method"
            and getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]
        idle = [name for name in given if name not in takes]
        if idle:
            known = f"takes {', '.join(takes)}" if takes else "takes no other setting"
            raise ValueError(f"{idle[0]} means nothing to method {self.method}, which {known}")
        return self

    @model_validator(mode="after")
    def _heads_are_in_projections(self) -> "TuningSettings":
        if self.heads is None:
            return self
        wrong = [name for name in self.targets if name not in _PROJECTIONS]
        if wrong:
            raise ValueError(f"heads are parts of q, k, v and o; '{wrong[0]}' of targets has none")
        if self.layers is not None:
            raise ValueError("heads name their layers themselves; delete layers")
        return self
