"""What gates choose from: candidates by place, and every candidate that fits nowhere."""

import pytest
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

import regard as rg
from regard.customise.gates.offers import find_offers, space_of
from regard.errors import InputError, UnsupportedError
from regard.modes import Assignment, Mode

PLAIN = rg.catalogue.scaled_dot_product.program
CAUSAL = rg.catalogue.causal.program
NEAR = rg.modes.find("local")("encoder", window=1)


def bert(heads=4, layers=2):
    config = BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=8, max_position_embeddings=16,
    )  # fmt: skip
    return BertModel(config)


def llama():
    config = LlamaConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=8,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_each_head_of_each_layer_is_offered_every_candidate():
    found = find_offers(bert(), {"plain": PLAIN, "near": NEAR})
    assert [place.layer for _, place, _ in found.values()] == [0, 1]
    for _, _, gates in found.values():
        assert [one.heads for one in gates] == [(0, 1), (1, 2), (2, 3), (3, 4)]
        assert all(list(one.programs) == ["plain", "near"] for one in gates)


def test_heads_fall_into_as_many_groups_as_asked():
    found = find_offers(bert(), {"plain": PLAIN, "near": NEAR}, head_groups=2)
    spans = [[one.heads for one in gates] for _, _, gates in found.values()]
    assert spans == [[(0, 2), (2, 4)]] * 2


def test_heads_that_share_keys_share_a_gate():
    near = rg.modes.find("local")("decoder", window=2)
    ((_, _, gates),) = find_offers(llama(), {"plain": CAUSAL, "near": near}).values()
    assert [one.heads for one in gates] == [(0, 2), (2, 4)]
    with pytest.raises(InputError, match=r"head_groups=4: .* split a key head"):
        find_offers(llama(), {"plain": CAUSAL, "near": near}, head_groups=4)


def test_a_mode_offers_what_it_runs_in_each_place():
    mixed = Mode(
        "mixed",
        "",
        [
            Assignment("encoder", PLAIN),
            Assignment("encoder", NEAR.assignments[0].program, layers=(1, 2), heads=(2, 4)),
        ],
    )
    found = find_offers(bert(), {"plain": PLAIN, "mixed": mixed})
    names = [[list(one.programs) for one in gates] for _, _, gates in found.values()]
    # Of equal programs the first name stands.
    assert names == [[["plain"]] * 4, [["plain"]] * 2 + [["plain", "mixed"]] * 2]
    with pytest.raises(InputError, match=r"'mixed' runs 2 programs in heads 0:4.*more head_groups"):
        find_offers(bert(), {"plain": PLAIN, "mixed": mixed}, head_groups=1)


def test_a_space_of_a_model_has_its_layers_and_heads():
    roles = space_of(bert()).roles
    assert {role: (one.layers, one.heads) for role, one in roles.items()} == {"encoder": (2, 4)}
    model = bert()
    model.encoder.layer[1].attention.self.num_attention_heads = 2
    with pytest.raises(UnsupportedError, match="have from 2 to 4 heads"):
        space_of(model)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({}, "candidates are modes or programs by name; none was given"),
        ([PLAIN, NEAR], "candidates are modes or programs by name; none was given"),
        ({"plain": PLAIN, "x": "local"}, "candidate 'x': a mode or a program belongs here"),
        ({"plain": PLAIN, "same": PLAIN}, "candidates 'plain' and 'same' are the same"),
        ({"plain": PLAIN}, "leave no gate a choice"),
        (
            {"plain": PLAIN, "aligned": rg.modes.find("aligned")("cross")},
            "candidate 'aligned': .* role 'cross', which this model lacks",
        ),
        (
            {"a": PLAIN, "b": Mode("b", "", [Assignment("encoder", PLAIN, layers=(0, 3))])},
            "candidate 'b': .*layers 0:3",
        ),
    ],
)
def test_candidates_that_do_not_fit_are_refused(candidates, message):
    with pytest.raises(InputError, match=message):
        find_offers(bert(), candidates)


def test_what_is_not_proved_causal_is_no_candidate_for_a_decoder():
    with pytest.raises(
        InputError, match=r"candidate 'plain': not fit for role 'decoder': .*<= pair\.i"
    ):
        find_offers(llama(), {"causal": CAUSAL, "plain": PLAIN})
    mode = Mode("later", decoder=PLAIN)
    with pytest.raises(InputError, match="candidate 'later': not fit for role 'decoder'"):
        find_offers(llama(), {"causal": CAUSAL, "later": mode})


def test_every_place_of_a_role_is_offered_something():
    first = Mode("first", "", [Assignment("encoder", PLAIN, layers=(0, 1))])
    near = Mode("near", "", [Assignment("encoder", NEAR.assignments[0].program, layers=(0, 1))])
    with pytest.raises(InputError, match=r"no candidate says what heads 0:1 of .*layer\.1"):
        find_offers(bert(), {"first": first, "near": near})


@pytest.mark.parametrize("groups", [0, 5, 1.5, True])
def test_groups_of_heads_are_whole_numbers(groups):
    with pytest.raises(InputError, match="must be a whole number from 1 to 4"):
        find_offers(bert(), {"plain": PLAIN, "near": NEAR}, head_groups=groups)
