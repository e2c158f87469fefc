"""The loss: what it averages over, and what it leaves out."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from regard.learners import learner_class
from regard.learners.batches import IGNORED
from tests.train.tiny import make_task


def smoothed_loss(folder, smoothing):
    task = make_task(folder, training={"label_smoothing": smoothing})
    return learner_class(task)(task, None).loss


def test_loss_is_the_mean_over_real_tokens(tmp_path):
    logits, labels = torch.randn(2, 3, 7), torch.tensor([[1, 2, IGNORED], [3, IGNORED, IGNORED]])
    found = smoothed_loss(tmp_path, 0.1)(SimpleNamespace(logits=logits), labels)
    real = logits[labels != IGNORED].log_softmax(-1)
    right = real.gather(1, torch.tensor([[1], [2], [3]]))[:, 0]
    torch.testing.assert_close(found, -(0.9 * right + 0.1 * real.mean(1)).mean())


def test_loss_of_a_batch_in_parts_is_divided_by_the_tokens_of_all_parts(tmp_path):
    logits, labels = torch.randn(1, 2, 5), torch.tensor([[1, 4]])
    found = smoothed_loss(tmp_path, 0.0)(
        SimpleNamespace(logits=logits), labels, num_items_in_batch=8
    )
    torch.testing.assert_close(found, F.cross_entropy(logits[0], labels[0]) / 4)
