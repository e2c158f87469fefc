"""What a run is continued from: looked at before any of it is used, written whole or said why not.

Nothing in a checkpoint is run: torch reads its files as weights alone, which pickles of anything
else are not. Leaves to others: which checkpoint (`folder`), reading and writing it (transformers).
"""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals

from regard.errors import FileError, RegardError
from regard.train.lines import read_object

WEIGHTS, STATE = "model.safetensors", "trainer_state.json"
# Of so many weights that they lie in several files.
INDEX = "model.safetensors.index.json"
_PICKLED = ("optimizer.pt", "scheduler.pt")
# One for each process.
_RANDOM = "rng_state*.pth"
_MEND = "; delete this checkpoint, and the run goes on from the one before or begins anew"


def check_checkpoint(checkpoint: Path, steps: int | None) -> None:
    """Check that a checkpoint is whole and of its step; its tensors are not read yet.

    Args:
        checkpoint: Its folder, checkpoint-STEP.
        steps: How many the run is asked for; None: that is not known.

    Raises:
        FileError: If a file is missing, cut off, holds what could be code, or is of another step.
    """
    found = sorted(checkpoint.glob(_RANDOM))
    weights = checkpoint / (INDEX if (checkpoint / INDEX).is_file() else WEIGHTS)
    for path in (weights, *(checkpoint / name for name in _PICKLED), checkpoint / STATE):
        if not path.is_file():
            raise FileError(f"{checkpoint}: there is no {path.name}{_MEND}")
    if not found:
        raise FileError(f"{checkpoint}: there is no {_RANDOM.replace('*', '')}{_MEND}")
    if weights.name == WEIGHTS:
        with loading(weights), safe_open(weights, framework="pt"):
            pass
    for path in (*(checkpoint / name for name in _PICKLED), *found):
        if not zipfile.is_zipfile(path):
            raise FileError(f"{path}: it was cut off, or torch did not write it{_MEND}")
        with loading(path), safe_globals():
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    _check_state(checkpoint, steps)


def _check_state(checkpoint: Path, steps: int | None) -> None:
    path, step = checkpoint / STATE, int(checkpoint.name.rpartition("-")[2])
    with loading(path):
        found = read_object(path, _MEND.removeprefix("; "))
    known = {field.name for field in fields(TrainerState)}
    if strange := sorted(found.keys() - known):
        raise FileError(f"{path}: '{strange[0]}' is of another version of transformers{_MEND}")
    if found.get("global_step") != step:
        told = found.get("global_step")
        raise FileError(f"{path}: global_step is {told}, but this is that of step {step}{_MEND}")
    if steps is not None and step > steps:
        raise FileError(f"{checkpoint}: the run is asked for {steps} steps{_MEND}")


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Say what is wrong with a checkpoint in our words; other libraries share no class of errors.

    Args:
        path: The checkpoint, or the file of it that is read.

    Yields:
        Nothing.

    Raises:
        FileError: In the place of any error.
    """
    try:
        yield
    except RegardError as problem:
        text = str(problem)
        raise FileError(text if text.endswith(_MEND) else f"{text}{_MEND}") from None
    except pickle.UnpicklingError:
        raise FileError(
            f"{path}: it holds more than numbers, which could be code and is not read{_MEND}"
        ) from None
    except Exception as problem:
        told = (str(problem) or type(problem).__name__).splitlines()[0].rstrip(".:")
        raise FileError(f"{path}: it cannot be read ({told}){_MEND}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say that something could not be written, and that the run can go on.

    Args:
        path: What is written.

    Yields:
        Nothing.

    Raises:
        FileError: In the place of errors of the system, and of what writes tensors.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as problem:
        # torch's error of a full disk is of no class of its own.
        if isinstance(problem, RuntimeError) and "writ" not in str(problem):
            raise
        told = getattr(problem, "strerror", None) or str(problem).splitlines()[0]
        raise FileError(
            f"{path}: it cannot be written ({told}); make room or choose another disk, and go on "
            "with --resume"
        ) from problem


def check_names(model: nn.Module, missing: list[str], surplus: list[str], checkpoint: Path) -> None:
    """Check that a checkpoint had all the weights of a model, and no others.

    Args:
        model: The model, which has taken them.
        missing: Names that the checkpoint did not have; of weights that are shared it has one, and
            none of those that are computed.
        surplus: Names that the model does not have.
        checkpoint: Its folder.

    Raises:
        FileError: If it had not.
    """
    state = model.state_dict()
    given = {tensor.data_ptr() for name, tensor in state.items() if name not in missing}
    computed = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    lost = sorted(name for name in {*missing} - computed if state[name].data_ptr() not in given)
    for name, told in [*((one, "lacks") for one in lost), *((one, "also has") for one in surplus)]:
        raise FileError(f"{checkpoint}: it is of another model: it {told} {name}{_MEND}")


def check_numbers(model: nn.Module, checkpoint: Path) -> None:
    """Check that weights are numbers.

    Args:
        model: The model, which has taken them.
        checkpoint: Where from.

    Raises:
        FileError: If one is NaN or infinite: the run had diverged by then.
    """
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise FileError(f"{checkpoint}: {name} holds NaN or infinity{_MEND}")


def check_optimiser(optimiser: Optimizer, checkpoint: Path) -> None:
    """Check that what an optimiser remembers of each weight has a shape that fits it.

    Args:
        optimiser: The optimiser, which has taken the checkpoint's state.
        checkpoint: Where from.

    Raises:
        FileError: If it has another.
    """
    for weight, state in optimiser.state.items():
        shape = tuple(weight.shape)
        # Adafactor remembers the means of rows and of columns.
        fitting = {(), shape, shape[:-1], (*shape[:-2], *shape[-1:])}
        for name, value in dict[str, Any](state).items():
            if isinstance(value, Tensor) and tuple(value.shape) not in fitting:
                raise FileError(
                    f"{checkpoint}: optimizer.pt is of another model: its {name} of a weight of "
                    f"shape {shape} has shape {tuple(value.shape)}{_MEND}"
                )
