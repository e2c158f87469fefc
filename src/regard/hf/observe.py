"""What the attention of a model does during any forward pass, observed in the kernels that run it.

Leaves to others: what can be observed (`ops`), counting calls (`watching`), drawing (`view`).
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from regard.errors import InputError, UnsupportedError, located, nearest
from regard.hf.apply import Place, find_places
from regard.hf.interface import NAME
from regard.hf.seen import Seen
from regard.hf.watching import Watcher, watchers
from regard.lang.functions import dot
from regard.lang.pair import Pair
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.lang.weights import softmax
from regard.ops.observe import observations, observed_inputs

Numbers = int | range | Sequence[int] | None


class Observing:
    """A block in which a model is observed; made by `observe`.

    `with rg.hf.observe(model, names) as seen:` observes what is called inside, and
    `output, seen = rg.hf.observe(model, names)(**inputs)` one call.
    """

    def __init__(self, model: PreTrainedModel, watcher: Watcher, seen: Seen) -> None:
        self._model, self._watcher, self._seen = model, watcher, seen
        self._open: contextlib.ExitStack | None = None

    def __enter__(self) -> Seen:
        """Begin to observe.

        Returns:
            Where everything observed is found, during the block and after it.

        Raises:
            InputError: If the block was entered before.
            UnsupportedError: If the model computes its layers again in backward.
        """
        if self._open is not None:
            raise InputError("this block was entered before; call rg.hf.observe again for another")
        model = self._model
        if model.training and torch.is_grad_enabled() and _checkpoints(model):
            raise UnsupportedError(
                "a model with gradient checkpointing runs its layers twice and keeps no gradient "
                "of what is observed; turn checkpointing off, or observe under torch.no_grad()"
            )
        with contextlib.ExitStack() as stack:
            stack.enter_context(_ours(model))
            for owner in self._watcher.owners:
                for hook in _hooks(owner, self._watcher):
                    stack.callback(hook.remove)
            token = watchers.set((*watchers.get(), self._watcher))
            stack.callback(watchers.reset, token)
            self._open = stack.pop_all()
        return self._seen

    def __exit__(self, *problem: Any) -> None:
        """Observe no longer; the model is as it was, after an error too."""
        assert self._open is not None, "a block ends after it began"
        self._open.close()

    def __call__(self, *args: Any, **inputs: Any) -> tuple[Any, Seen]:
        """Call the model and observe it.

        Args:
            *args: What the model is called with.
            **inputs: What the model is called with.

        Returns:
            What the model returned, and what was observed.
        """
        with self as seen:
            return self._model(*args, **inputs), seen


def observe(
    model: PreTrainedModel,
    names: Sequence[str],
    *,
    layers: Numbers = None,
    heads: Numbers = None,
    role: str | None = None,
    **features: Tensor,
) -> Observing:
    """Observe a model's attention during whatever it is called for, `generate` too.

    The model runs on Regard's kernels meanwhile, its own attention or its mode's programs, and is
    put back afterwards. Only calls in the same thread are observed, of modules that
    `torch.compile` did not compile. Everything but `max` and keys is differentiable.

    Args:
        model: A model, with a mode or without.
        names: What to observe, e.g. "entropy", "received", "top:8", "map:64x64", "weights"; as
            `attend` takes them.
        layers: The layers, a number, a range or a list of numbers; all unless given.
        heads: The heads, likewise.
        role: The role of the attention, e.g. "encoder", "decoder", "cross"; may be left out where
            the model has one.
        **features: Features of keys that names such as "mass:kind:4" read, (B or 1, 1 or H, M) or
            longer.

    Returns:
        A block, to be entered once.

    Raises:
        InputError: If a name, a feature, a role, a layer or a head is none.
        UnsupportedError: If the model's attention cannot be reached.
    """
    if isinstance(names, str):
        raise InputError(f"names is a list, not a text: write [{names!r}]")
    if not names:
        raise InputError("nothing is to be observed; give names, as ['entropy', 'received']")
    chosen = _of_role(model, role)
    _check_names(tuple(names), [module for module, _, _ in chosen])
    _check_features(names, features)
    # ALBERT alone says how many modules its layers share.
    shared = getattr(model.config, "num_hidden_groups", None) is not None
    count = model.config.num_hidden_layers if shared else len(chosen)
    wanted = _numbers("layers", layers, count)
    picked: tuple[int, ...] = ()
    for _, place, layer in chosen:
        if shared or layer in wanted:
            try:
                picked = _numbers("heads", heads, place.heads)
            except InputError as problem:
                raise located(problem, place.path) from None
    watcher = Watcher(
        tuple(dict.fromkeys(names)),
        {id(module): layer for module, _, layer in chosen},
        {id(module): _owner(model, place.path) for module, place, _ in chosen},
        wanted,
        None if heads is None else picked,
        features,
    )
    return Observing(model, watcher, Seen(watcher))


def _of_role(model: PreTrainedModel, role: str | None) -> list[tuple[nn.Module, Place, int]]:
    """Return a model's attention modules of one role, with their places and layers."""
    places = [(module, place, place.numbers) for module, place in find_places(model).values()]
    own = {place.role for _, place, _ in places}
    if role is None and len(own) > 1:
        raise InputError(f"the model has attention of roles {', '.join(sorted(own))}; name one")
    known = {name for _, _, numbers in places for name in numbers}
    role = next(iter(own)) if role is None else role
    if role not in known:
        raise InputError(
            f"the model has no attention of role {role!r}; {nearest(str(role), known)}"
        )
    return [(module, place, numbers[role]) for module, place, numbers in places if role in numbers]


