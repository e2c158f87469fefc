"""Tiny models of the common architectures with weights large enough to matter, and their inputs."""

import torch
import transformers as t

import regard as rg
from regard import hf
from tests.nn import programs as p

WORDS = 20
MODE = rg.Mode("distant", "a learned bias for each distance", encoder=p.distant)
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "vocab_size": WORDS, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PAIRED = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "dropout": 0.0,
    "vocab_size": WORDS, "init_std": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "forced_eos_token_id": None, "decoder_start_token_id": 0, "max_position_embeddings": 40,
}  # fmt: skip
SEEN = {name: SIZES[name] for name in SIZES if not name.endswith(("_id", "vocab_size"))}
MAKERS = {
    "bert": lambda: t.BertModel(t.BertConfig(**SIZES)),
    "roberta": lambda: t.RobertaModel(t.RobertaConfig(**SIZES)),
    "albert": lambda: t.AlbertModel(t.AlbertConfig(**SIZES, embedding_size=8)),
    "distilbert": lambda: t.DistilBertModel(
        t.DistilBertConfig(
            dim=16, n_layers=2, n_heads=4, hidden_dim=24, vocab_size=WORDS, dropout=0.0,
            attention_dropout=0.0, initializer_range=0.3,
        )
    ),
    "gpt2": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(
            n_embd=16, n_layer=2, n_head=4, vocab_size=WORDS, n_positions=32, attn_pdrop=0.0,
            resid_pdrop=0.0, embd_pdrop=0.0, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        )
    ),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2)),
    "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**SIZES, num_key_value_heads=2)),
    "modernbert": lambda: t.ModernBertModel(
        t.ModernBertConfig(
            **{k: v for k, v in SIZES.items() if not k.startswith(("hidden_d", "attention_p"))},
            cls_token_id=1, sep_token_id=2,
        )
    ),
    "t5": lambda: t.T5Model(
        t.T5Config(
            d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, vocab_size=WORDS,
            dropout_rate=0.0, decoder_start_token_id=0,
        )
    ),
    "bart": lambda: t.BartModel(t.BartConfig(**PAIRED)),
    "marian": lambda: t.MarianModel(t.MarianConfig(**PAIRED)),
    "vit": lambda: t.ViTModel(t.ViTConfig(**SEEN, image_size=8, patch_size=4)),
}  # fmt: skip


def make(kind):
    torch.manual_seed(2)
    return MAKERS[kind]().eval()


def bert():
    return make("bert")


def programmed():
    """A BERT whose encoder has a learned bias for each distance."""
    return hf.apply(bert(), MODE)


def inputs(kind="bert"):
    drawn = torch.Generator().manual_seed(3)
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=drawn)}
    ids = torch.randint(3, WORDS, (2, 7), generator=drawn)
    if kind in ("t5", "bart", "marian"):
        return {"input_ids": ids, "decoder_input_ids": ids.flip(1)}
    return {"input_ids": ids}


@torch.no_grad()
def output(model, kind="bert"):
    given = inputs(kind)
    if "pixel_values" in given:
        given["pixel_values"] = given["pixel_values"].to(next(model.parameters()).dtype)
    return model(**given)[0]


@torch.no_grad()
def moved(model):
    """Move everything that is trained away from where it started."""
    drawn = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=drawn))
    return model
