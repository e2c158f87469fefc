"""Tiny models of many architectures with random weights, and what each is called with."""

from typing import Any

import torch
import transformers
from torch import nn

WORDS, PAD = 60, 0
# An image's token in the models that read both.
IMAGE = 50
_TEXT = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": PAD, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
_GROUPED = {**_TEXT, "num_key_value_heads": 2, "head_dim": 8}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_PAIR = {
    "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "max_position_embeddings": 64, "pad_token_id": PAD, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 3, "forced_eos_token_id": None,
}  # fmt: skip
_T5 = {
    "vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "pad_token_id": PAD, "eos_token_id": 2, "decoder_start_token_id": 3,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 5, "dropout_rate": 0.0,
}  # fmt: skip
_IMAGE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
_SOUND = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": [16, 16], "conv_stride": [4, 2], "conv_kernel": [8, 4],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "apply_spec_augment": False,
    "vocab_size": WORDS, "pad_token_id": PAD,
}  # fmt: skip
_BOTH = {"projection_dim": 16}

# The class of the model, and the settings in which its configuration differs from the class's own.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", _TEXT),
    "roberta": ("RobertaForMaskedLM", _TEXT),
    "camembert": ("CamembertForMaskedLM", _TEXT),
    "electra": ("ElectraForMaskedLM", {**_TEXT, "embedding_size": 16}),
    "albert": ("AlbertForMaskedLM", {**_TEXT, "embedding_size": 16}),
    "ernie": ("ErnieForMaskedLM", _TEXT),
    "distilbert": (
        "DistilBertForMaskedLM",
        {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
         "max_position_embeddings": 64},
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        {**_TEXT, "local_attention": 6, "cls_token_id": 1, "sep_token_id": 2,
         "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
         "bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", _TEXT),
    "opt": (
        "OPTForCausalLM",
        {**_TEXT, "ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
    "llama": ("LlamaForCausalLM", _GROUPED),
    "mistral": ("MistralForCausalLM", {**_GROUPED, "sliding_window": 5}),
    "mixtral": ("MixtralForCausalLM", {**_GROUPED, **_EXPERTS}),
    "qwen2": ("Qwen2ForCausalLM", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", _GROUPED),
    "phi": ("PhiForCausalLM", _TEXT),
    "phi3": ("Phi3ForCausalLM", _GROUPED),
    "gemma": ("GemmaForCausalLM", _GROUPED),
    "gemma2": (
        "Gemma2ForCausalLM",
        {**_GROUPED, "sliding_window": 5, "attn_logit_softcapping": 2.0,
         "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "gemma3_text": (
        "Gemma3ForCausalLM",
        {**_GROUPED, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        {**_GROUPED, **_EXPERTS, "sliding_window": 5,
         "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "llama4_text": (
        "Llama4ForCausalLM",
        {**_GROUPED, **_EXPERTS, "intermediate_size_mlp": 48, "attention_chunk_size": 4},
    ),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        {**_TEXT, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
         "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6, "n_routed_experts": 4,
         "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 16,
         "first_k_dense_replace": 1},
    ),
    "cohere": ("CohereForCausalLM", _GROUPED),
    "olmo2": ("Olmo2ForCausalLM", _GROUPED),
    "granite": ("GraniteForCausalLM", _GROUPED),
    "stablelm": ("StableLmForCausalLM", _GROUPED),
    "starcoder2": ("Starcoder2ForCausalLM", _GROUPED),
    "smollm3": ("SmolLM3ForCausalLM", _GROUPED),
    "biogpt": ("BioGptForCausalLM", _TEXT),
    "t5": ("T5ForConditionalGeneration", _T5),
    "mt5": ("MT5ForConditionalGeneration", _T5),
    "umt5": ("UMT5ForConditionalGeneration", _T5),
    "switch_transformers": (
        "SwitchTransformersForConditionalGeneration",
        {**_T5, "num_decoder_layers": 2, "num_experts": 2, "num_sparse_encoder_layers": 1,
         "num_sparse_decoder_layers": 1},
    ),
    "bart": ("BartForConditionalGeneration", _PAIR),
    "marian": ("MarianMTModel", _PAIR),
    "pegasus": ("PegasusForConditionalGeneration", _PAIR),
    "mbart": ("MBartForConditionalGeneration", _PAIR),
    "m2m_100": ("M2M100ForConditionalGeneration", _PAIR),
    "blenderbot": ("BlenderbotForConditionalGeneration", _PAIR),
    "whisper": (
        "WhisperForConditionalGeneration",
        {**_PAIR, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 40,
         "suppress_tokens": None, "begin_suppress_tokens": None},
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", _SOUND),
    "hubert": ("HubertForCTC", _SOUND),
    "unispeech": ("UniSpeechModel", {**_SOUND, "codevector_dim": 16, "proj_codevector_dim": 16}),
    "vit": ("ViTForImageClassification", _IMAGE),
    "deit": ("DeiTForImageClassification", _IMAGE),
    "dinov2": ("Dinov2Model", _IMAGE),
    "beit": ("BeitForImageClassification", {**_IMAGE, "use_relative_position_bias": True}),
    "swin": (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
         "window_size": 4},
    ),
    "yolos": ("YolosModel", {**_IMAGE, "image_size": [32, 32], "num_detection_tokens": 5}),
    "clip": ("CLIPModel", {"text_config": _TEXT, "vision_config": _IMAGE, **_BOTH}),
    "siglip": ("SiglipModel", {"text_config": _TEXT, "vision_config": _IMAGE}),
    "llava": (
        "LlavaForConditionalGeneration",
        {"text_config": {"model_type": "llama", **_GROUPED},
         "vision_config": {"model_type": "clip_vision_model", **_IMAGE},
         "image_token_index": IMAGE},
    ),
    "paligemma": (
        "PaliGemmaForConditionalGeneration",
        {"text_config": {"model_type": "gemma", **_GROUPED},
         "vision_config": {"model_type": "siglip_vision_model", **_IMAGE},
         "image_token_id": IMAGE, "projection_dim": 32},
    ),
}  # fmt: skip
# One of each kind: what the quick tests run.
SAMPLE = (
    "bert", "albert", "modernbert", "gpt2", "gemma2", "gpt_oss", "llama4_text", "deepseek_v3", "t5",
    "bart", "whisper", "wav2vec2", "swin", "clip", "paligemma",
)  # fmt: skip


def tiny(name: str) -> Any:
    """Return a model in evaluation mode, with weights large enough that attention matters."""
    kind, settings = ARCHITECTURES[name]
    model_class = getattr(transformers, kind)
    config = model_class.config_class(**settings)
    torch.manual_seed(2)
    model = model_class(config)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding) or "Conv1D" in type(module).__name__:
            nn.init.normal_(module.weight, std=0.25)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith(("relative_position_bias_table", "sinks")):
            nn.init.normal_(parameter, std=1.0)
    model.tie_weights()
    return model.float().eval()


def inputs(model: Any, side: str = "left") -> dict[str, torch.Tensor]:
    """Return what a model is called with: two rows, the second of them padded."""
    drawn = torch.Generator().manual_seed(3)
    main, kind = model.main_input_name, model.config.model_type
    if main == "input_values":
        return {main: torch.randn(2, 400, generator=drawn)}
    if main == "pixel_values":
        return {main: torch.randn(2, 3, 32, 32, generator=drawn)}
    if main == "input_features":
        found = {main: torch.randn(2, 16, 40, generator=drawn)}
    else:
        found = _words(kind, side, drawn)
    if kind in ("clip", "siglip", "llava", "paligemma"):
        found["pixel_values"] = torch.randn(2, 3, 32, 32, generator=drawn)
    if model.config.is_encoder_decoder:
        found["decoder_input_ids"] = torch.randint(4, WORDS, (2, 6), generator=drawn)
    return found


def _words(kind: str, side: str, drawn: torch.Generator) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, IMAGE, (2, 9), generator=drawn)
    mask = torch.ones(2, 9, dtype=torch.long)
    padding = slice(0, 3) if side == "left" else slice(6, 9)
    ids[1, padding], mask[1, padding] = PAD, 0
    if kind in ("llava", "paligemma"):
        images = torch.full((2, 16), IMAGE)
        ids, mask = (
            torch.cat([ids[:, :3], images, ids[:, 3:]], 1),
            torch.cat([mask[:, :3], torch.ones_like(images), mask[:, 3:]], 1),
        )
    found = {"input_ids": ids, "attention_mask": mask}
    if kind == "paligemma":
        found["token_type_ids"] = torch.zeros_like(ids)
    if kind in ("clip", "siglip"):
        found["input_ids"][:, -1] = 2
    return found
