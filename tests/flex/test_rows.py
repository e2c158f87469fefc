"""What cannot be done with a row that indexing a captured tensor leaves."""

import re

import pytest
import torch

import regard as rg

TABLE = torch.randn(4, 18, 6)
WIDE = torch.randn(18, 300)

MISTAKES = {
    "two axes": (lambda s, h, i: s + TABLE[h].sum(), "2 axes of a captured tensor are not indexed"),
    "widths": (lambda s, h, i: s + (TABLE[h, i] * WIDE[i]).sum(), "rows of 6 and 300 values"),
    "widths of a dot product": (
        lambda s, h, i: s + torch.dot(TABLE[h, i], WIDE[i]), "torch.dot of rows of 6 and 300 values"
    ),
    "too wide": (lambda s, h, i: s + WIDE[i].amax(), "a row of 300 values can be summed, but"),
    "a step": (
        lambda s, h, i: s + (TABLE[h, i] * 2)[::2].sum(), "only slices without a step can be summed"
    ),
    "an index": (
        lambda s, h, i: s + (TABLE[h, i] * 2)[i], "a row of 6 computed values cannot be indexed by"
    ),
    "no row": (lambda s, h, i: s + torch.dot(s, s), "torch.dot takes a row, such as tensor[b, h,"),
    "another axis": (lambda s, h, i: s + TABLE[h, i].unsqueeze(0).sum(), "a row has one axis"),
    "a dim": (lambda s, h, i: s + TABLE[h, i].sum(dim=1), "dim=1 of a row, which has one axis"),
    "places": (lambda s, h, i: s + TABLE[h, i].max(dim=0), "write torch.amax(row, dim)"),
    "a shape": (lambda s, h, i: s.view(2, 3), "shape (2, 3): a pair's value is a number or a row"),
    "a shape of a row": (lambda s, h, i: s + TABLE[h, i].view(2, 3).sum(), "shape (2, 3): a pair"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_what_has_no_meaning_for_a_row_is_refused(name):
    function, message = MISTAKES[name]
    with pytest.raises(rg.ProgramError, match=re.escape(message)):
        rg.from_flex(lambda score, b, h, q_idx, kv_idx: function(score, h, q_idx))


def test_rows_tell_their_shape_and_dtype():
    def mod(score, b, h, q_idx, kv_idx):
        rest, row = TABLE[h], TABLE[h, q_idx]
        assert (rest.shape, rest.ndim, row.shape, len(row)) == ((18, 6), 2, (6,), 6)
        assert row.dtype == torch.float32
        assert (row > 0).dtype == torch.bool
        assert row.device == score.device
        assert [part.shape for part in row] == [()] * 6
        assert row[...] is not None
        assert repr(row * 2) == "<traced tensor of shape (6,)>"
        assert repr(score) == "<traced 0-d tensor, torch.float32>"
        return score + (row * 2)[1:3].sum() + row.view(6).reshape(-1)[-1]

    assert rg.from_flex(mod).program.name == "mod"
