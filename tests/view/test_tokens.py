import pytest

from regard.view.fonts import fit_fonts, text_width, wrap_words
from regard.view.tokens import clean_tokens


@pytest.mark.parametrize(
    ("tokens", "labels"),
    [
        (["▁The", "▁inter", "national", "▁", "</s>"], ["The", "inter", "·national", "␣", "</s>"]),
        (["The", "Ġna", "Ã¯", "Ċ", "<|end|>"], ["The", "na", "·ï", "·␣", "<|end|>"]),
        (
            ["[CLS]", "un", "##believ", "##able", "[SEP]"],
            ["[CLS]", "un", "·believ", "·able", "[SEP]"],
        ),
        (["un@@", "believ@@", "able", "."], ["un", "·believ", "·able", "."]),
        (["un", "able</w>", "now</w>", "</s>"], ["un", "·able", "now", "</s>"]),
        (["plain", "words", "", "a b", "<", "[]"], ["plain", "words", "␣", "a␣b", "<", "[]"]),
        (["Ġ日", "Ġok"], ["日", "ok"]),
    ],
    ids=["sentencepiece", "bytes", "wordpiece", "at-signs", "word-ends", "none", "not bytes"],
)
def test_markers_of_tokenizers_are_cleaned(tokens, labels):
    assert clean_tokens(tokens) == labels


def test_first_piece_joins_nothing():
    assert clean_tokens(["national", "▁week"]) == ["national", "week"]


def test_broken_bytes_become_the_replacement_character():
    assert clean_tokens(["ĠÃ"]) == ["\ufffd"]


def test_long_token_is_cut():
    assert clean_tokens(["▁" + "a" * 30], longest=6) == ["aaaaa…"]


def test_letters_without_a_font_become_boxes():
    text, families = fit_fonts("a\U000e0041\U0010fffd")
    assert text == "a□□" and families[0] == "DejaVu Sans"


def test_words_are_wrapped_by_their_width():
    lines = wrap_words("one two three four", 8.0, text_width("one two", 8.0))
    assert lines == ["one two", "three", "four"]
    assert wrap_words("", 8.0, 1.0) == []
    assert wrap_words("incomprehensibilities", 8.0, 0.1) == ["incomprehensibilities"]
