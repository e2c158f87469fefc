"""Several tasks with one encoder: their losses, their heads, and what a run keeps of them."""

import math

import pytest
import torch

from regard.errors import DataError, InputError, TaskError
from regard.learners import learner_class
from regard.learners.tokenizer import read_tokenizer
from regard.tasks import load_task, load_task_data
from regard.train import train
from regard.train.model import build_model
from tests.learners.joined import KINDS, joint, write_joint
from tests.learners.pretrained import pretrained
from tests.train.tiny import weights_of

NAMES = ("labels", "tags", "scores")
HARD = {"weighting": "uncertainty", "sampling": {"temperature": 2}, "training": {"accumulate": 2}}


def begun(task):
    """The learner and the model as a run finds them, and the corpus."""
    corpus = load_task_data(task)
    kind = learner_class(task)
    texts = (text for row in corpus.splits.train for text in kind.texts_of(row))
    learner = kind(task, kind.make_tokenizer(task, texts), corpus.labels)
    return learner, build_model(learner), corpus


# Losses


def batch_of(learner, corpus, name, rows=6):
    examples = learner.encode([row for row in corpus.splits.train if row.task == name][:rows])
    batch = learner.collate(examples)
    return batch, batch.pop("labels")


@pytest.mark.parametrize("name", ["labels", "tags", "scores"])
def test_uncertainty_weighs_as_the_paper_says(tmp_path, name):
    learner, model, corpus = begun(joint(tmp_path, NAMES, weighting="uncertainty"))
    place, model = learner.names.index(name), model.eval()
    batch, labels = batch_of(learner, corpus, name)
    own = learner.parts[name].loss(model.parts[place](**_without_task(batch)), labels).item()
    factor = 0.5 if name == "scores" else 1.0
    for log_variance in (0.0, -1.3, 0.7):
        with torch.no_grad():
            model.log_variances[place].fill_(log_variance)
        model.zero_grad()
        loss = learner.loss(model(**batch), labels)
        variance = math.exp(log_variance)
        assert loss.item() == pytest.approx(factor * own / variance + math.log(variance) / 2)
        loss.backward()
        slope = model.log_variances[place].grad.item()
        assert slope == pytest.approx(0.5 - factor * own / variance, abs=1e-5)
        others = [one.grad for k, one in enumerate(model.log_variances) if k != place]
        assert others == [None, None]
    # Where the slope is 0, a task's loss counts one half.
    with torch.no_grad():
        model.log_variances[place].fill_(math.log(2 * factor * own))
    model.zero_grad()
    learner.loss(model(**batch), labels).backward()
    assert model.log_variances[place].grad.item() == pytest.approx(0.0, abs=1e-5)


def _without_task(batch):
    return {name: value for name, value in batch.items() if name != "task"}


def test_given_weights_are_factors(tmp_path):
    weights = {"labels": 2.0, "tags": 0.25}
    learner, model, corpus = begun(joint(tmp_path, weighting=weights))
    assert not len(model.log_variances)
    for place, (name, weight) in enumerate(weights.items()):
        batch, labels = batch_of(learner, corpus, name)
        model.eval()
        own = learner.parts[name].loss(model.parts[place](**_without_task(batch)), labels)
        assert learner.loss(model(**batch), labels).item() == pytest.approx(weight * own.item())


@pytest.mark.parametrize("name", ["labels", "tags", "scores"])
def test_parts_of_an_update_add_up_to_it(tmp_path, name):
    learner, model, corpus = begun(joint(tmp_path, NAMES, weighting="uncertainty"))
    with torch.no_grad():
        model.log_variances[learner.names.index(name)].fill_(0.8)
    rows = [row for row in corpus.splits.train if row.task == name][:6]
    model.eval()

    def loss(rows, items=None):
        batch = learner.collate(learner.encode(rows))
        labels = batch.pop("labels")
        return learner.loss(model(**batch), labels, items), labels.ne(-100).sum()

    whole, items = loss(rows)
    parts = sum(loss(part, items)[0].item() for part in (rows[:2], rows[2:]))
    assert parts == pytest.approx(whole.item())


def test_log_is_told_the_mean_of_what_was_learned_of_each_task(tmp_path):
    learner, model, corpus = begun(joint(tmp_path, NAMES))
    batch, labels = batch_of(learner, corpus, "tags")
    model.eval()
    values = [learner.loss(model(**batch), labels).item() for _ in range(3)]
    with torch.no_grad():
        learner.loss(model(**batch), labels)
    (total, items) = learner.learned()["tags/loss"]
    assert items == 3 * labels.ne(-100).sum()
    assert total / items == pytest.approx(values[0]) and learner.learned() == {}


