"""Terms of the loss from attention: their values and gradients by hand, in training, resumed."""

import json
import signal

import pytest
import torch

from regard import hf
from regard.data.record import Record
from regard.errors import InputError
from regard.learners import learner_class
from regard.learners.guides import GUIDES, GuidedCollate
from regard.learners.tokenizer import train_tokenizer
from regard.modes import Mode
from regard.tasks import load_task
from regard.train import train
from regard.train.folder import RunFolder
from regard.train.model import build_model, load_learner, save_model
from regard.train.record import LogFile
from regard.train.regularise import Regularisers, token_classes
from tests.learners.test_labels import MODEL, TRAINING, make, sentences
from tests.nn import programs as p
from tests.train.tiny import WORDS, assert_same_weights, make_task

PAIRS = (("one two green sun", "un deux"), ("blue", "bleu bleu ! bleu"), ("sun .", "soleil"))


@pytest.fixture
def learned(tmp_path):
    """A learner of translations, its untrained model and a batch with padding."""

    def build(*terms, **model):
        task = make_task(
            tmp_path,
            attention={"regularise": list(terms)},
            model={"layers": 2, "dropout": 0.0, **model},
        )
        words = [*WORDS, *WORDS.values(), "!", "."]
        learner = learner_class(task)(task, train_tokenizer(words, 60))
        rows = [
            Record({"source": a, "target": b, "alignment": None}, "f", n)
            for n, (a, b) in enumerate(PAIRS)
        ]
        made = build_model(learner)
        with torch.no_grad():
            for name, weight in made.named_parameters():
                # Large enough that weights differ, and small enough that none is all.
                if "q_proj.weight" in name or "k_proj.weight" in name:
                    weight.mul_(20)
        return learner, made, GuidedCollate(learner.collate)(learner.encode(rows))

    return build


def called(batch):
    return {name: value for name, value in batch.items() if name not in ("labels", GUIDES)}


def penalty(learner, model, batch):
    """The terms alone, through what is observed."""
    with Regularisers(learner, model).watch(batch) as seen:
        model(**called(batch))
    return seen.add(torch.zeros(()))


def dense(model, batch, role):
    """The weights of each layer by the model's own eager attention, with their graph."""
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    names = {"encoder": "encoder_attentions", "decoder": "decoder_attentions"}
    found = model(**called(batch), output_attentions=True)
    model.set_attn_implementation(own)
    return found[names.get(role, "cross_attentions")]


def gradients(value, model):
    model.zero_grad()
    value.backward()
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def assert_same(model, ours, by_hand):
    torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-6)
    found, wanted = gradients(ours, model), gradients(by_hand, model)
    assert any(one.abs().max() > 1e-4 for one in wanted.values())
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=2e-3, atol=2e-5, msg=name)


def statistic(weights, name, batch, role):
    if name == "entropy":
        return -(weights * weights.clamp_min(1e-30).log()).sum(-1)
    apart = (torch.arange(weights.shape[2])[:, None] - torch.arange(weights.shape[3])).abs()
    if name == "distance":
        return (weights * apart).sum(-1)
    if name == "near":
        return (weights * (apart <= 1)).sum(-1)
    keys = batch["decoder_input_ids" if role == "decoder" else "input_ids"]
    meant = {
        "first": torch.arange(keys.shape[1]).expand_as(keys) == 0,
        "special": keys < 3,
    }[name]
    return (weights * meant[:, None, None]).sum(-1)


def chosen(learner, batch, role, name, layers, heads, weights):
    """The mean over query rows that are there, by hand."""
    pick = [weights[layer][:, heads] for layer in layers]
    rows = batch["attention_mask"] == 1 if role == "encoder" else batch["labels"] != -100
    values = [statistic(one, name, batch, role).transpose(1, 2)[rows] for one in pick]
    return torch.stack(values)


@pytest.mark.parametrize("role", ["encoder", "decoder", "cross"])
@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("entropy", {"term": "entropy"}), ("distance", {"term": "distance"}),
        ("first", {"term": "mass", "tokens": "first"}),
        ("special", {"term": "mass", "tokens": "special"}),
        ("near", {"term": "mass", "within": 1}),
    ],
)  # fmt: skip
def test_terms_are_means_of_dense_weights_and_so_are_their_gradients(learned, role, name, term):
    learner, model, batch = learned({**term, "role": role, "goal": "minimise", "weight": 0.5})
    weights = dense(model, batch, role)
    by_hand = 0.5 * chosen(learner, batch, role, name, (0, 1), [0, 1], weights).mean()
    assert_same(model, penalty(learner, model, batch), by_hand)


@pytest.mark.parametrize("goal", ["maximise", 0.7])
def test_goals_layers_and_heads(learned, goal):
    learner, model, batch = learned(
        {"term": "entropy", "role": "cross", "goal": goal, "layers": -1, "heads": [1]}
    )
    found = chosen(learner, batch, "cross", "entropy", (1,), [1], dense(model, batch, "cross"))
    by_hand = -found.mean() if goal == "maximise" else (found - goal).square().mean()
    assert_same(model, penalty(learner, model, batch), 0.01 * by_hand)


