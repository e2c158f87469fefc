"""Subwords: byte-pair encoding learned from the training pairs, as a Hugging Face tokenizer."""

from collections.abc import Iterable

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

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
