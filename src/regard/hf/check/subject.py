"""What is checked: a model, the attention under test, and its streams of tokens.

Leaves to others: what must hold (one check a file), making models and inputs (`tiny`, `inputs`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.hf.check.calls import Call, asked_masks, recording
from regard.hf.check.inputs import FIRST_WORD, LAST_WORD, picture_inputs
from regard.hf.check.tiny import takes

EAGER = "eager"
# Violations are shares of the largest number compared. Correct implementations differ by the order
# of their sums: about 30 roundings.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Stream:
    """One sequence of tokens a model reads.

    Attributes:
        ids: The argument that holds it.
        mask: The argument that says which of its tokens are no padding, if there is one.
        output: "decoder", "encoder" (its own last hidden state) or "text" (of a model of text and
            pictures).
        causal: Whether a token's output may not depend on later ones.
    """

    ids: str
    mask: str | None
    output: str
    causal: bool


@dataclass
class Subject:
    """A model under test.

    Attributes:
        model: The model, in evaluation mode.
        attention: The implementation under test.
        inputs: What it is called with.
        tolerance: What a violation may be, as a share of the largest number compared.
    """

    model: PreTrainedModel
    attention: str
    inputs: dict[str, Tensor]
    tolerance: float = field(init=False)

    def __post_init__(self) -> None:
        """Choose the tolerance by the precision of the weights."""
        self.tolerance = _TOLERANCES.get(self.model.dtype, 3e-2)

    @property
    def is_eager(self) -> bool:
        """Whether the attention under test is the reference itself."""
        return self.attention == EAGER

    @property
    def has_mode(self) -> bool:
        """Whether programs of a mode stand in the place of the model's own attention."""
        return hasattr(self.model, "regard_mode")

    @property
    def reference(self) -> str:
        """The implementation that says what the model asks for: eager unless a mode stands in."""
        return self.attention if self.has_mode else EAGER

    @contextlib.contextmanager
    def using(self, attention: str) -> Iterator[None]:
        """Let the model run another implementation for a while.

        Args:
            attention: Its name.

        Yields:
            Nothing.

        Raises:
            UnsupportedError: If the model cannot.
        """
        before = self.model.config._attn_implementation
        switch(self.model, attention)
        try:
            yield
        finally:
            switch(self.model, before)

    def run(self, **changes: Any) -> Any:
        """Call the model.

        Args:
            **changes: Arguments that are to be others; None leaves one out.

        Returns:
            What it returns.
        """
        given = {**self.inputs, **changes}
        return self.model(**{name: value for name, value in given.items() if value is not None})

    def outputs(self, stream: Stream, **changes: Any) -> Tensor:
        """Return what a model says of each token of a stream.

        Args:
            stream: The stream.
            **changes: As for `run`.

        Returns:
            (B, N, channels).

        Raises:
            UnsupportedError: If the model says nothing of each token.
        """
        found = self.run(**changes)
        length = changes.get(stream.ids, self.inputs[stream.ids]).shape[1]
        told = token_output(found, stream, length)
        if told is None:
            raise UnsupportedError(f"the model returns nothing for each token of '{stream.ids}'")
        return told

    @cached_property
    def pictures(self) -> dict[str, Tensor]:
        """Arguments that add a picture to a text; none for a model that takes none."""
        with self.using(self.reference):
            return picture_inputs(self.model, self.inputs)

    @cached_property
    def own_calls(self) -> list[Call]:
        """The calls of attention functions, by eager attention, or by that of the mode."""
        with self.using(self.reference):
            return self.calls()

    def calls(self, **changes: Any) -> list[Call]:
        """Return the calls of attention functions in a forward pass.

        Args:
            **changes: As for `run`.

        Returns:
            The calls.
        """
        with torch.no_grad(), recording(self.model) as calls:
            self.run(**changes)
        return calls

    @cached_property
    def streams(self) -> list[Stream]:
        """The model's streams of tokens."""
        found = []
        decodes = "decoder_input_ids" in self.inputs
        if "input_ids" in self.inputs:
            kind = "encoder" if decodes else "decoder"
            mask = "attention_mask" if takes(self.model, "attention_mask") else None
            causal = not decodes and self._says_causal(self.inputs["input_ids"].shape[1])
            found.append(Stream("input_ids", mask, kind, causal))
        if decodes:
            name = "decoder_attention_mask"
            mask = name if takes(self.model, name) else None
            found.append(Stream("decoder_input_ids", mask, "decoder", True))
        return found

    def _says_causal(self, length: int) -> bool:
        """Tell whether the model asks for a causal mask; if it asks for none, what modules say."""
        with self.using(self.reference), torch.no_grad(), asked_masks(self.reference) as asked:
            self.run()
        asked = [shows for queries, keys, shows in asked if queries == keys == length]
        if asked:
            return not any(shows(0, 1) for shows in asked)
        calls = [call for call in self.own_calls if call.query.shape[2] == length]
        told = [call.is_causal for call in calls if call.is_square]
        if told:
            return all(told)
        # Models that never ask for an attention function are known by their heads.
        kind = type(self.model).__name__
        return kind.endswith(("CausalLM", "LMHeadModel"))

    def words(self, like: Tensor, seed: int) -> Tensor:
        """Return random words.

        Args:
            like: Tokens (B, N).
            seed: Other seeds draw other words.

        Returns:
            Tokens (B, N), each another than in `like`.
        """
        drawn = torch.Generator().manual_seed(seed)
        count = LAST_WORD - FIRST_WORD
        step = torch.randint(1, count, like.shape, generator=drawn).to(like.device)
        return (like - FIRST_WORD + step) % count + FIRST_WORD


