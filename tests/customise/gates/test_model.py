"""A model with gates: it is one model of all candidates, and settles into that of its winners."""

import pytest
import torch
from transformers import BertConfig, BertModel, MarianConfig, MarianMTModel

import regard as rg
from regard.customise.gates.model import GatedModel, apply_again
from regard.modes import Assignment, Mode
from regard.nn.programmed import Programmed

PLAIN = rg.catalogue.scaled_dot_product.program
READER = rg.modes.find("reader")("encoder", buckets=4)
NEAR = rg.modes.find("local")("encoder", window=1)
CANDIDATES = {"plain": PLAIN, "near": NEAR, "reader": READER}
IDS = torch.tensor([[1, 5, 2, 7, 3], [4, 4, 1, 0, 0]])
SEEN = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def bert():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=8, max_position_embeddings=16, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config).eval()


def call(model):
    return model(input_ids=IDS, attention_mask=SEEN).last_hidden_state[SEEN.bool()]


def choose(gated, winners):
    """Give gates of all layers these winners, in order, and learned numbers that are not zero."""
    for (_, layer), own in zip(gated.layers, winners, strict=True):
        layer.logits.data = torch.nn.functional.one_hot(torch.tensor(own), 3).float()
        layer.temperature = 0.01
        for one in layer.programs.parameters():
            torch.nn.init.normal_(one)


WINNERS = [[0, 1, 1, 2], [2, 0, 2, 0]]


def test_the_annealed_the_settled_and_the_finished_model_compute_the_same():
    gated = GatedModel(bert(), CANDIDATES)
    choose(gated, WINNERS)
    annealed = call(gated.model)
    gated.settle()
    settled = call(gated.model)
    model = gated.finish("found", "")
    torch.testing.assert_close(settled, annealed)
    torch.testing.assert_close(call(model), settled)
    # A model that is told the same mode and given the same weights is the same.
    other = rg.hf.apply(bert(), model.regard_mode)
    other.load_state_dict(model.state_dict())
    assert torch.equal(call(other), call(model))


def test_a_finished_model_is_saved_and_read_as_any_other(tmp_path):
    gated = GatedModel(bert(), CANDIDATES)
    choose(gated, WINNERS)
    model = gated.finish("found", "by gates")
    model.save_pretrained(tmp_path)
    again = rg.hf.from_pretrained(tmp_path, BertModel)
    assert again.regard_mode.name == "found" and again.regard_mode.intent == "by gates"
    assert torch.equal(call(again), call(model))


def test_the_mode_has_the_winners_in_their_places():
    gated = GatedModel(bert(), CANDIDATES)
    choose(gated, WINNERS)
    mode, names = gated.winners("found"), {PLAIN: 0, NEAR.at("encoder", 0, 4)[0][1]: 1}
    for layer, own in enumerate(WINNERS):
        running = mode.at("encoder", layer, 4)
        found = [names.get(one, 2) for span, one in running for _ in range(*span)]
        assert found == own
    choose(gated, [[1] * 4] * 2)
    assert [str(one.layers) for one in gated.winners().assignments] == ["None"]


def test_training_goes_on_where_the_gates_left_it():
    gated = GatedModel(bert(), CANDIDATES)
    choose(gated, WINNERS)
    gated.settle()
    call(gated.model).square().sum().backward()
    grads = {
        name: one.grad for name, one in gated.model.named_parameters() if ".regard." not in name
    }
    finished = gated.finish("found", "")
    finished.zero_grad()
    call(finished).square().sum().backward()
    for name, one in finished.named_parameters():
        if name in grads:
            torch.testing.assert_close(one.grad, grads[name])


def test_roles_that_no_candidate_speaks_of_stay_as_they_are():
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=13, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8,
        max_position_embeddings=16, pad_token_id=0, decoder_start_token_id=0,
        forced_eos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    model = rg.hf.apply(
        MarianMTModel(config), Mode("before", encoder=READER.assignments[0].program)
    )
    kept = [one for name, one in model.named_parameters() if ".regard." in name]
    kept[0].data.normal_()
    before = kept[0].detach().clone()
    cross = {"plain": Mode("p", cross=PLAIN), "aligned": rg.modes.find("aligned")("cross")}
    gated = GatedModel(model, cross)
    assert [place.role for place, _ in gated.layers] == ["cross"]
    model = gated.finish("found", "")
    encoder = model.model.encoder.layers[0].self_attn.regard
    assert torch.equal(next(encoder.parameters()), before)
    assert {one.role for one in model.regard_mode.assignments} == {"encoder", "cross"}
    assert not hasattr(model.model.decoder.layers[0].self_attn, "regard")


def test_a_candidate_that_ran_before_keeps_what_it_learned():
    model = rg.hf.apply(bert(), READER)
    learned = [one for name, one in model.named_parameters() if ".regard." in name]
    for one in learned:
        one.data.normal_()
    before = [one.detach().clone() for one in learned]
    gated = GatedModel(model, CANDIDATES)
    choices = [layer.choices.index(READER.assignments[0].program) for _, layer in gated.layers]
    after = [
        next(layer.programs[at].parameters())
        for at, (_, layer) in zip(choices, gated.layers, strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_applying_a_mode_again_keeps_what_runs_on():
    model = rg.hf.apply(bert(), READER)
    layers = [one for one in model.modules() if isinstance(one, Programmed)]
    torch.nn.init.normal_(next(layers[0].parameters()))
    before = next(layers[0].parameters()).detach().clone()
    plain = Assignment("encoder", PLAIN, layers=(1, 2))
    apply_again(model, Mode("other", "", [*READER.assignments, plain]))
    after = [one for one in model.modules() if isinstance(one, Programmed)]
    assert torch.equal(next(after[0].parameters()), before)
    assert not list(after[1].parameters())


def test_the_course_has_a_line_for_each_gate_and_candidate():
    gated = GatedModel(bert(), CANDIDATES, head_groups=2)
    rows = list(gated.course())
    assert len(rows) == 2 * 2 * 3
    assert rows[0] == {
        "role": "encoder", "layer": 0, "heads": "0-1", "candidate": "plain",
        "share": pytest.approx(1 / 3, abs=1e-5),
    }  # fmt: skip
