"""R-Drop: its loss beside the paper's formula, and what a trainer makes of it."""

from types import SimpleNamespace

import pytest
import torch

from regard.errors import TaskError
from regard.learners import learner_class
from regard.learners.batches import IGNORED
from regard.train.r_drop import RDrop, check_r_drop, divergence, twice
from tests.learners.test_loss import smoothed_loss
from tests.train.tiny import make_task


def test_a_batch_follows_itself():
    found = twice({"labels": torch.tensor([1, 2]), "other": 3})
    assert found["labels"].tolist() == [1, 2, 1, 2] and found["other"] == 3


def by_hand(first, second, labels, alpha):
    """Equations 2 to 4 of the paper, position by position; the cross-entropies are averaged."""
    losses = []
    for p_logits, q_logits, label in zip(first, second, labels, strict=True):
        if label == IGNORED:
            continue
        p, q = p_logits.softmax(0), q_logits.softmax(0)
        apart = (p * (p / q).log()).sum() / 2 + (q * (q / p).log()).sum() / 2
        learned = -(p[label].log() + q[label].log()) / 2
        losses.append(learned + alpha * apart)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("items", [None, 3])
def test_loss_is_that_of_the_paper(tmp_path, items):
    logits = torch.randn(4, 2, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 4], [IGNORED, 0]]).repeat(2, 1)
    loss = RDrop(smoothed_loss(tmp_path, 0.0), alpha=0.7)
    found = loss(SimpleNamespace(logits=logits), labels, num_items_in_batch=items)
    first, second = logits.flatten(0, 1).chunk(2)
    wanted = by_hand(first, second, labels[:2].flatten(), 0.7)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-7)
    (got,) = torch.autograd.grad(found, logits, retain_graph=True)
    (right,) = torch.autograd.grad(wanted, logits)
    torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-7)


def test_passes_that_agree_are_not_apart():
    logits = torch.randn(2, 5).repeat(2, 1)
    assert divergence(logits, torch.tensor([1, 2, 1, 2])) == 0


def test_tasks_of_another_loss_are_refused(tmp_path):
    task = make_task(tmp_path, training={"r_drop": 1.0})
    kind = learner_class(task)
    check_r_drop(kind(task, None))

    class Ranking(kind):
        def loss(self, outputs, labels, num_items_in_batch=None):
            return outputs.logits.sum()

    with pytest.raises(TaskError, match=r"training\.r_drop: it compares probabilities of labels"):
        check_r_drop(Ranking(task, None))
