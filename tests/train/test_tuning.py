"""Few weights trained: what changes, what is kept, and a run that stops goes on bit for bit."""

import json
import signal

import pytest
import torch
import yaml

from regard.errors import TaskError
from regard.hf import tuning
from regard.hf.quiet import quiet
from regard.learners import learner_class
from regard.tasks import load_task
from regard.tasks.programs import build_mode
from regard.train import evaluate_run, load_learner, train
from regard.train.model import build_model
from regard.train.tuning import begin_tuning
from tests.learners.pretrained import TOKENIZER, pretrained
from tests.learners.test_labels import COLOURS, TRAINING, classify, tag
from tests.train.tiny import PROGRAMS, assert_same_weights, weights_of

SHORT = {**TRAINING, "steps": 12, "save_every": 4, "eval_every": 6, "warmup": 2}
METHODS = {
    "head_only": {},
    "lora": {"rank": 2, "dropout": 0.1, "targets": ["q", "intermediate.dense"], "layers": [1]},
    "heads": {"method": "lora", "rank": 2, "heads": {"encoder": [[0, 1], [1, 0]]}},
    "adalora": {"rank": 2},
    "houlsby": {"width": 4},
    "pfeiffer": {"width": 4},
}
FOLDED = ("houlsby", "pfeiffer")
HEAD = [{"layer": "linear", "width": 6}]


def tuned(folder, name, make=classify, **parts):
    base = pretrained("bert", folder / "base")
    (folder / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    return make(
        folder, mode={"encoder": "mine.py:relative"}, training=SHORT,
        model={"pretrained": str(base), "head": HEAD, "positions": 24},
        tuning={"method": name, **METHODS[name]}, **parts,
    )  # fmt: skip


# The others go the same ways.
QUICK = ("lora", "adalora", "houlsby")
EACH = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in METHODS]


@pytest.fixture(scope="module", params=EACH)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    task = tuned(folder, request.param)
    return request.param, task, train(task, folder / "run", progress=False)


def begun(task):
    """The model as the run found it."""
    learner = learner_class(task)(task, TOKENIZER, tuple(sorted(COLOURS)))
    return build_model(learner, build_mode(task.mode))


def test_only_what_was_chosen_has_changed(finished):
    name, task, result = finished
    before, after = begun(task).state_dict(), weights_of(result.folder)
    found = {key.replace(".base_layer.", "."): value for key, value in after.items()}
    changed = {key for key in before if not torch.equal(before[key], found[key])}
    head = {key for key in before if key.startswith(("head.", "head_layers."))}
    programs = {key for key in before if ".regard." in key}
    assert head | programs <= changed and len(programs) == 2
    rest = {key.removeprefix("encoder.encoder.") for key in changed - head - programs}
    q, v = ("attention.self.query.weight", "attention.self.value.weight")
    wanted = {
        "lora": {f"layer.1.{q}", "layer.1.intermediate.dense.weight"},
        "heads": {f"layer.{layer}.{part}" for layer in (0, 1) for part in (q, v)},
        "adalora": {f"layer.{layer}.{part}" for layer in (0, 1) for part in (q, v)},
    }.get(name, set())
    # AdaLoRA may leave a projection without any rank.
    assert rest == wanted or (name == "adalora" and rest and rest < wanted)
    added = found.keys() - before.keys()
    assert bool(added) == (name in FOLDED)
    assert all(".regard_adapter.default." in key for key in added)


def test_another_process_finds_the_model_whole(finished):
    _, _, result = finished
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]
    assert result.metrics["test"]["scores"]["accuracy"] > 0


def test_metrics_count_what_was_trained(finished):
    name, task, result = finished
    training = result.metrics["training"]
    with quiet():
        count = begin_tuning(begun(task), task).count
    assert training["trained"] == count.trainable < count.all
    assert training["share"] == count.trainable / count.all
    # The head: 16 · 6 + 6, 6 · 3 + 3; the programs of two layers: two heads of 9 distances each.
    own = {
        "head_only": 0, "lora": 2 * 2 * (16 + 16), "heads": 4 * 2 * (16 + 8),
        "adalora": 4 * 3 * (16 + 16 + 1), "houlsby": 4 * (16 * 4 * 2 + 16 + 4),
        "pfeiffer": 2 * (16 * 4 * 2 + 16 + 4),
    }  # fmt: skip
    assert count.trainable == 16 * 6 + 6 + 6 * 3 + 3 + 2 * 2 * 9 + own[name]


