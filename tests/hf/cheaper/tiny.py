"""A tiny decoder and a tiny encoder, text in which words repeat, and prices that are no times."""

import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from regard.hf.cheaper.candidates import candidates_for
from regard.hf.cheaper.price import Prices

WORDS, TOKENS = 60, 96
SIZES = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "initializer_range": 0.25, "pad_token_id": 0}  # fmt: skip


def llama(**changes):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(num_key_value_heads=2, **{**SIZES, "rms_norm_eps": 1e-5, **changes})
    ).eval()


def bert(kind=BertModel, **changes):
    torch.manual_seed(0)
    return kind(BertConfig(max_position_embeddings=TOKENS, **{**SIZES, **changes})).eval()


def masked():
    return bert(BertForMaskedLM)


def gpt2():
    """A decoder whose queries, keys and values come from one projection."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=TOKENS,
                   initializer_range=0.25, bos_token_id=None, eos_token_id=None)
    ).eval()  # fmt: skip


def albert():
    """An encoder whose layers share one module."""
    torch.manual_seed(0)
    return AlbertModel(
        AlbertConfig(max_position_embeddings=TOKENS, embedding_size=16, **SIZES)
    ).eval()


def text(pieces=24, tokens=TOKENS, seed=1):
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(1, WORDS, (pieces, tokens), generator=drawn)


def prices(model, layers, ids, say):
    """What candidates would cost if a pair cost the same everywhere, and a call a little."""
    costs = [
        1.0 if one.reach is None else 2.0 if one.kind == "linear" else one.reach / ids.shape[1]
        for one in candidates_for(ids.shape[1])
    ]
    units = layers[0].units
    table = [[0.0, *(0.1 + count * cost for count in range(1, units + 1))] for cost in costs]
    return Prices([table], [0] * len(layers))
