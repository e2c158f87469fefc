"""Every ready mode keeps what its roles need, runs, trains, and does what its intent says."""

import pytest
import torch

import regard as rg
from regard.modes import READY, find
from regard.modes.suggestions import CUES, suggest

PLACES = [(name, role) for name, one in READY.items() for role in one.programs]


def weights_of(program, heads=4, rows=24, **more):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, heads, rows, 8, dtype=torch.float64)
    for leaf in program.parameters:
        axes = {"head": heads, "channel": 8}
        shape = [axes.get(axis, axis) for axis in leaf.per]
        more.setdefault(leaf.name, torch.full(shape, -2.0, dtype=torch.float64))
    return rg.attend(program, q, k, q, observe=["weights"], **more)[1]["weights"]


@pytest.mark.parametrize(("name", "role"), PLACES)
def test_what_a_role_needs_is_proved(name, role):
    asked = ["never empty"] + ["causal"] * (role == "decoder")
    answers = rg.check(READY[name].programs[role], asked)
    assert {one.status for one in answers} == {"proved"}


@pytest.mark.parametrize("name", READY)
def test_modes_say_what_they_are_for(name):
    one = READY[name]
    assert one.intent.endswith(".") and one.use.startswith("For ")
    mode = one()
    assert mode.name == name and mode.intent == one.intent
    assert [place.role for place in mode.assignments] == list(one.programs)


@pytest.mark.parametrize("name", [name for name in READY if name != "structured"])
def test_modes_train_in_a_layer(name):
    program = next(iter(READY[name].programs.values()))
    layer = rg.nn.Attention(program, width=32, heads=4)
    x = torch.randn(1, 12, 32)
    layer(x).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_focused_gives_most_keys_nothing():
    focused = weights_of(find("focused")(alpha=2.0).assignments[0].program)
    assert (focused == 0).double().mean() > 0.5


def test_broad_weights_differ_by_at_most_the_factor():
    weights = weights_of(find("broad")("encoder", cap=0.5).assignments[0].program)
    assert (weights.amax(-1) / weights.amin(-1) <= 2.71829).all()


def test_heads_of_the_hierarchy_see_twice_as_far_from_one_to_the_next():
    seen = weights_of(find("hierarchical")("encoder", nearest_range=2).assignments[0].program) > 0
    assert [int(row.sum()) for row in seen[0, :, 12]] == [5, 9, 17, 24]


def test_anchors_see_and_are_seen():
    program = find("anchored")("encoder", window=2, anchors=3).assignments[0].program
    seen = weights_of(program)[0, 0] > 0
    assert seen[:, :3].all() and seen[:3].all() and not seen[10, 15]


def test_a_structure_counts_by_its_steps():
    program = READY["structured"].programs["encoder"]
    counts = torch.zeros(1, 16, dtype=torch.float64)
    counts[0, 2] = 50.0
    steps = torch.zeros(1, 1, 24, 24)
    steps[..., 7] = 2
    document = torch.ones(1, 24)
    features = {"document_q": document, "document_k": document}
    weights = weights_of(program, heads=1, counts=counts, steps=steps, **features)
    assert (weights[..., 7] > 0.99).all()


def test_selective_may_attend_to_nothing():
    program = READY["selective"].programs["encoder"]
    weights = weights_of(program, sink=torch.full((4,), 30.0, dtype=torch.float64))
    assert weights.sum(-1).max() < 1e-6


def test_contrastive_weights_sum_to_one_and_may_be_negative():
    weights = weights_of(READY["contrastive"].programs["encoder"], share=torch.zeros(4).double())
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 24, dtype=torch.float64))
    assert (weights < 0).any()


def test_aligned_leans_to_the_diagonal():
    program = READY["aligned"].programs["cross"]
    units, lean = torch.zeros(4, 8).double(), torch.full((4,), 3.0).double()
    weights = weights_of(program, units=units, lean=lean)
    assert torch.equal(weights[0, 0].argmax(-1), torch.arange(24))


def test_unknown_mode_leads_to_the_nearest():
    with pytest.raises(rg.InputError, match=r"no ready mode 'focussed'.*focused"):
        find("focussed")


def test_unknown_knob_leads_to_the_nearest():
    with pytest.raises(rg.InputError, match=r"'windw' is no knob of mode local.*window"):
        find("local")(windw=3)


def test_a_role_it_has_nothing_for_is_refused():
    with pytest.raises(rg.InputError, match="mode aligned has nothing for role 'decoder'"):
        find("aligned")("decoder")


@pytest.mark.parametrize(
    ("task", "among_first"),
    [
        ("long contracts where a few phrases decide", {"focused", "anchored"}),
        ("Translation of interface strings", {"aligned"}),
        ("tagging the parts of an address", {"local"}),
        ("a language model of novels", {"sequential", "anchored"}),
        ("which keyword triggers an alarm", {"selective", "focused"}),
        ("recall a fact, needle in a haystack", {"associative"}),
        ("parse HTML tables and nested sections", {"structured"}),
    ],
)
def test_words_lead_to_modes_with_reasons(task, among_first):
    found = suggest(task)
    assert {one.mode.name for one in found[:2]} & among_first
    assert all(one.reasons for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_unknown_words_suggest_nothing():
    assert suggest("qwertz") == []


@pytest.mark.parametrize("task", ["", "  ", None])
def test_a_task_must_be_told(task):
    with pytest.raises(rg.InputError, match="tell the task in words"):
        suggest(task)


def test_cues_speak_for_modes_that_exist_and_for_each_of_them():
    named = {name for cue in CUES for name in cue.reasons}
    assert named == set(READY)
