import pytest
import torch

from regard import hf
from regard.hf.cheaper.candidates import FIRST, candidates_for
from regard.hf.cheaper.layers import find_layers, mode_of
from regard.hf.cheaper.look import look
from regard.hf.cheaper.price import price
from tests.hf.cheaper.tiny import TOKENS, bert, llama, text

CANDIDATES = candidates_for(TOKENS)
LOCAL = next(at for at, one in enumerate(CANDIDATES) if one.name == "local 32")


def quiet(line):
    pass


@pytest.fixture(scope="module", params=[llama, bert])
def seen(request):
    model, ids = request.param(), text(2)
    layers = find_layers(model, CANDIDATES, ids[:1])
    return model, ids, layers, look(model, layers, CANDIDATES, ids, quiet)


def test_the_weights_kept_are_those_within_the_window(seen):
    model, ids, _, looks = seen
    with torch.no_grad(), hf.observe(model, ["weights"]) as dense:
        model(input_ids=ids)
    causal = not hasattr(model, "pooler")
    i, j = torch.arange(TOKENS)[:, None], torch.arange(TOKENS)
    near = (i - j < 32) if causal else ((i - j).abs() <= 16) | (i < FIRST)
    for weights, one in zip(dense["weights"], looks, strict=True):
        expected = (weights * (near | (j < FIRST))).sum(-1).mean((0, 2))
        assert torch.allclose(one.kept[LOCAL].float(), expected, atol=1e-5)


def test_the_model_itself_errs_nothing_and_a_wider_window_less(seen):
    _, _, layers, looks = seen
    for layer, one in zip(layers, looks, strict=True):
        assert one.error.shape == (len(CANDIDATES), layer.units)
        assert (one.error[0] == 0).all() and (one.kept[0] == 1).all()
        assert (one.error[1:] > 0).all()
        assert one.kept[-1].isnan().all()


def test_the_error_is_that_of_the_layers_output(seen):
    model, ids, layers, looks = seen
    # Of the first layer, whose input is the same whatever it runs.
    path = layers[0].output
    found = []
    hook = model.get_submodule(path).register_forward_hook(lambda m, a, out: found.append(out))
    state = ((LOCAL,) * layers[0].units, (0,) * layers[1].units)
    with torch.no_grad():
        model(input_ids=ids)
        hf.apply(model, mode_of(layers, CANDIDATES, state))
        model(input_ids=ids)
    hook.remove()
    hf.restore(model)
    model.set_attn_implementation("regard")
    bias = getattr(model.get_submodule(path), "bias", None)
    own = found[0] - (0 if bias is None else bias.detach())
    expected = (found[1] - found[0]).square().sum() / own.square().sum()
    # Errors of units may add up or cancel each other behind the projection.
    together = float(looks[0].error[LOCAL].sum())
    assert 0.4 < together / float(expected) < 2.5


def test_a_look_leaves_the_model_as_it_was(seen):
    model, ids, _, _ = seen
    fresh = (llama if not hasattr(model, "pooler") else bert)()
    with torch.no_grad():
        assert torch.allclose(model(input_ids=ids)[0], fresh(input_ids=ids)[0], atol=1e-4)
    assert not hasattr(model, "regard_mode")


def test_every_candidate_is_timed_for_every_number_of_units(seen):
    model, ids, layers, _ = seen
    found = price(model, layers, ids[:1], quiet)
    assert found.kinds == [0, 0]
    (table,) = found.times
    assert [len(row) for row in table] == [1 + layers[0].units] * len(CANDIDATES)
    assert all(row[0] == 0 and min(row[1:]) > 0 for row in table)
