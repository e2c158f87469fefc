"""Language modelling: blocks, what is hidden, what is scored, and a model that learns on."""

import math

import pytest
import torch
import torch.nn.functional as F

from regard.data.record import Record
from regard.errors import FileError, TaskError
from regard.learners import learner_class
from regard.learners.batches import IGNORED
from regard.learners.tokenizer import train_byte_tokenizer
from regard.train import load_model, train
from regard.train.model import build_model
from tests.learners.toys import toy

TEXTS = ["the sky is blue", "no sea", "Ünïcode — 漢字\n\tand\x00 more"]


def rows(texts):
    return [Record({"text": text}, "some.txt", line) for line, text in enumerate(texts, 1)]


def learner_of(folder, name, **model):
    task = toy(folder, name, model={"positions": 8, **model})
    kind = learner_class(task)
    return kind(task, kind.make_tokenizer(task, TEXTS))


@pytest.fixture
def causal(tmp_path):
    return learner_of(tmp_path, "causal")


@pytest.fixture
def masked(tmp_path):
    return learner_of(tmp_path, "masked")


@pytest.mark.parametrize("text", [*TEXTS, "never seen: żółw 🐢", " blanks  around ", "é e\u0301"])
def test_every_byte_has_its_token(causal, text):
    (ids,) = causal.ids_of(rows([text]))
    assert causal.tokenizer.decode(ids) == text


def test_blocks_are_one_stream_with_an_end_after_each_text(causal):
    ids = causal.ids_of(rows(TEXTS))
    stream = [causal.end]
    for one in ids:
        stream += [*one, causal.end]
    blocks = causal.encode(rows(TEXTS))
    assert [token for one in blocks for token in one["input_ids"]] == stream[:-1]
    assert [token for one in blocks for token in one["labels"]] == stream[1:]
    assert {len(one["input_ids"]) for one in blocks[:-1]} == {8}
    assert all(len(one["input_ids"]) == len(one["labels"]) for one in blocks)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 12, 13, 40])
def test_windows_score_each_token_once_after_at_least_half_a_window(causal, size):
    ids = [5 + k for k in range(size)]
    wanted, found = [*ids, causal.end], []
    for one in causal.scored(ids):
        assert len(one["input_ids"]) == len(one["labels"]) <= 8
        first = next(k for k, label in enumerate(one["labels"]) if label != IGNORED)
        assert first >= 4 or not found
        found += one["labels"][first:]
    assert found == wanted


def test_short_text_costs_what_one_pass_says(causal):
    model = build_model(causal).eval()
    (ids,) = causal.ids_of(rows(["no"]))
    read = torch.tensor([[causal.end, *ids]])
    with torch.no_grad():
        logits = model(read).logits[0]
    wanted = F.cross_entropy(logits, torch.tensor([*ids, causal.end]), reduction="sum").item()
    found = causal.answer(model, rows(["no", TEXTS[0] * 3]))
    assert found[0]["loss"] == pytest.approx(wanted, rel=1e-5)
    assert found[0]["tokens"] == len(ids) + 1
    assert causal.answer(model, []) == []


@pytest.mark.parametrize("size", [0, 1, 5, 8, 20])
def test_each_token_is_hidden_once_and_the_others_are_shown(masked, size):
    ids = [10 + k for k in range(size)]
    seen = []
    for one in masked.scored(ids):
        hidden = [k for k, label in enumerate(one["labels"]) if label != IGNORED]
        assert 1 <= len(hidden) <= math.ceil(0.15 * 8)
        for place, token in enumerate(one["input_ids"]):
            assert (token == masked.tokenizer.mask_token_id) == (place in hidden)
        seen += [one["labels"][k] for k in hidden]
    assert sorted(seen) == ids


def test_noise_is_that_of_its_seed(masked):
    long = {"input_ids": list(range(10, 210)), "labels": list(range(10, 210))}
    one, again, other = (masked.vary(long, seed) for seed in ("0 1 2", "0 1 2", "0 2 2"))
    assert one == again != other
    hidden = [k for k, label in enumerate(one["labels"]) if label != IGNORED]
    assert len(hidden) == 30 and all(one["labels"][k] == long["labels"][k] for k in hidden)
    masks = sum(token == masked.tokenizer.mask_token_id for token in one["input_ids"])
    assert 15 <= masks < 30
    untouched = set(range(200)) - set(hidden)
    assert all(one["input_ids"][k] == long["input_ids"][k] for k in untouched)


