"""The tokenizer: ends texts, gives them back, and is the same each time."""

import pytest

from regard.learners.tokenizer import (
    END,
    PAD,
    UNKNOWN,
    train_byte_tokenizer,
    train_tokenizer,
    train_word_tokenizer,
)

TEXTS = ["Insert a new row", "Insère une nouvelle ligne", "Delete the row: all of it"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 80)


@pytest.mark.parametrize("text", ["Insert a row", "une ligne : nouvelle", "trow ins"])
def test_text_survives_encoding_and_decoding(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[-1] == tokenizer.convert_tokens_to_ids(END)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_padding_comes_first_so_that_marian_can_start_with_it(tokenizer):
    assert [tokenizer.convert_tokens_to_ids(token) for token in (PAD, END, UNKNOWN)] == [0, 1, 2]


def test_letter_never_seen_is_unknown(tokenizer):
    assert tokenizer.convert_tokens_to_ids(UNKNOWN) in tokenizer("row Ж")["input_ids"]


@pytest.mark.parametrize("learn", [train_tokenizer, train_word_tokenizer, train_byte_tokenizer])
def test_same_texts_give_the_same_subwords(learn):
    texts = [*TEXTS, " ".join(f"word{k} {k}th" for k in range(200))]
    first = learn(texts, 400).get_vocab()
    assert all(learn(texts, 400).get_vocab() == first for _ in range(4))


def test_subwords_of_two_texts_end_with_words_and_say_which_is_which():
    tokenizer = train_word_tokenizer([*TEXTS, "a (row); a (row), a (line)."], 200)
    found = tokenizer("a (row)", "line; row")
    assert tokenizer.convert_ids_to_tokens(found["input_ids"]) == [
        "▁a", "▁(", "▁row", "▁)", END, "▁line", "▁;", "▁row", END
    ]  # fmt: skip
    assert found["token_type_ids"] == [0] * 5 + [1] * 4


def test_size_is_the_most_there_can_be(tokenizer):
    assert len(train_tokenizer(TEXTS, 40)) == 40
    assert len(train_tokenizer(TEXTS, 10_000)) == len(tokenizer) < 80
