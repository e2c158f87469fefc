"""A small random model of any architecture: its configuration, shrunk name by name.

Leaves to others: what such a model is called with (`inputs`).
"""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from regard.errors import InputError, UnsupportedError, nearest

WORDS = 100
HIDDEN, HEADS, LAYERS, WIDTH = 32, 4, 2, 8
_SEED = 20

# What a setting becomes, by its name alone: architectures share their names for the same things.
_SIZES = (
    (
        HIDDEN,
        "hidden_size d_model n_embd embed_dim embedding_size hidden_dim encoder_hidden_size dim "
        "projection_dim text_hidden_size out_hidden_size projector_hidden_size word_embed_proj_dim "
        "vision_hidden_size decoder_hidden_size output_hidden_size encoder_hidden_dim "
        "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size lru_width "
        "image_size pretrain_image_size max_2d_position_embeddings image_dim text_dim",
    ),
    (
        48,
        "intermediate_size encoder_ffn_dim decoder_ffn_dim d_ff ffn_dim mlp_dim n_inner "
        "ffn_hidden_size feed_forward_dim dim_feedforward encoder_intermediate_size hidden_dim_mlp "
        "shared_intermediate_size intermediate_size_mlp decoder_intermediate_size",
    ),
    (
        LAYERS,
        "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers depth layers "
        "num_decoder_layers num_encoder_layers encoder_num_hidden_layers topk_group n_group "
        "decoder_num_hidden_layers num_experts_per_tok moe_topk moe_k spatial_merge_size "
        "window_size",
    ),
    (
        HEADS,
        "num_attention_heads num_heads n_head n_heads encoder_attention_heads attention_heads "
        "decoder_attention_heads encoder_num_attention_heads decoder_num_attention_heads "
        "rotary_dim num_experts num_local_experts n_routed_experts moe_num_experts "
        "attention_chunk_size num_conv_pos_embedding_groups",
    ),
    (
        WIDTH,
        "head_dim d_kv qk_nope_head_dim qk_rope_head_dim v_head_dim patch_size local_attention "
        "num_queries num_query_tokens global_head_dim attention_head_size",
    ),
    (
        16,
        "kv_lora_rank q_lora_rank num_mel_bins qk_head_dim num_conv_pos_embeddings "
        "mamba_chunk_size mamba_d_state state_size",
    ),
    (24, "max_source_positions"),
    (1, "num_nextn_predict_layers first_k_dense_replace temporal_patch_size n_shared_experts"),
    (128, "max_position_embeddings n_positions max_target_positions n_ctx max_seq_len"),
    (5, "sliding_window"),
    (WORDS, "vocab_size vocab_size_per_layer_input text_vocab_size"),
)
SMALL: dict[str, Any] = {name: size for size, names in _SIZES for name in names.split()}
SMALL |= {
    "depths": [1, 1],
    "conv_kernel": [3, 3],
    "conv_stride": [2, 2],
    "query_pre_attn_scalar": WIDTH,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "attention_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_head_kv")
# Lists with one entry per stage, as Swin has them.
_PER_STAGE = {"num_heads": [2, 4], "hidden_sizes": [16, 32], "conv_dim": [32, 32]}
_FIRST_SPECIAL = 90
_MODELS = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def find_model_class(name: str) -> type[PreTrainedModel]:
    """Return the class that a name means.

    Args:
        name: A model class of transformers, such as "LlamaForCausalLM", or a model type, such as
            "llama": then its class with a language head if it has one.

    Returns:
        The class.

    Raises:
        InputError: If transformers has neither.
    """
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, PreTrainedModel):
        return found
    for mapping in _MODELS:
        names = getattr(modeling_auto, mapping)
        if name in names:
            chosen = names[name]
            return getattr(transformers, chosen if isinstance(chosen, str) else chosen[0])
    raise InputError(f"transformers has no model '{name}'; {_hint(name)}")


def _hint(name: str) -> str:
    """Return the nearest names: a list of all would fill the screen."""
    types = [key for key in CONFIG_MAPPING if key in modeling_auto.MODEL_MAPPING_NAMES]
    classes = [key for key in dir(transformers) if key.endswith(("Model", "LM", "Generation"))]
    for known in (types, classes):
        hint = nearest(name, known)
        if hint.startswith("did you mean"):
            return hint.partition("?")[0] + "?"
    return "give a folder, a class such as LlamaForCausalLM, or a model type such as llama"