def switch(model: PreTrainedModel, attention: str | None) -> None:
    """Let a model run an implementation, or say why it cannot.

    Args:
        model: The model.
        attention: The implementation.

    Raises:
        UnsupportedError: If the model refuses it.
    """
    if attention is None or model.config._attn_implementation == attention:
        return
    try:
        model.set_attn_implementation(attention)
    except (ValueError, ImportError) as problem:
        first = str(problem).splitlines()[0]
        raise UnsupportedError(f"the model cannot run attention '{attention}': {first}") from None
    if model.config._attn_implementation != attention and attention != EAGER:
        raise UnsupportedError(
            f"{type(model).__name__} does not ask transformers for its attention, so that it "
            f"cannot run '{attention}'; check it with '{EAGER}'"
        )


def token_output(found: Any, stream: Stream, length: int) -> Tensor | None:
    """Return the part of a model's output that has a row for each token of a stream.

    Args:
        found: What the model returned.
        stream: The stream.
        length: N.

    Returns:
        (B, N, channels), or None if there is none.
    """
    names = ("encoder_last_hidden_state",)
    if stream.output != "encoder":
        names = ("logits", "last_hidden_state", "prediction_logits")
    for name in names:
        value = getattr(found, name, None)
        if isinstance(value, Tensor) and value.dim() == 3 and value.shape[1] == length:
            return value
    inner = getattr(found, "text_model_output", None)
    return None if inner is None else token_output(inner, stream, length)


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest number expected.

    Args:
        found: Numbers.
        expected: As many; they may be NaN where those found are.

    Returns:
        The share; infinite if one is NaN or infinite and the other is not.
    """
    if not expected.numel():
        return 0.0
    exact, other = expected.detach().double(), found.detach().double()
    both = torch.isfinite(exact) & torch.isfinite(other)
    if not torch.equal(torch.isfinite(exact), torch.isfinite(other)):
        return float("inf")
    if not both.any():
        return 0.0
    largest = exact[both].abs().max().clamp_min(1e-30)
    return float((other[both] - exact[both]).abs().max() / largest)


@contextlib.contextmanager
def embedded(model: PreTrainedModel, ids: Tensor) -> Iterator[list[Tensor]]:
    """Make the embedded tokens of a stream leaves whose gradient is kept.

    Args:
        model: The model.
        ids: The tokens, (B, N); embeddings of anything else are left alone.

    Yields:
        The leaves (B, N, channels) of the passes so far.
    """
    leaves: list[Tensor] = []

    def replace(_: nn.Module, given: tuple[Any, ...], rows: Tensor) -> Tensor:
        # Streams may share a module, and may each have their own: the tokens tell them apart.
        if not given or not isinstance(given[0], Tensor) or not torch.equal(given[0], ids):
            return rows
        # Tables of positions may be given the tokens too, for their number alone.
        if rows.shape[:2] != ids.shape:
            return rows
        leaves.append(rows.detach().requires_grad_())
        return leaves[-1]

    handles = [
        module.register_forward_hook(replace)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
    ]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()
