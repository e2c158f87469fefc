"""LoRA on chosen heads: their rows and columns change, those of other heads never."""

import copy

import pytest
import torch

from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf import tuning
from regard.hf.apply import find_places
from regard.hf.tuning.structure import find_parts
from tests.hf.tuning.models import bert, inputs, make, moved, output, programmed

KINDS = ("bert", "distilbert", "gpt2", "llama", "phi3", "modernbert", "t5", "bart", "vit")
ROLES = dict.fromkeys(("gpt2", "llama", "phi3"), "decoder")


def chosen(kind):
    """Heads 2 and 3 of layer 1, which share a key head where key heads are shared."""
    return {ROLES.get(kind, "encoder"): [(1, 2), (1, 3)]}


def on_heads(heads, **changes):
    return tuning.HeadLoraConfig(heads=heads, **{"r": 2, **changes})


def changes_by_place(kind, **options):
    """What merging changes in each projection, by the path of its attention, row by row."""
    model = make(kind).double()
    before = copy.deepcopy(model.state_dict())
    adapted = moved(tuning.adapt(model, on_heads(chosen(kind), **options)))
    expected = output(adapted, kind)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(output(merged, kind), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(expected, output(make(kind).double(), kind), atol=1e-4)
    found = {}
    for name, weight in merged.state_dict().items():
        change = weight - before[name] if weight.is_floating_point() else torch.zeros(1)
        if change.abs().max() > 0:
            # transformers' Conv1D stores the transpose.
            found[name.removesuffix(".weight")] = change.T if kind == "gpt2" else change
    return find_places(merged), found, merged


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_columns_of_chosen_heads_change_and_nothing_else(kind):
    places, found, model = changes_by_place(kind)
    role = ROLES.get(kind, "encoder")
    [place] = [p for _, p in places.values() if (p.role, p.layer) == (role, 1)]
    parts, width = find_parts(model, place), place.width
    assert set(found) == {part.path for part in parts.values()}
    for letter, part in parts.items():
        change = found[part.path]
        if letter == "o":
            moved_heads = change.reshape(len(change), place.heads, width).abs().amax((0, 2))
        else:
            own = change[part.start : part.start + part.width]
            moved_heads = own.reshape(-1, width, own.shape[1]).abs().amax((1, 2))
        heads = [2, 3] if len(moved_heads) == place.heads else [1]
        assert moved_heads.nonzero().flatten().tolist() == heads, letter


@pytest.mark.parametrize("letter", ["q", "k", "v"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_other_heads_compute_stays(kind, letter):
    model, seen = make(kind), []
    adapted = tuning.adapt(model, on_heads(chosen(kind), projections=(letter,)))
    places, role = find_places(model), ROLES.get(kind, "encoder")
    [place] = [p for _, p in places.values() if (p.role, p.layer) == (role, 1)]
    last = model.get_submodule(find_parts(model, place)["o"].path)
    last.register_forward_pre_hook(lambda _, read: seen.append(read[0].reshape(-1, 4, 4)))
    output(adapted, kind)
    output(moved(adapted), kind)
    change = (seen[1] - seen[0]).abs().amax((0, 2))
    assert (change > 0).tolist() == [False, False, True, True]


def test_update_is_the_papers_product_of_two_matrices():
    model = moved(tuning.adapt(bert(), on_heads({"encoder": [(0, 1)]}, projections=("q",))))
    layer = model.base_model.model.encoder.layer[0].attention.self.query
    update = layer.regard_adapter["default"]
    x = torch.randn(3, 16)
    expected = layer.base_layer(x).detach()
    # Head 1 of width 4, scaled by 16 / 2.
    expected[:, 4:8] += 8 * x @ update.down.T @ update.up.T
    torch.testing.assert_close(layer(x), expected)


def test_merged_adapter_can_be_taken_out_of_the_weights_again():
    model = moved(tuning.adapt(bert().double(), on_heads({"encoder": [(0, 1)]})))
    expected = output(model)
    model.merge_adapter(safe_merge=True)
    torch.testing.assert_close(output(model), expected, rtol=0, atol=1e-12)
    model.unmerge_adapter()
    torch.testing.assert_close(output(model), expected, rtol=0, atol=1e-12)
    model.merge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(output(model), output(bert().double()), rtol=0, atol=1e-12)


def test_unmerging_what_is_not_merged_warns():
    model = tuning.adapt(bert(), on_heads({"encoder": [(0, 1)]}))
    with pytest.warns(UserWarning, match="no adapter is merged"):
        model.base_model.model.encoder.layer[0].attention.self.query.unmerge()


def test_broken_numbers_are_not_merged():
    model = tuning.adapt(bert(), on_heads({"encoder": [(0, 1)]}))
    layer = model.base_model.model.encoder.layer[0].attention.self.query
    with torch.no_grad():
        layer.regard_adapter["default"].up.fill_(float("inf"))
    with pytest.raises(ValueError, match="'default' holds numbers that are not finite"):
        layer.merge(safe_merge=True)


def test_fewer_heads_have_fewer_parameters():
    counts = [
        hf.trainable(tuning.adapt(bert(), on_heads({"encoder": heads})))["adapters"].all
        for heads in ([(0, 1)], [(0, 1), (0, 2)], [(0, 1), (1, 1)])
    ]
    # Three projections with rank · (16 + 4) numbers and one with rank · (4 + 16), per layer.
    assert counts == [4 * 2 * 20, 4 * 2 * 24, 8 * 2 * 20]


def test_only_chosen_heads_and_programs_get_a_gradient():
    model = moved(tuning.adapt(programmed(), on_heads({"encoder": [(1, 0)]})))
    model(**inputs())[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        own = "regard_adapter" in name or "regard.modules_to_save" in name
        assert (parameter.grad is not None) == own, name


def test_training_lowers_a_loss():
    model = make("gpt2")
    heads = {"decoder": [(layer, head) for layer in range(2) for head in range(2)]}
    model = tuning.adapt(model, on_heads(heads, r=4)).train()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(8):
        loss = model(**inputs("gpt2"), labels=inputs("gpt2")["input_ids"]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_saved_and_loaded_again_bit_for_bit(tmp_path):
    model = moved(tuning.adapt(programmed(), on_heads({"encoder": [(0, 1), (1, 3)]})))
    model.save_pretrained(tmp_path)
    assert torch.equal(output(tuning.load(bert(), tmp_path)), output(model))


def test_dropout_is_for_training_alone():
    config = on_heads({"encoder": [(0, 1)]}, lora_dropout=0.5)
    model = moved(tuning.adapt(bert(), config))
    assert torch.equal(output(model), output(model))
    model.train()
    assert not torch.equal(output(model), output(model))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"encoder": [(0, 4)]}, "encoder layer 0, head 4: there are 4 heads, from 0"),
        ({"encoder": [(2, 0)]}, "encoder layer 2: there are 2 layers, from 0"),
        ({"encodor": [(0, 0)]}, "no attention of role 'encodor'; did you mean 'encoder'"),
        ({"encoder": [0]}, r"heads of role 'encoder' must be \(layer, head\) pairs, not \[0\]"),
        ({"encoder": [(0, -1)]}, "must be .layer, head. pairs"),
        ({"encoder": []}, "no heads are chosen"),
        ({}, "no heads are chosen"),
    ],
)
def test_heads_that_are_not_there_are_refused(heads, message):
    model = bert()
    with pytest.raises(InputError, match=message):
        tuning.adapt(model, on_heads(heads))
    assert not any("regard_adapter" in name for name, _ in model.named_modules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projections": ("q", "x")}, r"projections=\('q', 'x'\) must be some of q, k, v, o"),
        ({"projections": ()}, "must be some of"),
        ({"r": 0}, "r=0 must be"),
        ({"lora_dropout": 1.0}, "lora_dropout=1.0 must be"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        on_heads({"encoder": [(0, 0)]}, **changes)


def test_half_a_key_head_is_refused_unless_its_projections_are_left_out():
    heads = {"decoder": [(1, 2)]}
    with pytest.raises(InputError, match="heads 2–3 share a key head, and head 3 is not chosen"):
        tuning.adapt(make("llama"), on_heads(heads))
    model = moved(tuning.adapt(make("llama"), on_heads(heads, projections=("q", "o"))))
    assert torch.isfinite(output(model, "llama")).all()


def test_projection_that_is_not_found_is_named():
    model = bert()
    attention = model.encoder.layer[1].attention.self
    attention.unusual = attention.value
    del attention.value
    with pytest.raises(UnsupportedError, match=r"layer\.1.*no 'v' projection found.*v_proj, value"):
        tuning.adapt(model, on_heads({"encoder": [(1, 0)]}))
