"""Check that a model that is saved and read again says the same."""

import tempfile

import torch
from torch import nn
from transformers import PreTrainedModel

from regard.hf.check.batch import numbers
from regard.hf.check.report import Row, Worst
from regard.hf.check.subject import Subject, difference, switch

NAMES = ("saved and reloaded",)


def check_saved(subject: Subject) -> list[Row]:
    """Save the model to a folder, read it, and compare outputs.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    worst = Worst()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        expected = numbers(subject.run())
        again = _reloaded(subject, folder)
        found = numbers(again(**subject.inputs))
    for key, value in expected.items():
        worst.add(difference(found[key], value), f"output '{key}'")
    return [worst.row(name, 0.1 * subject.tolerance)]


def _reloaded(subject: Subject, folder: str) -> PreTrainedModel:
    subject.model.save_pretrained(folder)
    if subject.has_mode:
        # Here, since the files of modes stand above this folder.
        from regard.hf.files import from_pretrained

        return from_pretrained(folder)
    kind = type(subject.model)
    again = kind.from_pretrained(folder, dtype=subject.model.dtype, trust_remote_code=False)
    switch(again, subject.attention)
    nn.Module.to(again, subject.model.device)
    return again.eval()