def tiny_config(kind: type[PreTrainedConfig], **changes: Any) -> PreTrainedConfig:
    """Return a small configuration of any class: two layers, four heads, 32 channels, 100 words.

    Args:
        kind: The class of the configuration.
        **changes: Settings that are to be others.

    Returns:
        The configuration, its parts shrunk likewise.

    Raises:
        UnsupportedError: If the class refuses the small settings.
    """
    try:
        return kind(**{**_settings(kind()), **changes})
    # Architectures check their settings by errors of every class.
    except Exception as problem:
        raise UnsupportedError(
            f"no small {kind.__name__} can be made ({_first_line(problem)}); save a small model of "
            "your own and give its folder"
        ) from None


def _settings(full: PreTrainedConfig) -> dict[str, Any]:
    """Return the settings in which a small configuration differs from the published one."""
    small: dict[str, Any] = {}
    values = {key: value for key, value in vars(full).items() if not key.startswith("_")}
    for name, value in values.items():
        if isinstance(value, PreTrainedConfig):
            # The decoder of a pair of models is told that it is one.
            pair = type(full).__name__.endswith("EncoderDecoderConfig") and name == "decoder"
            told = {"is_decoder": True, "add_cross_attention": True} if pair else {}
            small[name] = tiny_config(type(value), **told)
        elif name in _PER_STAGE and isinstance(value, list | tuple):
            small[name] = _PER_STAGE[name]
        elif name in SMALL and value is not None:
            small[name] = _like(value, SMALL[name])
        elif name in _KEY_HEADS and value is not None:
            small[name] = _key_heads(value, values)
    if isinstance(values.get("layer_types"), list):
        small["layer_types"] = _two_kinds(values["layer_types"])
    return small | _special_tokens(values)


def _like(value: Any, small: Any) -> Any:
    """Return a small setting in the form of the published one; lists of numbers hold one number."""
    if isinstance(value, list | tuple) and not isinstance(small, list):
        return type(value)([small] * len(value))
    return small


def _key_heads(value: int, values: dict[str, Any]) -> int:
    """Return as many key heads as keep the kind of grouping: one, some, or one for each query."""
    heads = next((values[name] for name in ("num_attention_heads", "n_head") if name in values), 0)
    return 1 if value == 1 else HEADS if value == heads else HEADS // 2


def _two_kinds(kinds: Iterable[str]) -> list[str]:
    """Return the kinds of two layers: two different ones if there are."""
    distinct = list(dict.fromkeys(kinds))
    return (distinct * LAYERS)[:LAYERS]


def _special_tokens(values: dict[str, Any]) -> dict[str, int]:
    """Return numbers below `WORDS` for the tokens that stand for images, sounds and the like."""
    names = [
        name
        for name, value in sorted(values.items())
        if name.endswith(("_token_id", "_token_index")) and type(value) is int and name not in SMALL
    ]
    return {name: _FIRST_SPECIAL + number % 10 for number, name in enumerate(names)}


def tiny_model(name: str, **changes: Any) -> PreTrainedModel:
    """Return a small model with random weights, large enough that attention matters.

    Args:
        name: As for `find_model_class`.
        **changes: Settings of the configuration that are to be others.

    Returns:
        The model in evaluation mode, on the CPU, in float32.

    Raises:
        InputError: If transformers has no such model.
        UnsupportedError: If no small one can be made.
    """
    kind = find_model_class(name)
    config_class = CONFIG_MAPPING[name] if name in CONFIG_MAPPING else kind.config_class
    if config_class is None:
        raise UnsupportedError(f"{name} states no configuration; give the folder of a model")
    config = tiny_config(config_class, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        try:
            model = kind(config)
        except Exception as problem:
            raise UnsupportedError(
                f"{kind.__name__} of a small configuration cannot be built "
                f"({_first_line(problem)}); save a small model of your own and give its folder"
            ) from None
        enlarge(model)
    return model.float().eval()


def enlarge(model: PreTrainedModel) -> None:
    """Draw weights anew: with those models start from, all keys of a row weigh nearly the same.

    Args:
        model: The model, changed in place.
    """
    for module in model.modules():
        if (
            not isinstance(module, nn.Linear | nn.Embedding)
            and "Conv1D" not in type(module).__name__
        ):
            continue
        weight = module.weight
        # Tables that are computed are not saved: what is drawn here would be lost.
        if not getattr(weight, "requires_grad", False):
            continue
        if isinstance(weight, torch.Tensor) and weight.dim() == 2 and weight.is_floating_point():
            nn.init.normal_(weight, std=0.25)
    model.tie_weights()


def _first_line(problem: Exception) -> str:
    text = str(problem).strip() or type(problem).__name__
    return text.splitlines()[0][:200]


def takes(model: PreTrainedModel, name: str) -> bool:
    """Tell whether a model's forward pass has an argument of that name.

    Args:
        model: The model.
        name: The argument.

    Returns:
        Whether it has.
    """
    return name in inspect.signature(model.forward).parameters
