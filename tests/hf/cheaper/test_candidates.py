import pytest
import torch

import regard as rg
from regard.hf.cheaper.candidates import FIRST, candidates_for
from regard.hf.own import Own

OWN = Own(0.5)
ROWS = torch.randn(1, 1, 200, 4, generator=torch.Generator().manual_seed(0))


def weights(program):
    _, seen = rg.attend(program, ROWS, ROWS, ROWS, backend="reference", observe=["weights"])
    return seen["weights"][0, 0]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("one", candidates_for(200)[1:-1], ids=lambda one: one.name)
def test_weights_are_the_models_own_within_reach(one, causal):
    own, found = (weights(c.make(OWN, causal)) for c in (candidates_for(200)[0], one))
    away = torch.arange(200)[:, None] - torch.arange(200)
    seen = found > 0
    anchored = torch.arange(200)[None] < FIRST
    if not causal:
        anchored = anchored | anchored.T
    reached = (away if causal else 2 * away.abs())[seen & ~anchored]
    assert one.reach // 2 <= reached.max() < one.reach + (0 if causal else 64)
    kept = own * seen
    assert torch.allclose(found, kept / kept.sum(1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("one", candidates_for(64), ids=lambda one: one.name)
def test_candidates_of_decoders_are_proved_causal(one):
    program = one.make(OWN, True)
    found = rg.check(program, ["causal", "never empty"])
    assert {answer.status for answer in found} <= {"proved"}


def test_only_what_reaches_half_the_text_is_tried():
    reaches = [one.reach for one in candidates_for(128) if one.kind in ("local", "sparse")]
    assert reaches == [32, 64]