def test_marks_of_a_pretrained_encoder_are_never_asked_for(masked):
    masked.tokenizer.add_special_tokens({"cls_token": "<cls>", "sep_token": "<sep>"})
    (before,), (after,) = masked.frame
    for one in [*masked.scored(list(range(10, 30))), *masked.encode(rows(TEXTS))]:
        assert one["input_ids"][0] == before and one["input_ids"][-1] == after
        assert one["labels"][0] == one["labels"][-1] == IGNORED
        assert len(one["input_ids"]) <= 8


def test_baseline_is_the_frequency_of_each_token(causal):
    trained = rows(["ab", "a"])
    (a,), (b,) = causal.ids_of(rows(["a", "b"]))
    found = causal.baseline(trained, rows(["a"]))
    words, size = len(causal.tokenizer), len(causal.ids_of(trained)[0]) + 3
    counts = {a: sum(a in ids for ids in causal.ids_of(trained)), causal.end: 2}
    wanted = sum(math.log(size + words) - math.log(counts[one] + 1) for one in (a, causal.end))
    assert b != a and found == [{"loss": pytest.approx(wanted), "tokens": 2}]


@pytest.fixture(scope="module", params=["causal", "masked"])
def adapted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    task = toy(folder, request.param, training={"steps": 30, "eval_every": 0})
    return request.param, train(task, folder / "run", progress=False)


def test_model_learns_on_from_where_another_run_ended(adapted, tmp_path):
    name, first = adapted
    task = again(tmp_path, name, first.folder / "model", training={"steps": 1, "lr": 1e-9})
    second = train(task, tmp_path / "run", progress=False)
    one, other = first.metrics["test"], second.metrics["test"]
    assert other["scores"] == pytest.approx(one["scores"], rel=1e-4)
    assert other["scores"]["perplexity"] < other["baseline"]["perplexity"]


def again(folder, name, pretrained, **changes):
    """A toy that goes on with the model of a folder."""
    defaults = {"width": 128, "layers": 2, "heads": 4, "ffn": 512}
    model = {**defaults, "pretrained": str(pretrained), **changes.pop("model", {})}
    return toy(folder, name, model=model, **changes)


def test_model_that_sees_what_comes_later_cannot_predict_it(adapted, tmp_path):
    name, first = adapted
    other = "masked" if name == "causal" else "causal"
    task = again(tmp_path, name, first.folder / "model", model={"objective": other})
    wanted = (TaskError, "sees what comes later") if other == "causal" else (FileError, "no model")
    with pytest.raises(wanted[0], match=wanted[1]):
        train(task, tmp_path / "run", progress=False)


def test_model_that_reads_less_than_asked_is_refused(adapted, tmp_path):
    name, first = adapted
    task = again(tmp_path, name, first.folder / "model", model={"positions": 99})
    message = (
        r"^model\.positions is 99, but the model of .*model reads at most 24 tokens; lower it$"
    )
    with pytest.raises(TaskError, match=message):
        train(task, tmp_path / "run", progress=False)


def test_tokenizer_needs_room_for_every_byte(tmp_path):
    task = toy(tmp_path, "causal", tokenizer={"size": 258})
    with pytest.raises(TaskError, match=r"^tokenizer\.size is 258; the bytes .* need 259 or more$"):
        train(task, tmp_path / "run", progress=False)
    assert len(train_byte_tokenizer(TEXTS, 259)) == 259


def test_tokenizer_without_an_end_or_a_mask_is_refused(causal, masked, tmp_path):
    masked.tokenizer.mask_token = None
    with pytest.raises(TaskError, match="has no mask token to hide others by; set "):
        masked.build()
    causal.tokenizer.eos_token = None
    with pytest.raises(TaskError, match="has neither an end token nor a separator, which texts"):
        causal.encode(rows(TEXTS))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"objective": "casual"},
            "model.objective: should be 'causal' or 'masked', found 'casual'",
        ),
        ({"masked": 0}, "model.masked: should be greater than 0, found 0"),
        ({"maskd": 0.1}, "model.maskd is not a setting; did you mean 'masked'?"),
        ({"beams": 2}, "model.beams is not a setting"),
    ],
)
def test_setting_that_has_no_meaning_is_named(tmp_path, setting, message):
    with pytest.raises(TaskError, match=message.replace(".", r"\.").replace("?", r"\?")):
        toy(tmp_path, "causal", model=setting)


def test_saved_model_comes_back_with_tied_embeddings(adapted):
    name, first = adapted
    model, words = load_model(first.folder / "model")
    assert type(model).__name__ == ("LlamaForCausalLM" if name == "causal" else "BertForMaskedLM")
    assert words.eos_token_id == 1
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
