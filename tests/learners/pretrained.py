"""Folders of tiny models with random weights, as if they had been pretrained on the toy texts."""

from pathlib import Path

import torch
import transformers as t

from regard.learners.tokenizer import train_tokenizer
from regard.train import save_model
from tests.learners.test_labels import sentences

TOKENIZER = train_tokenizer([" ".join(words) for words, _ in sentences()], 80)
WORDS = len(TOKENIZER)
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": WORDS, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1, "max_position_embeddings": 40,
}  # fmt: skip
PAIRED = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "init_std": 0.3,
    "vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    "decoder_start_token_id": 0, "max_position_embeddings": 40,
}  # fmt: skip
MAKERS = {
    "bert": lambda: t.BertForMaskedLM(t.BertConfig(**SIZES)),
    "roberta": lambda: t.RobertaModel(t.RobertaConfig(**SIZES)),
    "albert": lambda: t.AlbertModel(t.AlbertConfig(**SIZES, embedding_size=8)),
    "distilbert": lambda: t.DistilBertModel(
        t.DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, vocab_size=WORDS)
    ),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=WORDS, n_positions=40)
    ),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=1)),
    "t5": lambda: t.T5ForConditionalGeneration(
        t.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=WORDS)
    ),
    "bart": lambda: t.BartModel(t.BartConfig(**PAIRED)),
    "marian": lambda: t.MarianMTModel(t.MarianConfig(**PAIRED)),
}  # fmt: skip


def pretrained(kind: str, folder: Path) -> Path:
    """Write a model of an architecture and its tokenizer."""
    torch.manual_seed(5)
    save_model(MAKERS[kind]().eval(), TOKENIZER, folder)
    return folder
