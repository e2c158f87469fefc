"""The encoder that tasks without a decoder stand on: built anew."""

from transformers import BertConfig, PreTrainedConfig

from regard.tasks.settings import ModelSettings


def new_encoder(shape: ModelSettings, words: int, pad: int) -> PreTrainedConfig:
    """Return the configuration of an untrained encoder.

    Args:
        shape: Its sizes.
        words: Size of the vocabulary.
        pad: The token that fills up shorter texts.

    Returns:
        That of a BERT.
    """
    return BertConfig(
        vocab_size=words,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.ffn,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=shape.positions,
        pad_token_id=pad,
    )
