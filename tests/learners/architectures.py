"""Folders of tiny models of many architectures, each with a tokenizer like those it comes with."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers as t
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from regard.train import save_model

# Marks by family: what stands before and behind a text, and what else there is.
BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
T5 = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
LLAMA = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
GPT2 = {"eos": "<|endoftext|>"}
FRENCH = "fr_XX"


def tokenizer(marks: dict[str, str], words: Sequence[str], frame: str) -> t.PreTrainedTokenizerFast:
    """Return a tokenizer of words whose texts stand between marks, as "<s> $A </s>"."""
    known = [*marks.values(), *(word for word in frame.split() if word != "$A"), *words]
    places = {word: place for place, word in enumerate(dict.fromkeys(known))}
    one = Tokenizer(models.WordLevel(places, unk_token=marks.get("unk", words[0])))
    one.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(word, places[word]) for word in frame.split() if word != "$A"]
    one.post_processor = processors.TemplateProcessing(single=frame, special_tokens=special)
    named = {f"{name}_token": word for name, word in marks.items()}
    return t.PreTrainedTokenizerFast(tokenizer_object=one, **named)


WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
FULL = {**WIDE, "intermediate_size": 16, "max_position_embeddings": 40}
PAIRED = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
    "max_position_embeddings": 64,
}  # fmt: skip
# The marks and the frame of its tokenizer, its configuration, and how its padding is numbered.
ENCODERS = {
    "bert": (BERT, "[CLS] $A [SEP]", t.BertConfig, FULL),
    "roberta": (ROBERTA, "<s> $A </s>", t.RobertaConfig, {**FULL, "type_vocab_size": 1}),
    "distilbert": (
        BERT, "[CLS] $A [SEP]", t.DistilBertConfig,
        {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 40},
    ),
    "electra": (BERT, "[CLS] $A [SEP]", t.ElectraConfig, {**FULL, "embedding_size": 8}),
    "albert": (BERT, "[CLS] $A [SEP]", t.AlbertConfig, {**FULL, "embedding_size": 8}),
    "deberta": (
        BERT, "[CLS] $A [SEP]", t.DebertaConfig,
        {**FULL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    ),
    "deberta-v2": (
        BERT, "[CLS] $A [SEP]", t.DebertaV2Config,
        {**FULL, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"],
         "position_biased_input": False, "share_att_key": True, "type_vocab_size": 0},
    ),
    "modernbert": (
        BERT, "[CLS] $A [SEP]", t.ModernBertConfig,
        {**FULL, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "mpnet": (ROBERTA, "<s> $A </s>", t.MPNetConfig, FULL),
}  # fmt: skip
DECODERS = {
    "gpt2": (GPT2, "$A", t.GPT2Config,
             {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}),
    "llama": (LLAMA, "<s> $A", t.LlamaConfig, {**FULL, "num_key_value_heads": 1}),
    "qwen2": (GPT2, "$A", t.Qwen2Config, {**FULL, "num_key_value_heads": 1}),
    "gpt-neox": (GPT2, "$A", t.GPTNeoXConfig, FULL),
}  # fmt: skip
WRITERS = {
    "t5": (T5, "$A </s>", t.T5Config,
           {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
            "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"}),
    "bart": (ROBERTA, "<s> $A </s>", t.BartConfig, {**PAIRED, "decoder_start_token_id": 2}),
    "marian": (T5, "$A </s>", t.MarianConfig, {**PAIRED, "decoder_start_token_id": 0}),
    # Its texts end with their language, by which the decoder starts too.
    "mbart": (T5, f"$A </s> {FRENCH}", t.MBartConfig, {**PAIRED, "decoder_start_token_id": 3}),
    "pegasus": (T5, "$A </s>", t.PegasusConfig, {**PAIRED, "decoder_start_token_id": 0}),
}  # fmt: skip
KINDS = {
    "masked": t.AutoModelForMaskedLM,
    "causal": t.AutoModelForCausalLM,
    "written": t.AutoModelForSeq2SeqLM,
    "alone": t.AutoModel,
}


def pretrained(kind: str, head: str, words: Sequence[str], folder: Path, **habits: object) -> Path:
    """Write a model with random weights and its tokenizer; `habits` are of its generation."""
    marks, frame, config, sizes = {**ENCODERS, **DECODERS, **WRITERS}[kind]
    subwords = tokenizer(marks, words, frame)
    known = {
        f"{name}_token_id": getattr(subwords, f"{name}_token_id") for name in ("pad", "bos", "eos")
    }
    torch.manual_seed(5)
    model = KINDS[head].from_config(config(vocab_size=len(subwords), **{**known, **sizes}))
    for name, value in habits.items():
        setattr(model.generation_config, name, value)
    save_model(model.eval(), subwords, folder)
    return folder
