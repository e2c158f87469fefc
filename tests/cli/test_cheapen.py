from functools import partial

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import regard as rg
from regard.cli.cheapen import cheapen_model, read_share
from regard.hf.cheaper import run as steps
from tests.cli.alone import run_alone
from tests.hf.cheaper.tiny import WORDS, llama, prices

run = partial(run_alone, cheapen_model)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model with a tokenizer of numbers, and a text."""
    monkeypatch.setattr(steps, "price", prices)
    words = Tokenizer(
        models.WordLevel({str(at): at for at in range(WORDS)} | {"?": WORDS - 1}, "?")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path / "model")
    llama().save_pretrained(tmp_path / "model")
    drawn = torch.randint(1, WORDS, (2400,), generator=torch.Generator().manual_seed(0))
    (tmp_path / "text.txt").write_text(" ".join(map(str, drawn.tolist())))
    return tmp_path


def test_a_folder_becomes_a_cheaper_one(folder):
    found = run(
        folder / "model", "--texts", folder / "text.txt", "--tokens", "96", "--loss", "50%",
        "--minutes", "0", "--out", folder / "out",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "within the stated" in found.stdout or "no gain" in found.stdout
    assert "texts held out:" in found.stdout
    model = rg.hf.from_pretrained(folder / "out" / "model")
    assert model.regard_mode.name == "cheaper"
    assert (folder / "out" / "model" / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--loss", "many"), "--loss many: write a share"),
        (("--loss", "100%"), "--loss 100%: write a share"),
        (("--texts", "none.txt"), "none.txt: No such file"),
        (("--held-out", "none.txt"), "none.txt: No such file"),
        (("--tokens", "4"), "at least 8 tokens"),
    ],
)
def test_wrong_use_is_said(folder, options, said):
    given = {"--texts": folder / "text.txt", "--out": folder / "out"}
    given |= dict([options])
    with pytest.raises(rg.RegardError, match=said):
        run(folder / "model", *(word for pair in given.items() for word in pair))
    assert not (folder / "out" / "report.json").exists()


def test_what_is_no_model_is_said(folder):
    with pytest.raises(rg.FileError, match=r"no config\.json; give the folder of a trained model"):
        run(folder, "--texts", folder / "text.txt", "--out", folder / "out")
    (folder / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(rg.FileError, match="the tokenizer does not load"):
        run(folder / "model", "--texts", folder / "text.txt", "--out", folder / "out")
    (folder / "text.txt").write_bytes(b"\xff")
    with pytest.raises(rg.FileError, match="byte 0 is not text in UTF-8"):
        run(folder / "model", "--texts", folder / "text.txt", "--out", folder / "out")


def test_shares_are_read():
    assert read_share("1%") == read_share("0.01") == 0.01
