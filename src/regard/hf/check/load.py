"""The model that a reference means: a folder, or a small one of a class or a model type.

Leaves to others: small models (`tiny`), folders that hold a mode (`files`). Runs no code of a
folder.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from regard.errors import FileError, RegardError
from regard.hf.check.subject import EAGER
from regard.hf.check.tiny import enlarge, find_model_class, tiny_model
from regard.hf.quiet import quiet


def find_model(reference: str) -> PreTrainedModel:
    """Return the model a person means.

    Args:
        reference: A folder with config.json, and with weights or without; a model class such as
            "LlamaForCausalLM"; or a model type such as "llama". Of a class or type the model is
            small, and of a folder without weights as large as it says; their weights are random.

    Returns:
        The model in evaluation mode, in float32; re-programmed if the folder holds a mode.

    Raises:
        FileError: If the folder holds no model that can be read.
        InputError: If transformers has no such class or type.
        UnsupportedError: If no small model of it can be made.
    """
    folder = Path(reference)
    if not folder.is_dir():
        return tiny_model(reference)
    if not (folder / "config.json").is_file():
        raise FileError(f"{folder}: no config.json; a model's folder holds one")
    if (folder / "mode.json").is_file():
        # Here, since the files of modes stand above this folder.
        from regard.hf.files import from_pretrained

        return from_pretrained(folder)
    try:
        with quiet():
            return _read(folder)
    except RegardError:
        raise
    # transformers and what it reads files with share no class of errors.
    except Exception as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise FileError(f"{folder}: the model does not load: {first}") from None


def _read(folder: Path) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind: Any = _class_of(folder, config)
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            raise FileError(
                f"{folder}: its weights are pickled, which may run code; save them as safetensors"
            )
        # A file may name a kernel of a hub, which is code.
        config._attn_implementation = EAGER
        model = kind(config).float()
        enlarge(model)
        return model.eval()
    model, told = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=EAGER, use_safetensors=True,
        trust_remote_code=False, output_loading_info=True,
    )  # fmt: skip
    lost = sorted([*told["missing_keys"], *(entry[0] for entry in told["mismatched_keys"])])
    if lost:
        raise FileError(
            f"{folder}: the weights do not fit config.json: {len(lost)} are missing or of another "
            f"shape, such as {lost[0]}"
        )
    return model.eval()


def _class_of(folder: Path, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class that config.json names, or the one of its model type."""
    names = config.architectures or []
    found = getattr(transformers, names[0], None) if names else find_model_class(config.model_type)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise FileError(
            f"{folder}: architectures names {names}, which transformers does not have as a model"
        )
    return found
