"""The model of tasks without a decoder: an encoder, new or pretrained, with a head."""

from collections.abc import Sequence
from typing import TypeVar

from transformers import BertConfig, PreTrainedConfig, PreTrainedTokenizerBase

from regard.learners.pretrained import check_words, read_encoder
from regard.learners.text_model import TextConfig, TextModel
from regard.tasks.kinds import Task
from regard.tasks.model_settings import ModelSettings, Pooling

Kind = TypeVar("Kind", bound=TextModel)


def text_model(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    outputs: Sequence[str] | int,
    pad: int,
    kind: type[Kind] = TextModel,
) -> Kind:
    """Return the model that a task describes.

    Args:
        task: The task, whose head stands on texts or on tokens.
        tokenizer: Its subwords.
        outputs: What the outputs mean, or how many there are if they are no labels.
        pad: The token that fills up shorter texts.
        kind: Its class.

    Returns:
        The model; what of it is new, torch's seed decides.

    Raises:
        FileError: If the task names a folder with no pretrained model, or with one that does not
            fit its tokenizer.
    """
    shape, causal, source = task.model, False, None
    encoder, bottleneck = new_encoder(shape, len(tokenizer), pad), None
    if shape.pretrained is not None:
        source = read_encoder(shape.pretrained)
        encoder, bottleneck, causal = source.config, source.bottleneck, source.causal
    labels = () if isinstance(outputs, int) else outputs
    named = {"id2label": dict(enumerate(labels))} if labels else {}
    config = TextConfig(
        encoder,
        len(labels) or int(outputs),  # type: ignore[arg-type]
        pooling=_pooling(task, causal),
        dropout=shape.dropout,
        head=[layer.model_dump() for layer in shape.head],
        bottleneck=bottleneck,
        **named,
    )
    model = kind(config)
    if source is not None and shape.pretrained is not None:
        check_words(tokenizer, model.encoder, shape.pretrained)
        source.fill(model)
    return model


def _pooling(task: Task, causal: bool) -> Pooling | None:
    if task.stands_on == "tokens" or task.model.pools_by_attention:
        return None
    return task.model.pooling or ("last" if causal else "mean")


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
