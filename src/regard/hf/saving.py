"""`save_pretrained` of a re-programmed model: its mode beside the weights, and a model card.

transformers itself saves models, as Trainer's checkpoints and on the way to a hub, so its own
method has to know of modes: it is extended once, for all models, and does for others what it did.
Copies, pickles and unwrapped models need nothing of their own. Leaves to others: the words of the
card (`card`), loading (`files`).
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from regard.errors import FileError, InputError
from regard.hf.card import remove_section, repository_name, write_card
from regard.ir.files import read_json, write_text
from regard.modes.mode import Mode, save_mode
from regard.nn.programmed import Programmed

MODE_FILE, CARD_FILE, CONFIG_FILE = "mode.json", "README.md", "config.json"
# In config.json, in the place of an attention's name: transformers refuses names it does not know,
# so that nobody loads a re-programmed model without its mode and does not notice.
GUARD = "regard.hf.from_pretrained"
# The key of config.json that says which mode the weights belong to.
MARK = "regard_mode"


def register() -> None:
    """Extend transformers' methods that write models; a second time changes nothing."""
    for name, extend in (
        ("save_pretrained", _extend_saving),
        ("_upload_modified_files", _extend_upload),
    ):
        method = getattr(PreTrainedModel, name)
        if not hasattr(method, "knows_modes"):
            extended = extend(method)
            extended.knows_modes = True
            setattr(PreTrainedModel, name, extended)


def _extend_saving(method: Callable) -> Any:
    @functools.wraps(method)
    def save_pretrained(
        self: PreTrainedModel,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        folder = Path(save_directory)
        mode = _mode_to_save(self)
        # With an adapter of PEFT loaded, transformers writes the adapter alone.
        whole = is_main_process and not getattr(self, "_hf_peft_config_loaded", False)
        if mode is not None and whole:
            # Before the weights: of a mode that cannot be written one hears at once.
            _write_mode(self, mode, folder)
        method(self, save_directory, is_main_process, *args, **kwargs)
        if whole and mode is not None:
            _mark_config(self, mode, folder)
        elif whole:
            _remove_mode(folder)

    return save_pretrained


def _extend_upload(method: Callable) -> Any:
    @functools.wraps(method)
    def _upload_modified_files(
        self: PreTrainedModel,
        working_dir: str | os.PathLike,
        repo_id: str,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        mode = getattr(self, "regard_mode", None)
        if mode is not None:
            # transformers put a card of its own, or the hub's, over the one that was saved.
            _write_mode(self, mode, Path(working_dir), repository=repo_id)
            _mark_config(self, mode, Path(working_dir))
        return method(self, working_dir, repo_id, *args, **kwargs)

    return _upload_modified_files


def _mode_to_save(model: PreTrainedModel) -> Mode | None:
    """Return the mode of a model, and refuse models that hold one in a part alone."""
    mode = getattr(model, "regard_mode", None)
    if mode is not None:
        return mode
    for path, module in model.named_modules():
        part = getattr(module, "regard_mode", None)
        if isinstance(part, Mode):
            raise InputError(
                f"mode '{part.name}' was applied to '{path}', a part of this model, and would be "
                f"lost; apply it to the whole {type(model).__name__}, or save the part alone"
            )
        if isinstance(getattr(module, "regard", None), Programmed):
            raise InputError(
                f"this {type(model).__name__} is a part of a re-programmed model, whose mode would "
                "be lost; save the whole model: rg.hf.from_pretrained(folder, "
                f"{type(model).__name__}) reads the part from it"
            )
    return None


def _write_mode(
    model: PreTrainedModel, mode: Mode, folder: Path, repository: str | None = None
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise FileError(f"{folder}: {problem.strerror}; a model is saved in a folder") from None
    write_card(folder / CARD_FILE, mode, base_model=_base_model(model), repository=repository)
    save_mode(mode, folder / MODE_FILE)


def _base_model(model: PreTrainedModel) -> str | None:
    """Return the repository of a hub that the model came from, also by way of a folder."""
    named = getattr(model, "regard_base", None) or getattr(model.config, "name_or_path", None)
    return repository_name(named)


def _mark_config(model: PreTrainedModel, mode: Mode, folder: Path) -> None:
    """Say in config.json which mode the weights need."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return
    value = json.loads(path.read_text(encoding="utf-8"))
    mark = {"hash": f"sha256:{mode.hash}"}
    if (base := _base_model(model)) is not None:
        mark["base_model"] = base
    value |= {"attn_implementation": GUARD, MARK: mark}
    write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", path)


def _remove_mode(folder: Path) -> None:
    """Remove the mode that another model left in a folder, which this one does not have."""
    path = folder / MODE_FILE
    try:
        value = read_json(path) if path.is_file() else None
    except FileError:
        return
    if isinstance(value, dict) and value.get("regard") == "mode":
        path.unlink()
        remove_section(folder / CARD_FILE)


register()
