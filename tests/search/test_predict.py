"""The predicted cost of a mode, by prices that a test sets."""

import pytest
import torch

import regard as rg
from regard.errors import InputError
from regard.modes import Assignment, Mode
from regard.ops import predict
from regard.ops.predict import Prices, keep_prices
from regard.search import Batch, Layers, Space, predict_cost
from regard.search.predict import _cost

SPACE = Space({"encoder": Layers(2, 4, 1, 2), "cross": Layers(1, 4)})
BATCH = Batch(size=2, queries=256, width=16, backend="tiled")


@pytest.fixture(autouse=True)
def _priced(tmp_path, monkeypatch):
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(predict, "_known", {})
    keep_prices("tiled", torch.float32, Prices(1e-11, 1e-9, 1e-10, 0.0, 0.0, 0.0, 0.0))
    _cost.cache_clear()


def mode_of(encoder, cross=rg.catalogue.scaled_dot_product.program):
    return Mode("m", encoder=encoder, cross=cross)


def test_layers_and_head_groups_add_up():
    plain = rg.catalogue.scaled_dot_product.program
    whole = predict_cost(mode_of(plain), SPACE, BATCH)
    alone = predict_cost(mode_of(plain), Space({"encoder": Layers(1, 4)}), BATCH)
    assert whole.seconds == pytest.approx(3 * alone.seconds)
    halves = [Assignment("encoder", plain, heads=(0, 2)), Assignment("cross", plain)]
    halves.append(
        Assignment(
            "encoder", rg.modes.find("broad")("encoder").assignments[0].program, heads=(2, 4)
        )
    )
    assert whole.seconds < predict_cost(Mode("m", "", halves), SPACE, BATCH).seconds


def test_what_does_more_costs_more_and_learned_numbers_take_room():
    plain, focused, reader = (
        predict_cost(mode_of(program), SPACE, BATCH)
        for program in (
            rg.catalogue.scaled_dot_product.program,
            rg.modes.find("focused")("encoder").assignments[0].program,
            rg.modes.find("reader")("encoder").assignments[0].program,
        )
    )
    assert plain.seconds < focused.seconds
    # Two layers of 4 heads with 32 numbers each, their gradients and two moments.
    assert reader.bytes - plain.bytes == 2 * 4 * 32 * 4 * 4


def test_a_window_is_cheaper_on_long_texts_and_short_texts_to_read_in_cross_attention():
    long = Batch(size=1, queries=2048, width=16, backend="tiled")
    near = rg.modes.find("local")("encoder", window=16).assignments[0].program
    plain = rg.catalogue.scaled_dot_product.program
    alone = Space({"encoder": Layers(1, 4)})
    costs = [predict_cost(mode_of(program), alone, long).seconds for program in (near, plain)]
    assert costs[0] < 0.7 * costs[1]
    short = Batch(size=1, queries=2048, keys=128, width=16, backend="tiled")
    across = Space({"cross": Layers(1, 4)})
    assert predict_cost(mode_of(plain), across, short).seconds < 0.2 * costs[1]


def test_a_backend_that_nobody_counts_is_named():
    with pytest.raises(InputError, match="nobody counts what backend 'reference' does"):
        predict_cost(
            mode_of(rg.catalogue.scaled_dot_product.program), SPACE, Batch(backend="reference")
        )
