"""Programs with learned parameters: the part of an attention layer between projections.

Leaves to others: projections (`attention`), whole layers (`layers`).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.errors import InputError, no_program
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ops.attend import attend
from regard.ops.observe import changed, observed_inputs
from regard.ops.parameters import initial_tensor, parameter_shapes
from regard.passes.restrict_where import drop_weights, restrict_where

MASK, DROPOUT = "layer_mask", "layer_dropout"
HeadGroups = Sequence[tuple[tuple[int, int], AttentionProgram]]
# What a layer's forward calls its own; an input of that name would never be reached.
_TAKEN = {"x", "context", "lengths", "context_lengths", "mask", "cache", "dropout"}


Variants = dict[tuple[bool, bool], AttentionProgram]
# What a call makes of a layer's program before it runs; must be hashable, and equal for the same.
Change = Callable[[AttentionProgram], AttentionProgram]


@lru_cache(maxsize=1024)
def variants_of(program: AttentionProgram) -> Variants:
    """Return a program in every form that a layer runs it in.

    Args:
        program: The program, which need not know of masks and dropout.

    Returns:
        The program by (whether a mask hides further pairs, whether weights are dropped).
    """
    return {
        (masked, dropped): _variant(program, masked, dropped)
        for masked in (False, True)
        for dropped in (False, True)
    }


def _variant(program: AttentionProgram, masked: bool, dropped: bool) -> AttentionProgram:
    root = program.root
    if masked:
        root = restrict_where(root, n.PairInput(MASK))
    if dropped:
        root = drop_weights(root, n.Scalar(DROPOUT, None))
    # What the program declares was checked of itself: a layer's mask may leave a row empty.
    return AttentionProgram(root=root, name=program.name, doc=program.doc)


def attend_in_layer(
    variants: Variants,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    change: Change | None = None,
    **options: Any,
) -> Any:
    """Attend with the mask and dropout of a layer, of which the program need not know.

    Args:
        variants: From `variants_of`; made beforehand, because torch.compile cannot trace it.
        q: (B, H, N, D).
        k: (B, G, M, D).
        v: (B, G, M, E).
        mask: Further pairs to hide: bool (B or 1, H or 1, N, M), true where visible.
        dropout: The probability of dropping a weight.
        change: Makes of the program the one that runs.
        **options: The options and named inputs of `attend`.

    Returns:
        What `attend` returns.
    """
    if mask is not None:
        options[MASK] = mask
    if dropout:
        options[DROPOUT] = dropout
    program = variants[mask is not None, bool(dropout)]
    if change is not None:
        program = _changed(program, change)
    return attend(program, q, k, v, **options)


@lru_cache(maxsize=4096)
def _changed(program: AttentionProgram, change: Change) -> AttentionProgram:
    return change(program)


@lru_cache(maxsize=4096)
def _leaves(program: AttentionProgram) -> dict[str, n.Node]:
    return {leaf.name: leaf for leaf in program.inputs}


class _Learned(nn.Module):
    """The parameters of a program, handed over by a call: what keeps weights elsewhere fetches them
    for a module that is called."""

    def forward(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())


class _Group(nn.Module):
    """One program on consecutive heads, with its parameters."""

    def __init__(
        self, program: AttentionProgram, start: int, stop: int, heads: int, widths: dict[str, int]
    ) -> None:
        super().__init__()
        _check_names(program)
        self.program, self.start, self.stop, self.heads = program, start, stop, heads
        self.variants = variants_of(program)
        arrays = {leaf.name: leaf for leaf in program.parameters}
        self.reads = {leaf.name: leaf for leaf in program.inputs if leaf.name not in arrays}
        self.shapes = parameter_shapes(program.root, heads, widths)
        self.learned = _Learned()
        for name, shape in self.shapes.items():
            if hasattr(self.learned, name):
                raise InputError(
                    f"program '{program.name}': torch's modules have a '{name}' of their own; "
                    "rename the parameter"
                )
            first = nn.Parameter(initial_tensor(arrays[name], shape))
            self.learned.register_parameter(name, first)

    def reset(self) -> None:
        """Put every parameter back to its initialiser."""
        arrays = {leaf.name: leaf for leaf in self.program.parameters}
        with torch.no_grad():
            for name, parameter in self.learned.named_parameters():
                parameter.copy_(initial_tensor(arrays[name], tuple(parameter.shape)))

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        change: Change | None,
        options: dict[str, Any],
    ) -> Any:
        """Attend with this group's heads of whole-layer tensors."""
        per_key_head = q.shape[1] // k.shape[1]
        own = slice(self.start, self.stop)
        keys = slice(self.start // per_key_head, self.stop // per_key_head)
        heads = {k.shape[1]: keys, q.shape[1]: own}
        reads = self.reads if change is None else _leaves(_changed(self.program, change))
        named = {name: _own_heads(reads.get(name), value, heads) for name, value in options.items()}
        learned = self.learned()
        return attend_in_layer(
            self.variants, q[:, own], k[:, keys], v[:, keys],
            mask=None if mask is None else _own_heads(n.PairInput(MASK), mask, heads),
            change=change, first_head=self.start, total_heads=self.heads, **learned, **named,
        )  # fmt: skip


def _check_names(program: AttentionProgram) -> None:
    """Check that a layer can hand over every input, the learned ones among them."""
    for leaf in program.inputs:
        learned = isinstance(leaf, n.Array) and leaf.source == "parameter"
        if leaf.name in (MASK, DROPOUT) or (leaf.name in _TAKEN and not learned):
            raise InputError(
                f"program '{program.name}': a layer has a '{leaf.name}' of its own; "
                "rename the input"
            )


def _own_heads(leaf: Any, value: Any, heads: dict[int, slice]) -> Any:
    """Return a group's part of an input that has an axis of heads; other inputs as they are.

    Args:
        leaf: What the program reads, or None.
        value: What was given for it, for the whole layer.
        heads: The group's heads, by how many the layer has: query heads and key heads.

    Returns:
        The input for the group's heads.
    """
    if not isinstance(leaf, n.Feature | n.Vector | n.PairInput) or not isinstance(value, Tensor):
        return value
    # Heads stand before rows and channels, before queries and keys, or before tokens alone.
    axis = value.dim() - (2 if isinstance(leaf, n.Feature) else 3)
    if axis < 0 or value.shape[axis] == 1 or value.shape[axis] not in heads:
        return value
    own = heads[value.shape[axis]]
    return value.narrow(axis, own.start, own.stop - own.start)


class Programmed(nn.Module):
    """Attends with one program, or with several on groups of heads; their parameters are learned.

    Args:
        program: A program, or ((first head, head after the last), program) pairs that cover all
            heads.
        heads: H.
        width: D, the width of a head.
        key_heads: G, which divides H; a group of heads must hold whole key heads.
        value_width: E; D unless given.
        widths: By name, widths of further vectors that parameters meet, and of parameters that
            meet no row.

    Raises:
        InputError: If heads and key heads do not fit, if groups overlap, leave heads out or split
            a key head, or if a layer cannot hand over an input of that name.
    """

    def __init__(
        self,
        program: AttentionProgram | HeadGroups,
        heads: int,
        width: int,
        *,
        key_heads: int | None = None,
        value_width: int | None = None,
        widths: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads = heads, heads if key_heads is None else key_heads
        if min(self.heads, self.key_heads) < 1 or heads % self.key_heads:
            raise InputError(f"{heads} heads are no multiple of {self.key_heads} key heads")
        groups = _groups(program, heads)
        check_head_groups([span for span, _ in groups], heads, self.key_heads)
        known = {"q": width, "k": width, "v": value_width or width, **(widths or {})}
        self.groups = nn.ModuleList(_Group(one, *span, heads, known) for span, one in groups)

    @property
    def reads(self) -> set[str]:
        """The inputs beside q, k, v and the parameters that any of the programs reads."""
        return {name for group in self._each_group() for name in group.reads} - {"q", "k", "v"}

    @property
    def needs(self) -> list[str]:
        """The inputs beside q, k and v that every call has to give."""
        leaves = {name: leaf for group in self._each_group() for name, leaf in group.reads.items()}
        settled = {
            name
            for name, leaf in leaves.items()
            if isinstance(leaf, n.Scalar) and leaf.default is not None
        }
        return sorted(leaves.keys() - settled - {"q", "k", "v"})

    def reset_parameters(self) -> None:
        """Put every parameter back to its initialiser."""
        for group in self._each_group():
            group.reset()

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        dropout: float = 0.0,
        change: Change | None = None,
        observe: Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """Attend.

        Args:
            q: (B, H, N, D).
            k: (B, G, M, D).
            v: (B, G, M, E).
            mask: Further pairs to hide: bool (B or 1, H or 1, N, M), true where visible.
            dropout: The probability of dropping a weight; only while training.
            change: Makes of each program the one that runs; hashable, and equal for the same.
            observe: As for `attend`.
            **options: Other options of `attend` and the programs' further inputs.

        Returns:
            (B, H, N, E); with `observe`, also a dict of what was observed.
        """
        if mask is not None:
            _check_mask(mask, q, k)
        options["observe"] = observe
        if self.training:
            options["dropout"] = dropout
            if "seed" not in options:
                options["seed"] = draw_seed()
        parts = [
            group(q, k, v, mask, change, self._options_of(group, options))
            for group in self._each_group()
        ]
        if len(parts) == 1:
            return parts[0]
        if not observe:
            return torch.cat(parts, dim=1)
        seen = {name: changed(_joined, *(part[1][name] for part in parts)) for name in observe}
        return torch.cat([part[0] for part in parts], dim=1), seen

    def _options_of(self, group: _Group, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options without inputs that only other groups' programs read."""
        others = {name for one in self._each_group() for name in one.reads}
        others -= observed_inputs(options["observe"])
        learned = [name for name in options if name in group.shapes and name not in others]
        if learned:
            raise InputError(f"'{learned[0]}' is learned by the layer and cannot be given")
        return {
            name: value
            for name, value in options.items()
            if name in group.reads or name not in others
        }

    def _each_group(self) -> list[_Group]:
        return [cast(_Group, group) for group in self.groups]


def _groups(
    program: AttentionProgram | HeadGroups, heads: int
) -> list[tuple[tuple[int, int], AttentionProgram]]:
    if isinstance(program, AttentionProgram):
        return [((0, heads), program)]
    try:
        groups = [((start, stop), one) for (start, stop), one in program]
    except (TypeError, ValueError):
        groups = []
    if not groups or not all(isinstance(one, AttentionProgram) for _, one in groups):
        raise InputError(
            "a layer runs a program, or ((first head, head after the last), program) pairs; "
            f"found {no_program(program)}"
        )
    return groups


def _check_mask(mask: Tensor, q: Tensor, k: Tensor) -> None:
    b, h, rows, keys = *q.shape[:3], k.shape[2]
    fits = mask.dim() == 4 and mask.shape[0] in (1, b) and mask.shape[1] in (1, h)
    if not fits or mask.shape[2:] != (rows, keys):
        raise InputError(
            f"mask has shape {tuple(mask.shape)}; expected ({b} or 1, {h} or 1, {rows}, {keys})"
        )
    if mask.dtype != torch.bool:
        raise InputError(f"mask has dtype {mask.dtype}; it must be bool, true where visible")


def check_head_groups(spans: list[tuple[int, int]], heads: int, key_heads: int) -> None:
    """Check that groups of heads follow each other, cover all heads and keep key heads whole.

    Args:
        spans: (first head, head after the last) of each group.
        heads: H.
        key_heads: G.

    Raises:
        InputError: If they do not.
    """
    at = 0
    for start, stop in spans:
        if start != at or stop <= start:
            raise InputError(
                f"head groups {spans} must follow each other from 0 to {heads} without gaps"
            )
        if start % (heads // key_heads) or stop % (heads // key_heads):
            raise InputError(
                f"heads {start}:{stop} split a key head; {heads // key_heads} heads share one"
            )
        at = stop
    if at != heads:
        raise InputError(f"head groups {spans} end at head {at}; the layer has {heads}")


def draw_seed() -> int:
    """Return a seed from torch's generator: drawn on the CPU, so that no device is waited for."""
    return int(torch.randint(0, 2**63 - 1, ()).item())


def _joined(*heads: Tensor) -> Tensor:
    """Return what groups of heads gave, as one."""
    return torch.cat(heads, dim=1)
