"""Bottleneck adapters as a part of a model: made with it, saved and loaded with its own weights.

Leaves to others: the adapter (`bottleneck`), those that are put in and taken out (`attach`).
"""

from transformers import PreTrainedModel

from regard.hf.tuning.bottleneck import BottleneckConfig
from regard.hf.tuning.layer import Adapted

# The name of the adapter that is built in; PEFT's own default.
NAME = "default"


def build_in(model: PreTrainedModel, config: BottleneckConfig) -> None:
    """Put bottlenecks into a model for good, in place, under the names `adapt` gives them.

    Args:
        model: A model without adapters.
        config: What to put in.

    Raises:
        UnsupportedError: If the model's layers are not understood.
    """
    for path, make in config.plan(model).items():
        linear = model.get_submodule(path)
        layer = Adapted(linear, NAME)
        layer.add(NAME, make(), frozen=False)
        above, _, last = path.rpartition(".")
        setattr(model.get_submodule(above), last, layer.train(linear.training))


def own_names(weights: dict) -> dict:
    """Return an adapted model's weights as a model with the same bottlenecks built in has them.

    Args:
        weights: The `state_dict` of a model that `adapt` put one bottleneck adapter into.

    Returns:
        Its weights; of modules that were trained in full, those of the adapter.
    """
    trained = f".modules_to_save.{NAME}."
    return {
        name.replace(trained, "."): value
        for name, value in weights.items()
        if ".original_module." not in name
    }
