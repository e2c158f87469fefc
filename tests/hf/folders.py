"""Folders that hold a re-programmed model, and ways to make them lie."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard import hf
from regard.errors import FileError
from regard.modes import save_mode
from tests.hf.models import EVERYWHERE, WORDS, marian, padded

NEXT = torch.randint(2, WORDS, (3, 6), generator=torch.Generator().manual_seed(1))


def logits(model):
    with torch.no_grad():
        return model(**padded(), decoder_input_ids=NEXT).logits


def trained(mode=EVERYWHERE, **changes):
    """A programmed model whose learned parameters left their initial values."""
    model = hf.apply(marian(**changes), mode)
    with torch.no_grad():
        for parameter in model.parameters():
            # Marian's table of positions is computed, not learned, and never saved.
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def assert_same(one, other):
    """Check that two models have the same names, types and bits, and compute the same bits."""
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert tensor.dtype == states[1][name].dtype, name
        assert torch.equal(tensor, states[1][name]), name
    assert torch.equal(logits(one), logits(other))


def complaint(folder, *args, **options):
    with pytest.raises(FileError) as error:
        hf.from_pretrained(folder, *args, **options)
    return str(error.value).replace(str(folder), "FOLDER")


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def reweigh(path, change):
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def put_mode(folder, mode):
    """Put another mode into a folder so well that config.json speaks of it too."""
    save_mode(mode, folder / "mode.json")
    mark = {"hash": f"sha256:{mode.hash}"}
    rewrite(folder / "config.json", lambda value: value.update(regard_mode=mark))
