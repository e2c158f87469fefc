"""Subwords: those of a pretrained model, or byte-pair encoding learned from the training rows."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from regard.errors import FileError, TaskError

PAD, END, UNKNOWN, MASK = "<pad>", "</s>", "<unk>", "<mask>"


def train_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Learn subwords.

    Args:
        texts: Sources and targets of the training pairs; both languages share one vocabulary.
        size: How many subwords at most.

    Returns:
        A tokenizer that ends each text with `END`.
    """
    subwords = Tokenizer(models.BPE(unk_token=UNKNOWN))
    subwords.normalizer = normalizers.NFC()
    subwords.pre_tokenizer = pre_tokenizers.Metaspace()
    subwords.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, END, UNKNOWN], show_progress=False
    )
    subwords.train_from_iterator(texts, trainer)
    subwords.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, subwords.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=subwords,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def train_word_tokenizer(
    texts: Iterable[str], size: int, mask: bool = False
) -> PreTrainedTokenizerFast:
    """Learn subwords that end where words and punctuation do, for models that read two texts.

    Args:
        texts: Those of the training records.
        size: How many subwords at most.
        mask: Whether there is a mask among them.

    Returns:
        A tokenizer that ends each of two texts with `END` and says which one a token is of.
    """
    subwords = Tokenizer(models.BPE(unk_token=UNKNOWN))
    subwords.normalizer = normalizers.NFC()
    # Words and marks are cut first, so that no subword holds parts of both.
    subwords.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace()]
    )
    subwords.decoder = decoders.Metaspace()
    marks = [PAD, END, UNKNOWN, *([MASK] if mask else [])]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=marks, show_progress=False)
    subwords.train_from_iterator(texts, trainer)
    subwords.post_processor = processors.TemplateProcessing(
        single=f"$A {END}",
        pair=f"$A {END} $B:1 {END}:1",
        special_tokens=[(END, subwords.token_to_id(END))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=subwords,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        **({"mask_token": MASK} if mask else {}),
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def train_byte_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Learn subwords of bytes, of which any text consists, so that no letter is unknown.

    Args:
        texts: Those of the training records.
        size: How many subwords at most, the 256 bytes and three marks among them.

    Returns:
        A tokenizer with a mask, and an end that it puts after each text where marks are asked for,
        so that its model may go on to tasks of labels, also of two texts.

    Raises:
        TaskError: If there is no room for the bytes.
    """
    marks, alphabet = [PAD, END, MASK], pre_tokenizers.ByteLevel.alphabet()
    if size < len(marks) + len(alphabet):
        raise TaskError(
            f"tokenizer.size is {size}; the bytes of texts and three marks need "
            f"{len(marks) + len(alphabet)} or more"
        )
    subwords = Tokenizer(models.BPE())
    subwords.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    subwords.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    subwords.train_from_iterator(texts, trainer)
    subwords.post_processor = processors.TemplateProcessing(
        single=f"$A {END}",
        pair=f"$A {END} $B {END}",
        special_tokens=[(END, subwords.token_to_id(END))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=subwords,
        pad_token=PAD,
        eos_token=END,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
    )


def words_as_in_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Return the words of texts so that they are cut into the subwords they have in a text.

    Args:
        tokenizer: One that is given words one by one.
        texts: For each its words.

    Returns:
        The words; for a tokenizer whose subwords begin with the blank before them, each but the
        first of a text with a blank in front.
    """
    whole, apart = tokenizer("a b"), tokenizer(["a", "b"], is_split_into_words=True)
    if whole["input_ids"] == apart["input_ids"]:
        return [list(words) for words in texts]
    return [[*words[:1], *(f" {word}" for word in words[1:])] for words in texts]


def read_tokenizer(folder: str | os.PathLike) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model; runs no code from the folder.

    Args:
        folder: A folder that holds tokenizer.json.

    Returns:
        The tokenizer.

    Raises:
        FileError: If there is none, or it cannot be read.
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        raise FileError(f"{folder}: no tokenizer.json; is this the folder of a model?")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # transformers and what it reads files with share no class of errors.
    except Exception as problem:
        raise FileError(f"{folder}: the tokenizer does not load: {problem}") from None
