"""A tiny Marian with weights large enough that attention matters, and inputs with padding."""

import torch
from transformers import MarianConfig, MarianMTModel

from regard.modes import Assignment, Mode
from tests.nn import programs as p

PAD, END, WORDS = 0, 1, 60

ENCODER = Mode("encoder", "", encoder=p.distant)
DECODER = Mode("decoder", "", decoder=p.relative)
CROSS = Mode("cross", "", cross=p.distant)
EVERYWHERE = Mode(
    "everywhere",
    "every role its own program, one layer two of them",
    [
        Assignment("decoder", p.alibi, layers=(0, 1), heads=(0, 2)),
        Assignment("decoder", p.additive, layers=(0, 1), heads=(2, 4)),
        Assignment("decoder", p.relative, layers=(1, 2)),
    ],
    encoder=p.distant,
    cross=p.distant,
)
MODES = {mode.name: mode for mode in (ENCODER, DECODER, CROSS, EVERYWHERE)}


def config(**changes):
    sizes = {
        "vocab_size": WORDS, "d_model": 32, "max_position_embeddings": 40,
        "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48,
        "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48,
        "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD,
        "forced_eos_token_id": None, "bos_token_id": None, "init_std": 0.3, "dropout": 0.0,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return MarianConfig(**{**sizes, **changes})


def marian(kind=MarianMTModel, **changes):
    torch.manual_seed(2)
    return kind(config(**changes)).eval()


def padded(side="right"):
    """Three sentences of 7, 4 and 6 words, as input_ids and attention_mask."""
    drawn = torch.Generator().manual_seed(3)
    ids, mask = torch.full((3, 7), PAD), torch.zeros(3, 7, dtype=torch.long)
    for row, length in enumerate((7, 4, 6)):
        own = slice(0, length) if side == "right" else slice(7 - length, 7)
        ids[row, own] = torch.randint(2, WORDS, (length,), generator=drawn)
        mask[row, own] = 1
    return {"input_ids": ids, "attention_mask": mask}


def generate(model, inputs, **options):
    """Generate eight words; no word twice, since random weights like to repeat one."""
    torch.manual_seed(0)
    words = {"max_new_tokens": 8, "min_new_tokens": 8, "no_repeat_ngram_size": 1}
    return model.generate(**inputs, **{**words, **options})
