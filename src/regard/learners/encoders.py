"""The model of tasks without a decoder: an encoder, new or pretrained, with a head."""

from collections.abc import Sequence
from typing import Any, TypeVar

from transformers import BertConfig, PreTrainedConfig, PreTrainedTokenizerBase

from regard.learners.pretrained import Encoder, check_words, read_encoder
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
    source = encoder_of(task, len(tokenizer), pad)
    labels = () if isinstance(outputs, int) else outputs
    shape = head_shape(task, outputs, source.causal)
    if labels:
        shape["id2label"] = dict(enumerate(labels))
    config = TextConfig(source.config, bottleneck=source.bottleneck, **shape)
    return fill(kind(config), source, task, tokenizer)


def encoder_of(task: Task, words: int, pad: int) -> Encoder:
    """Return the encoder of a task.

    Args:
        task: The task.
        words: Size of the vocabulary, for a new one.
        pad: The token that fills up shorter texts, likewise.

    Returns:
        The pretrained encoder, or a configuration without weights.

    Raises:
        FileError: If the task names a folder with no pretrained model.
    """
    if task.model.pretrained is not None:
        return read_encoder(task.model.pretrained)
    return Encoder(
        new_encoder(task.model, words, pad), {}, mode=None, bottleneck=None, causal=False
    )


def head_shape(task: Task, outputs: Sequence[str] | int, causal: bool) -> dict[str, Any]:
    """Return the shape of a task's head, as `TextConfig` takes it.

    Args:
        task: The task.
        outputs: As in `text_model`.
        causal: Whether tokens of the encoder see none of the later ones.

    Returns:
        Plain data.
    """
    return {
        "outputs": outputs if isinstance(outputs, int) else len(outputs),
        "pooling": _pooling(task, causal),
        "dropout": task.model.dropout,
        "head": [layer.model_dump() for layer in task.model.head],
    }


def fill(model: Any, source: Encoder, task: Task, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Put the weights of a pretrained encoder into a model, in place.

    Args:
        model: With an `encoder` of its configuration.
        source: The encoder; one without weights leaves the model as it is.
        task: Names the folder.
        tokenizer: Its tokenizer.

    Returns:
        The same model.

    Raises:
        FileError: If the tokenizer does not fit.
    """
    if task.model.pretrained is not None:
        check_words(tokenizer, model.encoder, task.model.pretrained)
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
