import json
import signal

import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from regard import hf
from regard.errors import FileError, InputError, UnsupportedError
from regard.hf.cheaper import Pieces, run
from regard.modes import Mode
from tests.hf.cheaper.tiny import albert, bert, gpt2, llama, masked, prices, text
from tests.nn import programs as p

PIECES = Pieces.of(text())


@pytest.fixture(autouse=True)
def _priced(monkeypatch):
    monkeypatch.setattr(run, "price", prices)


def cheapen(model, pieces=PIECES, **options):
    return hf.cheapen(model, pieces, **{"minutes": 0, "rounds": 3, "loss": 0.05, **options})


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("make", [llama, gpt2, bert, masked, albert])
def test_a_model_becomes_cheaper_within_the_loss(make):
    model = make()
    found = cheapen(model, loss=0.5)
    assert found.mode is not None and found.chosen.upper <= 0.5
    assert any(name != "plain" for row in found.rows for name in row.heads)
    assert sum(row.ms for row in found.rows) < sum(row.plain_ms for row in found.rows)
    if found.what == "growth of perplexity":
        assert found.cache_bytes[1] < found.cache_bytes[0]
    assert "loss (" in str(found) and found.rows[0].layer in str(found)


def test_more_is_changed_for_a_larger_loss():
    changed = [
        sum(name != "plain" for row in cheapen(llama(), loss=loss).rows for name in row.heads)
        for loss in (0.0001, 0.6)
    ]
    assert changed[0] < changed[1]


def test_no_gain_is_said_where_there_is_none(monkeypatch):
    def dear(*given):
        found = prices(*given)
        found.times[0][1:] = [[9.0 * x for x in row] for row in found.times[0][1:]]
        return found

    monkeypatch.setattr(run, "price", dear)
    found = cheapen(llama())
    assert found.mode is None and not found.gained
    assert found.verdict.startswith("no gain") and str(found).startswith("no gain")
    assert found.held_out.mean == pytest.approx(0, abs=1e-5)


def test_the_original_stays_as_it_is():
    model, before = llama(), weights_of(llama())
    implementation = model.config._attn_implementation
    cheapen(model.train(), loss=0.5, minutes=0.002)
    assert model.training and not hasattr(model, "regard_mode")
    assert model.config._attn_implementation == implementation
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_held_out_texts_decide_nothing():
    other = Pieces(PIECES.train, PIECES.choose, text(6, seed=9))
    one, two = (cheapen(llama(), pieces, loss=0.3) for pieces in (PIECES, other))
    assert one.mode == two.mode and one.chosen == two.chosen
    assert one.held_out != two.held_out


def test_held_out_texts_are_read_after_everything_is_decided(monkeypatch):
    held_out = {tuple(row) for row in PIECES.held_out.tolist()}
    read, done = [], []
    model = llama()

    def spy(module, args, options):
        ids = options.get("input_ids", args[0] if args else None)
        read.append((any(tuple(row) in held_out for row in ids.tolist()), bool(done)))

    model.register_forward_pre_hook(spy, with_kwargs=True)
    model.model.register_forward_pre_hook(spy, with_kwargs=True)

    def say(line):
        if "held out" in line:
            done.append(line)

    # The student is a copy, hooks included.
    cheapen(model, loss=0.3, minutes=0.002, say=say)
    assert (True, True) in read and (False, False) in read
    assert (True, False) not in read


@pytest.fixture
def _steps(monkeypatch):
    """As many steps on a busy machine as on another."""

    class Fixed(run.Distillation):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            self.planned = 80

    monkeypatch.setattr(run, "Distillation", Fixed)


@pytest.mark.usefixtures("_steps")
def test_a_distillation_wins_back_what_was_lost():
    # What far keys add is nearly the same everywhere, which a bias can learn.
    pieces = Pieces.of(text(120))
    found = cheapen(bert(initializer_range=0.1), pieces, loss=0.002, minutes=0.03, rate=3e-3)
    assert found.trained and found.steps == 80
    assert found.chosen.mean < found.untrained.mean


def likeness(original):
    @torch.no_grad()
    def of(model, ids):
        both = (one(ids).logits for one in (model, original))
        return float(torch.cosine_similarity(*both, dim=-1).mean())

    return of


