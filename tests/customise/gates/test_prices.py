"""What gates are charged: predicted times of programs, and a term of the loss."""

import pytest
import torch

import regard as rg
from regard.customise.gates.model import GatedModel
from regard.customise.gates.prices import charge_for, prices_of
from regard.ops import predict
from regard.ops.predict import Prices, keep_prices
from regard.search import Batch
from regard.search.predict import _cost
from tests.customise.gates.test_model import CANDIDATES, bert


@pytest.fixture(autouse=True)
def _priced(tmp_path, monkeypatch):
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(predict, "_known", {})
    keep_prices("tiled", torch.float32, Prices(1e-11, 1e-9, 1e-10, 0.0, 0.0, 0.0, 0.0))
    _cost.cache_clear()


def test_prices_are_shares_of_the_dearest_mode():
    gated = GatedModel(bert(), CANDIDATES, head_groups=2)
    prices = torch.tensor(prices_of(gated, Batch(2, 64, width=2, backend="tiled")))
    assert prices.shape == (2, 2, 3)
    assert prices.amax(-1).sum().item() == pytest.approx(1.0)
    choices = gated.layers[0][1].choices
    plain = choices.index(rg.catalogue.scaled_dot_product.program)
    assert (prices > 0).all() and (prices[..., plain] < prices.amax(-1)).all()


def test_the_charge_is_the_expected_price():
    prices = [[[0.4, 0.1], [0.6, 0.0]]]
    shares = torch.tensor([[0.5, 0.5], [0.25, 0.75]], requires_grad=True)
    charged = charge_for(prices, 2.0)([shares])
    assert charged.item() == pytest.approx(2 * (0.2 + 0.05 + 0.15))
    charged.backward()
    torch.testing.assert_close(shares.grad, 2 * torch.tensor(prices[0]))
