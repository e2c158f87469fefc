"""A cache of bounded size for text without end: the first tokens and a window of the last.

Xiao, Tian, Chen, Han and Lewis 2023, "Efficient Streaming Language Models with Attention Sinks",
arXiv 2309.17453. Leaves to others: moving keys (`rotary`).
"""

import inspect
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from regard.errors import InputError, UnsupportedError
from regard.hf.rotary import Rotary


class StreamingCache(Cache):
    """Keeps the first tokens and a window of the last, whatever the length of the text.

    Positions are those within the cache: when tokens are dropped, the keys behind them are rotated
    to where they then stand, so that no query and no key is ever placed beyond `sinks + window`,
    within the length the model was trained on. Give it as `past_key_values`, to `generate` or to
    calls of the model piece by piece, with any attention implementation. One cache serves one
    stream at a time; `reset` empties it.

    Args:
        model: The model it is for: a decoder with rotary embeddings.
        sinks: How many of the first tokens are kept for good; without them perplexity collapses.
        window: How many of the last tokens are kept at most.
        block: How many tokens are dropped at once, so that keys are seldom rotated; an eighth of
            the window unless given. A token sees at least `window - block` before it.

    Raises:
        InputError: If sizes do not fit, or exceed what the model was trained on.
        UnsupportedError: If the model's keys cannot be moved, or some of its layers drop tokens by
            themselves.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sinks: int = 4,
        window: int = 1020,
        *,
        block: int | None = None,
    ) -> None:
        block = max(1, window // 8) if block is None else block
        _check_sizes(model, sinks, window, block)
        self.sinks, self.window, self.block = sinks, window, block
        self._rotary = Rotary(model)
        self._awaited: set[int] = set()
        self._own = [_Layer(self, number) for number in range(len(self._rotary))]
        super().__init__(layers=list(self._own))
        hook = _owner(model).register_forward_pre_hook(_before(weakref.ref(self)), with_kwargs=True)
        weakref.finalize(self, hook.remove)

    @property
    def dropped(self) -> int:
        """How many tokens were dropped so far."""
        return self.get_seq_length() - self.kept

    @property
    def kept(self) -> int:
        """How many tokens the cache holds, at most `sinks + window`."""
        return self._own[0].kept

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position of the next token, within the cache.

        Args:
            layer_idx: A layer.

        Returns:
            The number of tokens held.
        """
        return self._own[layer_idx].kept

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse to take tokens back: what they displaced is gone.

        Args:
            tokens_to_remove: How many.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            "a streaming cache cannot take tokens back; assisted generation needs another cache"
        )

    def make_room(self, tokens: int) -> None:
        """Drop as many blocks of the oldest tokens after the sinks as a pass needs.

        Args:
            tokens: How many tokens the pass adds.

        Raises:
            InputError: If they are more than the window, or a pass before failed halfway.
        """
        if len({layer.kept for layer in self._own}) > 1:
            raise InputError("a pass failed halfway and left layers of different lengths; reset()")
        size = self.sinks + self.window
        if tokens > (self.window if self.kept else size):
            raise InputError(
                f"{tokens} tokens at once do not fit into a window of {self.window}; pass them in "
                f"pieces (generate: prefill_chunk_size={self.window})"
            )
        self._awaited = set(range(len(self._own)))
        excess = self.kept + tokens - size
        if excess <= 0:
            return
        steps = min(-(-excess // self.block) * self.block, self.kept - self.sinks)
        for number, layer in enumerate(self._own):
            assert layer.keys is not None, "what is dropped was held"
            kept = layer.keys[:, :, self.sinks + steps :]
            layer.drop(self.sinks, steps, self._rotary.moved_back(number, kept, steps))

    def take(self, layer: int) -> None:
        """Note that a layer adds what room was made for; nobody else knows of its positions.

        Args:
            layer: The layer.

        Raises:
            InputError: If no room was made.
        """
        if layer not in self._awaited:
            raise InputError(
                "this streaming cache was made for another model; make one with "
                "rg.hf.StreamingCache(model)"
            )
        self._awaited.remove(layer)

    def __repr__(self) -> str:
        return (
            f"StreamingCache(sinks={self.sinks}, window={self.window}, block={self.block}): "
            f"{self.kept} kept of {self.get_seq_length()}"
        )


class _Layer(DynamicLayer):
    """The keys and values of one layer."""

    is_croppable = False

    def __init__(self, cache: StreamingCache, number: int) -> None:
        super().__init__()
        self.number, self.cumulative_length = number, 0
        self._cache = weakref.ref(cache)

    @property
    def kept(self) -> int:
        """How many tokens are held."""
        return super().get_seq_length()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values.

        Args:
            key_states: (B, G, n, D).
            value_states: (B, G, n, E).
            *args: Unread.
            **options: Unread.

        Returns:
            All keys and values held; gradients reach the new ones alone.
        """
        cache = self._cache()
        assert cache is not None, "a layer lives as long as its cache"
        cache.take(self.number)
        keys, values = super().update(key_states, value_states)
        self.keys, self.values = keys.detach(), values.detach()
        self.cumulative_length += key_states.shape[2]
        return keys, values

    def drop(self, sinks: int, steps: int, moved: Tensor) -> None:
        """Drop tokens behind the sinks.

        Args:
            sinks: How many are kept in front.
            steps: How many are dropped.
            moved: The keys behind them, in their new places.
        """
        assert self.keys is not None and self.values is not None, "what is dropped was held"
        self.keys = torch.cat([self.keys[:, :, :sinks], moved], dim=2)
        behind = self.values[:, :, sinks + steps :]
        self.values = torch.cat([self.values[:, :, :sinks], behind], dim=2)

    def get_seq_length(self) -> int:
        """Return how many tokens were seen, dropped ones too."""
        return self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys a pass has, and the position of the first.

        Args:
            query_length: How many tokens the pass adds.

        Returns:
            (M, 0).
        """
        return self.kept + query_length, 0

    def get_max_length(self) -> int:
        """Return that there is no end."""
        return -1


def _check_sizes(model: PreTrainedModel, sinks: int, window: int, block: int) -> None:
    for name, size, least in (("sinks", sinks, 0), ("window", window, 1), ("block", block, 1)):
        if type(size) is not int or size < least:
            raise InputError(f"{name}={size!r} must be a whole number, at least {least}")
    if block > window:
        raise InputError(f"block={block} must be at most window={window}")
    config = model.config.get_text_config(decoder=True)
    trained = getattr(config, "max_position_embeddings", None)
    if trained is not None and sinks + window > trained:
        raise InputError(
            f"sinks + window are {sinks + window} tokens; the model was trained on {trained}"
        )


def _owner(model: PreTrainedModel) -> nn.Module:
    """Return the decoder inside a model, which takes positions."""
    decoder = model.get_decoder()
    return model if decoder is None else decoder


def _before(reference: "weakref.ref[StreamingCache]") -> Any:
    """Return a hook that places the tokens of a pass within the cache it is given."""

    def hook(module: nn.Module, args: Any, options: Any) -> Any:
        given = inspect.signature(type(module).forward).bind_partial(module, *args, **options)
        named = dict(list(given.arguments.items())[1:])
        named.update(named.pop("kwargs", {}))
        cache = reference()
        if cache is None or named.get("past_key_values") is not cache:
            return None
        tokens = named.get("input_ids")
        tokens = named["inputs_embeds"] if tokens is None else tokens
        _check_mask(named.pop("attention_mask", None))
        cache.make_room(tokens.shape[1])
        first = torch.full((1, 1), cache.kept, device=tokens.device)
        named["position_ids"] = first + torch.arange(tokens.shape[1], device=tokens.device)
        return (), named

    return hook


def _check_mask(mask: Any) -> None:
    """Check that a mask, if any, hides nothing: it would have to be dropped from, too."""
    if mask is not None and (mask.dim() != 2 or not bool((mask != 0).all())):
        raise UnsupportedError(
            "a streaming cache takes no padding and no mask of one's own; give texts of equal "
            "length, or one at a time"
        )
