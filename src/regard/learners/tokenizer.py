"""Subwords: those of a pretrained model, or byte-pair encoding learned from the training rows."""

import os
from collections.abc import Iterable
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

from regard.errors import FileError

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


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