@pytest.mark.usefixtures("_steps")
def test_a_distillation_that_does_harm_is_thrown_away():
    # Of random words through random weights there is nothing to learn but the texts themselves.
    model = llama()
    found = cheapen(model, minutes=0.03, metric=likeness(model), rate=3e-2)
    assert found.steps > 0 and not found.trained and "were not kept" in str(found)
    assert found.mode == cheapen(model, metric=likeness(model)).mode
    own = found.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_the_folder_holds_a_model_that_can_be_loaded(tmp_path):
    found = cheapen(llama(), loss=0.5, minutes=0.002, out=tmp_path / "run")
    again = hf.from_pretrained(tmp_path / "run" / "model")
    with torch.no_grad():
        assert torch.equal(again(text(1))[0], found.model(text(1))[0])
    assert again.regard_mode == found.mode
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    assert told["mode"]["hash"] == found.mode.hash
    assert told["held_out"]["mean"] == found.held_out.mean
    assert (tmp_path / "run" / "report.txt").read_text() == f"{found}\n"
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_run_that_was_stopped_keeps_its_best_and_goes_on(tmp_path, monkeypatch):
    def stop(line):
        if line.startswith("distilling: step 3"):
            signal.raise_signal(signal.SIGINT)

    found = cheapen(llama(), loss=0.5, minutes=0.03, out=tmp_path, say=stop)
    assert found.stopped and found.steps == 3
    assert hf.from_pretrained(tmp_path / "model").regard_mode == found.mode
    # What was looked at and timed is not done again.
    monkeypatch.setattr(run, "price", None)
    said = []
    found = cheapen(llama(), loss=0.5, minutes=0.03, out=tmp_path, say=said.append)
    assert not found.stopped and found.steps > 3
    assert any(line.startswith("distilling: step 4 of") for line in said)
    with pytest.raises(FileError, match="holds a finished run"):
        cheapen(llama(), loss=0.5, out=tmp_path)


def test_a_folder_of_another_run_is_refused(tmp_path):
    def stop(line):
        if line.startswith("distilling: step 2"):
            signal.raise_signal(signal.SIGINT)

    cheapen(llama(), loss=0.5, minutes=0.03, out=tmp_path, say=stop)
    for other in ({"loss": 0.4}, {"pieces": Pieces.of(text(seed=3))}):
        with pytest.raises(FileError, match="is of another model, other texts or other settings"):
            cheapen(llama(), out=tmp_path, **{"loss": 0.5, **other})
    (tmp_path / "choice.json").write_text('{"run": 1')
    with pytest.raises(FileError, match=r"choice\.json"):
        cheapen(llama(), loss=0.5, out=tmp_path)


def test_a_metric_may_decide():
    with torch.no_grad():
        found = cheapen(
            llama(), loss=0.2, metric=lambda model, ids: -float(model(ids, labels=ids).loss)
        )
    assert found.what == "the share lost of the metric" and found.held_out.was < 0


def marian():
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32,
             "decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
             "vocab_size": 60, "pad_token_id": 0, "decoder_start_token_id": 0,
             "eos_token_id": 1, "forced_eos_token_id": None, "bos_token_id": None}  # fmt: skip
    return MarianMTModel(MarianConfig(**sizes))


@pytest.mark.parametrize(
    ("model", "options", "kind", "said"),
    [
        (llama, {"loss": 0}, InputError, "loss=0 must lie between 0 and 1"),
        (llama, {"loss": 1.5}, InputError, "loss=1.5 must lie between"),
        (llama, {"minutes": -1}, InputError, "minutes=-1 must be 0 or more"),
        (llama, {"rounds": 1}, InputError, "rounds=1 must be a whole number from 3"),
        (lambda: torch.nn.Linear(2, 2), {}, InputError, "not Linear"),
        (lambda: hf.apply(llama(), Mode("a", "", decoder=p.alibi)), {}, InputError, "restore"),
        (llama, {"pieces": text()}, InputError, r"takes pieces of text, not Tensor; make them"),
        (lambda: llama(vocab_size=40), {}, InputError, "hold token 59; the model knows 40"),
        (bert, {"pieces": Pieces.of(text(9, 100))}, InputError, "100 tokens; the model reads 96"),
        (marian, {}, UnsupportedError, "roles cross, decoder, encoder; models of one text"),
    ],
)
def test_wrong_use_is_refused_before_work(model, options, kind, said):
    with pytest.raises(kind, match=said):
        cheapen(model(), **options)


def test_what_cannot_be_saved_is_refused_before_work(tmp_path):
    model = llama()
    model.hf_quantizer = object()
    with pytest.raises(InputError, match="load its state_dict"):
        cheapen(model, out=tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="a run is kept in a folder"):
        cheapen(llama(), out=tmp_path / "file" / "run")
