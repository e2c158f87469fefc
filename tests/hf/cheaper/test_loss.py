import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from regard.hf.cheaper.loss import Yardstick, _interval
from tests.hf.cheaper.tiny import bert, llama, text


@torch.no_grad()
def perplexity(model, pieces):
    losses = [cross_entropy(model(ids[None]).logits[0, :-1], ids[1:]) for ids in pieces]
    return math.exp(sum(losses) / len(losses))


def test_a_decoder_loses_what_its_perplexity_grows_by():
    one, two, pieces = llama(), llama(), text(3)
    with torch.no_grad():
        two.lm_head.weight.mul_(1.2)
    found = Yardstick(one, True, None).loss(two, pieces)
    assert found.was == pytest.approx(perplexity(one, pieces))
    assert found.now == pytest.approx(perplexity(two, pieces))
    assert found.mean == pytest.approx(found.now / found.was - 1)
    assert found.upper > found.mean > 0


def test_an_encoder_loses_what_its_embeddings_turn_by():
    one, two, ids = bert(), bert(), text(1)
    with torch.no_grad():
        two.encoder.layer[1].output.dense.weight.mul_(0.5)
        rows = [model(input_ids=ids).last_hidden_state.mean(1)[0] for model in (one, two)]
    cosine = torch.dot(*rows) / (rows[0].norm() * rows[1].norm())
    found = Yardstick(one, False, None).loss(two, ids)
    assert found.mean == pytest.approx(1 - float(cosine), abs=1e-6)
    assert found.upper == math.inf, "one piece says nothing of others"


def test_a_metric_loses_its_share():
    scores = iter([0.8, 0.4, 0.6, 0.5])
    one, two = llama(), llama()
    found = Yardstick(one, True, lambda model, ids: next(scores)).loss(two, text(2))
    # Read pairwise: the original's 0.8 and 0.6, the other's 0.4 and 0.5.
    assert (found.was, found.now) == (pytest.approx(0.7), pytest.approx(0.45))
    assert found.mean == pytest.approx(0.25 / 0.7)


def test_the_original_is_read_once():
    read, one, two = [], llama(), llama()

    def metric(model, ids):
        read.append(model)
        return 1.0

    yardstick = Yardstick(one, True, metric)
    yardstick.loss(two, text(3))
    yardstick.loss(two, text(3))
    assert sum(model is one for model in read) == 3


@pytest.mark.parametrize(("pieces", "student"), [(5, 2.132), (8, 1.895), (16, 1.753), (31, 1.697)])
def test_the_bound_is_students(pieces, student):
    values = torch.randn(pieces, generator=torch.Generator().manual_seed(0)).double()
    mean, upper = _interval(values.tolist())
    wide = student * float(values.std()) / math.sqrt(pieces)
    assert mean == pytest.approx(float(values.mean()))
    assert upper - mean == pytest.approx(wide, rel=0.01)