def test_agreement_with_an_alignment_is_the_cross_entropy_of_the_rows_it_tells_of(learned):
    learner, model, batch = learned({"term": "agreement", "weight": 1.0})
    guide = torch.zeros(3, batch["labels"].shape[1], batch["input_ids"].shape[1])
    guide[0, 1, 2] = 1.0
    guide[1, 2, :2] = 0.5
    batch[GUIDES] = {"alignment": guide}
    by_hand = torch.zeros(())
    for weights in dense(model, batch, "cross"):
        one = -weights[0, :, 1, 2].log().mean()
        two = -(weights[1, :, 2, 0].log() + weights[1, :, 2, 1].log()).mean() / 2
        by_hand = by_hand + (one + two) / 2 / 2
    assert_same(model, penalty(learner, model, batch), by_hand)


def test_agreement_with_nothing_is_nothing(learned):
    learner, model, batch = learned({"term": "agreement"})
    shape = (3, batch["labels"].shape[1], batch["input_ids"].shape[1])
    batch[GUIDES] = {"alignment": torch.zeros(shape)}
    value = penalty(learner, model, batch)
    assert value.item() == 0
    assert all(not one.any() for one in gradients(value, model).values())


def colours(folder, **parts):
    """Texts whose rationale is their colour."""
    rows = [
        {"text": " ".join(words), "label": colour, "rationale": [words.index(colour)]}
        for words, colour in sentences()
    ]
    return make(folder, "classification", rows, **parts)


@pytest.mark.parametrize("other", ["a", "a red sky is"])
def test_agreement_with_a_rationale_is_about_what_words_receive(tmp_path, other):
    task = colours(tmp_path, attention={"regularise": [{"term": "agreement", "weight": 1.0}]})
    learner = learner_class(task)(task, train_tokenizer(["the apple is red", "a sky"], 60), ["r"])
    model = build_model(learner).train()
    # One of another length, so that there are queries which are padding.
    texts = ("the apple is red", other)
    rows = [Record({"text": text, "label": "r"}, "f", n) for n, text in enumerate(texts)]
    batch = learner.collate(learner.encode(rows))
    guide = torch.zeros(2, 1, batch["input_ids"].shape[1])
    guide[0, 0, 1], guide[0, 0, 2], guide[1, 0, 0] = 0.25, 0.75, 1.0
    batch[GUIDES] = {"rationale": guide}
    model.set_attn_implementation("eager")
    (weights,) = model.encoder(**called(batch), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    there = batch["attention_mask"].sum(1)
    assert (there[0] > there[1]) == (other == "a")
    got = torch.stack([w[:, :n].mean(1) for w, n in zip(weights, there, strict=True)])
    first = -(0.25 * got[0, :, 1].log() + 0.75 * got[0, :, 2].log())
    by_hand = torch.stack([first, -got[1, :, 0].log()]).mean()
    assert_same(model, penalty(learner, model, batch), by_hand)


def test_terms_are_told_apart_and_averaged_over_steps(learned):
    learner, model, batch = learned(
        {"term": "entropy", "role": "encoder", "goal": "minimise", "weight": 2.0},
        {"term": "entropy", "role": "decoder", "goal": "minimise", "weight": 3.0, "name": "own"},
    )
    terms = Regularisers(learner, model)
    totals = []
    # Two steps, each of a batch in two parts.
    for loss in (1.0, 2.0, 3.0, 4.0):
        with terms.watch(batch, share=0.5) as seen:
            model(**called(batch))
        totals.append(seen.add(torch.tensor(loss)).item())
    found = terms.means()
    assert found.keys() == {"loss", "attention_entropy", "attention_own"}
    assert found["loss"] == 5.0
    extra = 2 * found["attention_entropy"] + 3 * found["attention_own"]
    assert sum(totals) == pytest.approx(2 * (found["loss"] + extra))
    assert found["attention_entropy"] != pytest.approx(found["attention_own"])
    assert terms.means() == {}


def test_passes_of_one_batch_are_averaged(learned):
    learner, model, batch = learned({"term": "distance", "role": "encoder", "goal": "minimise"})
    once = penalty(learner, model, batch)
    with Regularisers(learner, model).watch(batch) as seen:
        model(**called(batch))
        model(**called(batch))
    torch.testing.assert_close(seen.add(torch.zeros(())), once)


def test_programs_learn_from_terms(learned):
    learner, model, batch = learned({"term": "distance", "role": "encoder", "goal": "minimise"})
    hf.apply(model, Mode("near", "", encoder=p.alibi))
    found = gradients(penalty(learner, model, batch), model)
    slopes = [one for name, one in found.items() if ".regard." in name]
    assert slopes and all(one.abs().max() > 0 for one in slopes)


def test_classes_of_tokens():
    tokenizer = train_tokenizer(["one , two .", "a- b"], 60)
    classes = token_classes(tokenizer)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    of = {kind: {name for name, is_one in zip(names, found, strict=True) if is_one}
          for kind, found in classes.items()}  # fmt: skip
    assert of["special"] == {"<pad>", "</s>", "<unk>"}
    assert {",", ".", "-"} <= of["punctuation"]
    assert not any(letter.isalnum() for name in of["punctuation"] for letter in name)


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"term": "entropy", "goal": "minimise"},
         r"^attention\.regularise\.0 \(entropy\): the model has attention of roles cross, decoder, "
         "encoder; name one$"),
        ({"term": "entropy", "goal": "minimise", "role": "vision"},
         r"^attention\.regularise\.0 \(entropy\): the model has no attention of role 'vision'"),
    ],
)  # fmt: skip
def test_terms_that_a_model_has_not_are_refused(learned, term, said):
    learner, model, _ = learned()
    task = learner.task.model_copy(update={"attention": make_terms(learner.task, term)})
    with pytest.raises(InputError, match=said):
        Regularisers(learner_class(task)(task, learner.tokenizer), model)