@program
def _plain(pair: Pair) -> Expr:
    """Softmax attention with a sink: whatever a model's own attention may have to be observed."""
    return softmax(dot(pair.q, pair.k), sink=0.0)


def _check_names(names: tuple[str, ...], modules: list[nn.Module]) -> None:
    """Check that each name can be observed in each module."""
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"what is observed has a name, such as 'entropy'; found {name!r}")
    for module in modules:
        programmed: Any = getattr(module, "regard", None)
        groups = [] if programmed is None else programmed.groups
        for one in [group.program for group in groups] or [_plain]:
            observations(one.root, names)


def _check_features(names: Sequence[str], features: dict[str, Tensor]) -> None:
    read = observed_inputs(names)
    for name in sorted(read - features.keys()):
        raise InputError(f"'mass:{name}' reads the feature '{name}'; give it, as {name}=tensor")
    for name, value in features.items():
        if name not in read:
            raise InputError(f"nothing observed reads '{name}'; {nearest(name, read)}")
        if not isinstance(value, Tensor):
            raise InputError(f"feature '{name}' is a tensor (B, 1 or H, M), not {value!r}")


def _numbers(what: str, given: Numbers, count: int) -> tuple[int, ...]:
    """Return the numbers of layers or heads that are meant."""
    if given is None:
        return tuple(range(count))
    if isinstance(given, tuple):
        raise InputError(
            f"{what}={given} could mean {what} from … to, as in a mode, or single ones; give a "
            "range or a list"
        )
    listed = [given] if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(listed, list | range) or not listed:
        raise InputError(f"{what} is a number, a range or a list of numbers, not {given!r}")
    for number in listed:
        if type(number) is not int or not -count <= number < count:
            raise InputError(f"{what}: there is no {number!r}; there are {count}, from 0")
    return tuple(dict.fromkeys(number % count for number in listed))


def _owner(model: PreTrainedModel, path: str) -> nn.Module:
    """Return the transformers model nearest around a module: what a pass is a call of."""
    parts, owner = path.split("."), model
    for end in range(1, len(parts)):
        around = model.get_submodule(".".join(parts[:end]))
        if isinstance(around, PreTrainedModel):
            owner = around
    return owner


def _hooks(owner: nn.Module, watcher: Watcher) -> Iterator[Any]:
    """Tell a watcher of the passes of its own thread."""

    def before(module: nn.Module, _: Any) -> None:
        if watcher in watchers.get():
            watcher.begin(module)

    def after(module: nn.Module, *_: Any) -> None:
        if watcher in watchers.get():
            watcher.end(module)

    yield owner.register_forward_pre_hook(before)
    yield owner.register_forward_hook(after, always_call=True)


def _checkpoints(model: PreTrainedModel) -> bool:
    """Return whether layers are computed again in backward."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


class _Held:
    """How many blocks hold a model on our attention, and what it ran before."""

    def __init__(self, model: PreTrainedModel) -> None:
        configs = {
            id(one.config): one.config
            for one in model.modules()
            if isinstance(one, PreTrainedModel)
        }
        self.blocks = 0
        self.own = [(config, config._attn_implementation) for config in configs.values()]
        self.mode = getattr(model, "regard_mode", None)


_lock = threading.Lock()
_held: "weakref.WeakKeyDictionary[PreTrainedModel, _Held]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def _ours(model: PreTrainedModel) -> Iterator[None]:
    """Run a model on our attention until the last block, of any thread, is over."""
    with _lock:
        held = _held.get(model) or _Held(model)
        if not held.blocks:
            model.set_attn_implementation(NAME)
            _held[model] = held
        held.blocks += 1
    try:
        yield
    finally:
        with _lock:
            held.blocks -= 1
            if not held.blocks:
                del _held[model]
                # Whoever gave the model another mode meanwhile has chosen its attention.
                if getattr(model, "regard_mode", None) is held.mode:
                    for config, own in held.own:
                        config._attn_implementation = own
