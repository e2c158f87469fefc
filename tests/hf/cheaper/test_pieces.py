import pytest
import torch

from regard.errors import DataError
from regard.hf.cheaper import Pieces, cut
from tests.hf.cheaper.tiny import text


class Tokenizer:
    """A letter is a token; 1 stands before a text and 2 after it."""

    def __call__(self, given, add_special_tokens=True, verbose=True):
        ids = [ord(letter) for letter in given]
        return {"input_ids": [1, *ids, 2] if add_special_tokens else ids}


def letters(count, seed):
    drawn = torch.Generator().manual_seed(seed)
    return "".join(chr(97 + int(x)) for x in torch.randint(26, (count,), generator=drawn))


def test_texts_become_pieces_with_special_tokens_around_each():
    words = letters(1000, 0)
    pieces = cut(Tokenizer(), words, 12)
    whole = torch.cat([pieces.train, pieces.choose, pieces.held_out])
    assert whole.shape == (100, 12)
    assert (whole[:, 0] == 1).all() and (whole[:, -1] == 2).all()
    # The end of the text is held out, in its order.
    last = "".join(chr(x) for x in pieces.held_out[:, 1:-1].flatten())
    assert words.endswith(last) and len(pieces.held_out) == 16


def test_no_piece_is_in_two_parts():
    pieces = Pieces.of(text(40))
    parts = [{tuple(row) for row in part.tolist()} for part in vars(pieces).values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 40


def test_other_texts_may_be_held_out():
    pieces = cut(Tokenizer(), [letters(300, 1), letters(300, 2)], 12, held_out=letters(90, 3))
    assert len(pieces.held_out) == 9 and len(pieces.train) + len(pieces.choose) == 60


def test_held_out_texts_that_stand_among_the_others_are_refused():
    words = letters(9000, 4)
    with pytest.raises(DataError, match="of what is held out stands among the other texts"):
        cut(Tokenizer(), words, 202, held_out=words[333:])
    ids = text(20)
    with pytest.raises(DataError, match="100% of what is held out"):
        Pieces(ids[:10], ids[10:], ids[5:7])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: cut(Tokenizer(), "short", 12), "texts have 5 tokens; a piece takes 10"),
        (lambda: cut(Tokenizer(), letters(40, 0), 12), "there are 4 pieces; at least 6"),
        (lambda: cut(Tokenizer(), letters(40, 0), 4), "at least 8 tokens, not 4"),
        (lambda: cut(Tokenizer(), [b"bytes"], 12), "texts must be texts, not bytes"),
        (lambda: Pieces(text(3).float(), text(3), text(3)), "train must be whole numbers"),
        (lambda: Pieces(text(3), text(3), text(0)), "held_out holds 0 pieces"),
        (lambda: Pieces(text(3), text(1), text(3)), "choose holds 1 pieces"),
        (lambda: Pieces(text(3), text(3), text(3, 50)), "held_out has pieces of 50 tokens"),
    ],
)
def test_unusable_text_is_refused(call, said):
    with pytest.raises(DataError, match=said):
        call()
