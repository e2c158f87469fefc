"""The translator of examples/mechanisms learns, and decodes, with every mechanism alike."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from tests.test_docs import run_page

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "mechanisms"
NAMES = (
    *("plain", "additive", "MLP", "entmax", "sparsemax", "sparsemax, soft start", "sigmoid"),
    *("sigmoid, norm", "softpick", "differential", "linear", "uniform"),
)


@pytest.fixture(scope="module")
def example():
    """The example's module, imported as a script there would import it."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("translator")
        for name in {"translator", "programs"} - before:
            patch.delitem(sys.modules, name, raising=False)


@pytest.fixture(scope="module")
def data(example):
    return example.load_data()


def test_no_held_out_source_is_trained_on(data):
    def sources(part):
        return {tuple(one["input_ids"]) for one in part}

    assert len(data.test) == len(data.targets) == 600
    assert not sources(data.test) & sources(data.train)
    assert not sources(data.dev) & (sources(data.train) | sources(data.test))


def test_every_mechanism_is_listed(example):
    assert tuple(example.MECHANISMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_some_steps_of_training_lower_the_loss(example, data, name):
    model = example.Translator(example.MECHANISMS[name], len(data.tokenizer))
    pairs = data.train[:24]
    before = example.perplexity(model, pairs, 0)
    example.train(model, pairs, 0, rate=0.01, steps=8, seed=0)
    after = example.perplexity(model, pairs, 0)
    assert after < 0.6 * before
    # The mean of everything has no use for queries and keys; softmax has none for keys' biases.
    idle = (".q.", ".k.", "cross_block.norm.") if name == "uniform" else (".k.bias",)
    for parameter, learned in model.named_parameters():
        if not any(part in parameter for part in idle):
            assert learned.grad is not None and learned.grad.any(), parameter


@pytest.mark.parametrize("name", NAMES)
def test_word_by_word_it_writes_what_it_finds_likeliest(example, data, name):
    model = example.Translator(example.MECHANISMS[name], len(data.tokenizer)).eval()
    batch = example.collate(0)(data.test[:4])
    lengths = batch["attention_mask"].sum(1)
    with torch.no_grad():
        written = torch.tensor(model.translate(batch, start=0, end=-1, most=9))
        given = torch.cat([torch.zeros(4, 1, dtype=torch.long), written[:, :-1]], 1)
        logits = model.write(given, model.read(batch["input_ids"], lengths), lengths)
    assert written.shape == (4, 9)
    assert torch.equal(logits.argmax(-1), written)


def test_a_run_repeats_itself(example, data):
    def losses():
        torch.manual_seed(0)
        model = example.Translator(example.MECHANISMS["plain"], len(data.tokenizer))
        return example.train(model, data.train[:64], 0, rate=0.01, steps=4, seed=3)

    assert losses() == losses()


def test_the_page_shows_these_programs(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "mechanisms.md"
    shown = run_page(page, page.read_text(encoding="utf-8"))
    plainly = {name.lower() for name in NAMES if ", " not in name} - {"differential"}
    for name in {*plainly, "normed_sigmoid", "soft_sparsemax"}:
        assert shown[name] == getattr(example.programs, name)
    for layer in (0, 1):
        assert shown["differential"](layer, 32) == example.programs.differential(layer, 32)
    assert shown["differential"](0, 32) != shown["differential"](1, 32)