def make_terms(task, *terms):
    return type(task.attention).model_validate({"regularise": list(terms)})


def test_program_without_what_is_observed_is_refused(learned):
    learner, model, _ = learned({"term": "entropy", "role": "encoder", "goal": "minimise"})
    hf.apply(model, Mode("counting", "", encoder=p.counting))
    with pytest.raises(InputError, match=r"^attention\.regularise\.0 \(entropy\): 'entropy' belo"):
        Regularisers(learner, model)


TERMS = [
    {"term": "agreement", "weight": 0.5},
    {"term": "entropy", "goal": 0.5, "heads": [0], "weight": 0.1},
]


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guided")
    training = {**TRAINING, "steps": 30, "save_every": 10, "eval_every": 10}
    task = colours(folder, training=training, attention={"regularise": TERMS, "log": True})
    return task, train(task, folder / "run", progress=False)


def log_of(folder):
    lines = [json.loads(line) for line in RunFolder(folder).log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_attention_goes_where_it_is_told_and_the_loss_is_the_tasks_own(guided, tmp_path):
    task, told = guided
    plain = train(
        task.model_copy(update={"attention": type(task.attention)()}), tmp_path / "run",
        progress=False,
    )  # fmt: skip
    log = [line for line in log_of(told.folder) if "loss" in line]
    assert log[-1]["attention_agreement"] < 0.1 < log[0]["attention_agreement"]
    assert log[-1]["loss"] < 0.1
    assert "attention_agreement" not in log_of(plain.folder)[-1]

    def mass(folder):
        learner, model = load_learner(folder)
        text = "the apple is red"
        ids = learner.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad(), hf.observe(model, ["received"]) as seen:
            model(ids)
        # "red" is the last word, and the end of the text stands behind it.
        return (seen["received"][0][0, :, -2] / ids.shape[1]).mean().item()

    assert mass(told.folder) > 0.9 > mass(plain.folder)


def test_run_with_terms_goes_on_as_if_it_had_not_been_stopped(guided, tmp_path, monkeypatch):
    task, whole = guided

    def on_step_begin(_, args, state, control, **__):
        if state.global_step == 14:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    assert not train(task, tmp_path / "run", progress=False).finished
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(whole.folder, tmp_path / "run")
    log, wanted = log_of(tmp_path / "run"), log_of(whole.folder)
    # A line more was asked for when the run stopped.
    assert [line for line in log if line["step"] == 30] == [
        line for line in wanted if line["step"] == 30
    ]
    csv = [RunFolder(folder).heads.read_text() for folder in (whole.folder, tmp_path / "run")]
    assert csv[0] == csv[1]


def test_run_that_died_has_the_log_of_one_that_did_not(guided, tmp_path, monkeypatch):
    task, whole = guided

    def on_step_begin(_, args, state, control, **__):
        if state.global_step == 18:
            monkeypatch.undo()
            raise OSError("no space left")

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    with pytest.raises(OSError, match="no space left"):
        train(task, tmp_path / "run", progress=False)
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(whole.folder, tmp_path / "run")
    assert log_of(tmp_path / "run") == log_of(whole.folder)
    csv = [RunFolder(folder).heads.read_text() for folder in (whole.folder, tmp_path / "run")]
    assert csv[0] == csv[1]


def test_head_that_a_pretrained_model_lacks_is_named_before_it_is_trained(guided, tmp_path):
    task, _ = guided
    learner = learner_class(task)(task, train_tokenizer(["red green blue"], 40), ["x", "y", "z"])
    save_model(build_model(learner), learner.tokenizer, tmp_path / "model")
    own = {name: MODEL[name] for name in ("positions", "dropout")}
    term = {"term": "entropy", "goal": "minimise", "heads": [2]}
    other = colours(
        tmp_path, model={"pretrained": str(tmp_path / "model"), **own},
        attention={"regularise": [term]},
    )  # fmt: skip
    assert load_task(tmp_path / "task.yaml") == other
    with pytest.raises(
        InputError,
        match=r"^attention\.regularise\.0 \(entropy\): encoder\..*: heads: there is no 2; there "
        "are 2, from 0$",
    ):
        Regularisers(learner_class(other)(other, learner.tokenizer), build_model(learner))