def test_adapter_is_kept_on_its_own_and_goes_back_into_the_model_it_is_for(finished):
    name, task, result = finished
    folder = result.folder / "adapter"
    if name == "head_only":
        assert not folder.exists()
        return
    _, model = load_learner(result.folder)
    with quiet():
        again = tuning.load(begun(task), folder).eval()
    ids = torch.tensor([TOKENIZER("the apple is red")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, model(ids).logits)
    assert (folder / "adapter_model.safetensors").stat().st_size < 40_000


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_stopped_run_ends_as_if_it_had_not_been(finished, tmp_path, at_step, step):
    name, _, whole = finished
    task = tuned(tmp_path, name)
    at_step(step, lambda: signal.raise_signal(signal.SIGINT))
    assert not train(task, tmp_path / "run", progress=False).finished
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(whole.folder, tmp_path / "run")


def test_adalora_prunes_to_the_rank_that_was_asked_for(tmp_path):
    task = tuned(tmp_path, "adalora")
    with quiet():
        tune = begin_tuning(begun(task), task)
    assert tune.adapted.peft_config["default"].init_r == 3
    result = train(task, tmp_path / "run", progress=False)
    config = json.loads((result.folder / "adapter" / "adapter_config.json").read_text())
    ranks = [sum(kept) for kept in config["rank_pattern"].values()]
    assert len(ranks) == 4 and sum(ranks) == 4 * 2


def test_factors_of_adalora_are_kept_orthogonal(tmp_path):
    task = tuned(tmp_path, "adalora")
    with quiet():
        tune = begin_tuning(begun(task), task)
    loss = tune.loss(lambda *_, **__: torch.tensor(1.0))
    tune.model.train()
    found = loss(None, None)
    factors = [
        (a @ a.T if "lora_A" in name else a.T @ a)
        for name, a in tune.model.named_parameters()
        if "lora_A" in name or "lora_B" in name
    ]
    skew = sum((one - torch.eye(3)).square().sum().sqrt() for one in factors) / len(factors)
    torch.testing.assert_close(found, 1.0 + 0.5 * skew)
    tune.model.eval()
    assert loss(None, None) == 1.0


@pytest.mark.slow
def test_tagger_is_tuned_too(tmp_path):
    result = train(tuned(tmp_path, "pfeiffer", make=tag), tmp_path / "run", progress=False)
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]


def test_encoder_with_bottlenecks_is_taken_whole_and_takes_no_others(finished, tmp_path):
    name, _, result = finished
    if name not in FOLDED:
        assert load_learner(result.folder)[1].config.bottleneck is None
        return
    task = classify(tmp_path, model={"pretrained": str(result.folder / "model")}, training=SHORT)
    model = begun(task)
    assert model.config.bottleneck["placement"] == name
    source = load_learner(result.folder)[1].encoder.state_dict()
    taken = model.encoder.state_dict()
    assert all(torch.equal(source[key], taken[key]) for key in source)
    again = train(task, tmp_path / "run", progress=False)
    assert evaluate_run(again.folder).metrics() == again.metrics["test"]
    more = task.model_copy(update={"tuning": task.tuning.model_copy(update={"method": "lora"})})
    with pytest.raises(TaskError, match=r"^tuning: the pretrained model has bottlenecks built"):
        train(more, tmp_path / "more", progress=False)
    assert not (tmp_path / "more").exists()


WRONG = [
    ({"method": "lora", "targets": ["w"]}, r"^tuning: targets: 'w' is not in the model; known: a"),
    ({"method": "lora", "targets": ["quary"]}, r"'quary' is not in the model; did you mean 'q"),
    ({"method": "lora", "layers": [2]}, r"^tuning: layers: there is no layer 2; they go from 0 to"),
    ({"method": "lora", "heads": {"encoder": [[0, 5]]}},
     r"^tuning: encoder layer 0, head 5: there are 2 heads, from 0"),
    ({"method": "lora", "heads": {"decoder": [[0, 0]]}},
     r"^tuning: this model has no attention of role 'decoder'"),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "message"), WRONG)
def test_choice_that_does_not_fit_is_refused_before_a_run_begins(choice, message, tmp_path):
    base = pretrained("bert", tmp_path / "base")
    task = classify(tmp_path, model={"pretrained": str(base)}, tuning=choice, training=SHORT)
    with pytest.raises(TaskError, match=message):
        train(task, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_too_few_steps_for_adalora_are_refused(tmp_path):
    base = pretrained("bert", tmp_path / "base")
    training = {**SHORT, "steps": 3}
    task = classify(
        tmp_path, model={"pretrained": str(base)}, tuning={"method": "adalora"}, training=training
    )
    with pytest.raises(TaskError, match=r"^tuning: AdaLoRA needs at least 4 steps"):
        train(task, tmp_path / "run", progress=False)


@pytest.mark.slow
def test_resolved_task_tunes_the_same_model_again(tmp_path):
    task = tuned(tmp_path, "lora")
    first = train(task, tmp_path / "run", progress=False)
    again = load_task(first.folder / "task.yaml")
    assert yaml.safe_load((first.folder / "task.yaml").read_text())["tuning"]["layers"] == [1]
    train(again, tmp_path / "again", progress=False)
    assert_same_weights(first.folder, tmp_path / "again")