# The model


@pytest.mark.parametrize("name", KINDS)
def test_a_task_is_answered_as_by_a_model_of_its_own(tmp_path, name):
    learner, model, corpus = begun(joint(tmp_path, list(KINDS)))
    place, own = learner.names.index(name), learner.parts[name]
    part = model.parts[place]
    alone = type(part)(part.config)
    alone.load_state_dict(part.state_dict() | {
        f"encoder.{key}": value for key, value in model.encoder.state_dict().items()
    })  # fmt: skip
    rows = corpus.splits.test
    mixed = dict(zip([id(row) for row in rows], learner.answer(model, rows), strict=True))
    asked = [row for row in rows if row.task == name]
    wanted = own.answer(alone, asked)
    found = [mixed[id(row)] for row in asked]
    if name in ("scores", "words"):
        found = [one["loss"] if name == "words" else one for one in found]
        wanted = [one["loss"] if name == "words" else one for one in wanted]
        assert found == pytest.approx(wanted, rel=1e-5)
    else:
        assert found == wanted


def test_encoder_is_kept_once_and_new_heads_are_drawn_as_others_are(tmp_path):
    _, model, _ = begun(joint(tmp_path, list(KINDS), weighting="uncertainty"))
    names = [name for name, _ in model.named_parameters()]
    assert not any("parts" in name and "encoder" in name for name in names)
    assert all(part.encoder is model.encoder for part in model.parts)
    weight = model.parts[list(KINDS).index("words")].head.dense.weight
    assert weight.std().item() == pytest.approx(model.config.encoder.initializer_range, rel=0.2)


def test_an_update_leaves_other_heads_as_they_are(tmp_path):
    task = joint(tmp_path, NAMES, weighting="uncertainty", training={"steps": 1, "warmup": 0})
    _, before, _ = begun(task)
    result = train(task, tmp_path / "run", progress=False)
    after = weights_of(result.folder)
    changed = {key for key, value in before.state_dict().items() if not value.equal(after[key])}
    assert len({key.split(".")[1] for key in changed if key.startswith("parts.")}) == 1
    assert len([key for key in changed if key.startswith("log_variances.")]) == 1
    assert any(key.startswith("encoder.") for key in changed)


def test_words_are_not_hidden_from_an_encoder_that_reads_one_way(tmp_path):
    base = pretrained("gpt2", tmp_path / "base")
    shape = {"pretrained": str(base), "width": 128, "layers": 2, "heads": 4, "ffn": 512}
    task = joint(tmp_path, ["labels", "words"], model=shape)
    with pytest.raises(TaskError, match="has no mask token to hide others by"):
        train(task, tmp_path / "run", progress=False)
    tokenizer = read_tokenizer(base)
    tokenizer.add_special_tokens({"mask_token": tokenizer.unk_token})
    with pytest.raises(TaskError, match=r"tasks\.words: the encoder of .*sees only what comes be"):
        learner_class(task)(task, tokenizer, load_task_data(task).labels).build()


def test_r_drop_is_refused(tmp_path):
    task = joint(tmp_path, training={"r_drop": 1.0})
    with pytest.raises(TaskError, match=r"training\.r_drop: .* the kind joint is another; delete"):
        train(task, tmp_path / "run", progress=False)


def test_class_weights_are_those_of_each_task(tmp_path):
    path = write_joint(tmp_path)
    words = ["tasks.labels.training.class_weights={red: 5}"]
    learner, _, corpus = begun(load_task(path, words))
    learner.check()
    learner.weigh(learner.encode(corpus.splits.train))
    assert learner.parts["labels"].class_weights.tolist() == [1.0, 1.0, 5.0]
    assert learner.parts["tags"].class_weights is None
    task = load_task(path, ["tasks.labels.training.class_weights={rd: 5}"])
    with pytest.raises(TaskError, match=r"'rd' is no label of the data; did you mean 'red'"):
        train(task, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_unusable_data_name_their_task(tmp_path):
    task = joint(tmp_path)
    (tmp_path / "tags.jsonl").unlink()
    with pytest.raises(DataError, match=r"^tasks\.tags: .*tags\.jsonl: there is no such file"):
        train(task, tmp_path / "run", progress=False)


def test_mode_of_a_role_that_encoders_lack_is_refused(tmp_path):
    task = joint(tmp_path, mode={"decoder": "alibi"})
    with pytest.raises(InputError, match="role 'decoder', which this model lacks"):
        train(task, tmp_path / "run", progress=False)
