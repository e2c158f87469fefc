"""Search for a query that a forbidden key reaches: in its output, or in its gradient alone.

Key rows outside the region get other numbers, become NaN, or go; the output must stay. Then the
output's gradient in them must be 0. Leaves to others: the calls (`calls`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.contracts import Contract
from regard.ir.program import AttentionProgram
from regard.ops.check import named_inputs
from regard.ops.contracts.calls import Trial, make_call, region_trials
from regard.ops.contracts.counterexample import Counterexample
from regard.ops.contracts.look import Place, differing, differs, output_of, show
from regard.reference.evaluate import evaluate

_ONLY_NAN = "finite numbers there were not found to matter; `where` hides NaN as well"
# Gradients cost more, and leak wherever they leak.
_TRIALS_WITH_GRADIENT = 3

# From a call to the same call in which some key rows, bool (B, H, M), hold something else.
Change = Callable[[Bound, Tensor], Bound]


def search_region(
    program: AttentionProgram, contract: Contract, most: int | None = None
) -> Counterexample | None:
    """Look for a forbidden key that matters.

    Args:
        program: The program.
        contract: "causal", "window" or "padding-blind".
        most: On how many calls; all unless given.

    Returns:
        The first found; None if none was.
    """
    trials = region_trials(program.root, int(contract.limit or 0))
    late = None
    for number, trial in enumerate(islice(trials, most)):
        trial = replace(trial, batch=trial.queries)
        call = make_call(program, trial)
        if call is None:
            return None
        region = _Region(program, contract, trial, call)
        found = region.by_numbers() or region.by_absence()
        if found is None and number < _TRIALS_WITH_GRADIENT:
            found = region.by_gradient()
        if found is not None:
            return found
        # Kept for the end: whatever finite numbers can show is shown with these.
        late = late or region.by_nan()
    return late


class _Region:
    """One small call, in which batch row b asks what query row b may read."""

    def __init__(
        self, program: AttentionProgram, contract: Contract, trial: Trial, call: Bound
    ) -> None:
        self.program, self.root, self.contract = program, program.root, contract
        self.trial = trial
        self.call = call
        leaves = {"k": n.Vector("key", "k"), "v": n.Vector("key", "v"), **named_inputs(self.root)}
        self.rows = {
            name: leaf
            for name, leaf in leaves.items()
            if (isinstance(leaf, n.Vector | n.Feature) and leaf.side == "key")
            or isinstance(leaf, n.PairInput)
        }
        self.rows.pop(contract.feature, None)
        self.forbidden = self._forbidden()
        self.base = self._asked(output_of(self.root, self.call))

    def _forbidden(self) -> Tensor:
        """Return which keys must not matter to the query of each batch row, bool (B, H, M)."""
        call = self.call
        i, j = call.query_positions[0, :, None], call.key_positions[0, None, :]
        match self.contract.name:
            case "causal":
                outside = j > i
            case "window":
                outside = (i - j).abs() > int(self.contract.limit or 0)
            case _ if self.contract.feature:
                return call.tensors[self.contract.feature] == 0
            case _:
                length = (call.keys + 1) // 2
                self.call = replace(call, key_lengths=torch.full((call.batch,), length))
                outside = (torch.arange(call.keys) >= length).expand(call.queries, -1)
        return outside[:, None, :].expand(-1, call.heads, -1)

    def _asked(self, output: Tensor) -> Tensor:
        """Return of each batch row the query that it asks about, (B, H, E)."""
        rows = torch.arange(self.call.queries)
        return output[rows, :, rows]

    def by_numbers(self) -> Counterexample | None:
        """Give forbidden keys other numbers, small and large."""
        for factor, words in ((1.0, "other numbers"), (1e3, "other, large numbers")):
            found = self._changed(self._drawn(factor), f"key row gets {words}")
            if found is not None:
                return found
        return None

    def by_nan(self) -> Counterexample | None:
        """Make forbidden keys NaN, and flip what cannot be."""
        return self._changed(_spoil(self.rows), "key row becomes NaN", _ONLY_NAN)

    def _drawn(self, factor: float) -> Change:
        other = make_call(self.program, replace(self.trial, seed=self.trial.seed + 1000))
        assert other is not None

        def change(bound: Bound, keys: Tensor) -> Bound:
            new = {}
            for name, leaf in self.rows.items():
                old, drawn = bound.tensors[name], other.tensors[name]
                drawn = drawn * factor if drawn.is_floating_point() else drawn
                new[name] = torch.where(_over(keys, leaf), drawn, old)
            return bound.with_tensors(new)

        return change

    def _changed(self, change: Change, words: str, note: str = "") -> Counterexample | None:
        """Change all that must not matter; of what shows, find one key that does it alone."""
        place = self._differs(output_of(self.root, change(self.call, self.forbidden)))
        if place is None:
            return None
        keys = self.forbidden[place.batch, place.head].nonzero()[:, 0].tolist()
        for key in keys:
            single = torch.zeros_like(self.forbidden)
            single[place.batch, place.head, key] = True
            after = output_of(self.root, change(self.call, single))
            if self._differs(after) is not None:
                return self._report(replace(place, key=key), words, after, note)
        after = output_of(self.root, change(self.call, self.forbidden))
        words = f"{words}, with every other forbidden key"
        return self._report(replace(place, key=keys[0]), words, after, note)

    def _differs(self, output: Tensor) -> Place | None:
        found = differs(self.base, self._asked(output)).any(-1).nonzero()
        if not len(found):
            return None
        row, head = found[0].tolist()
        return Place(row, head, row)

    def _report(self, place: Place, words: str, after: Tensor, note: str = "") -> Counterexample:
        own = place.batch, place.head
        numbers = differing(self.base[own], self._asked(after)[own])
        return show(self.root, self.call, place, f"the {words}, and the output", *numbers, note)

    def by_absence(self) -> Counterexample | None:
        """Let the last keys go, as `key_lengths` does, where they must not matter."""
        if self.call.key_lengths is not None:
            return None
        allowed = ~self.forbidden.all(1)
        places = torch.arange(1, self.call.keys + 1)
        # A call without any key is another matter.
        lengths = (allowed * places).amax(1).clamp(min=1)
        after = output_of(self.root, replace(self.call, key_lengths=lengths))
        place = self._differs(after)
        if place is None:
            return None
        place = replace(place, key=int(lengths[place.batch]))
        return self._report(place, "key row and those after it go", after)

    def by_gradient(self) -> Counterexample | None:
        """Differentiate each output in the keys that must not matter."""
        leaves = {
            name: self.call.tensors[name].detach().clone().requires_grad_()
            for name in self.rows
            if self.call.tensors[name].is_floating_point()
        }
        asked = self._asked(evaluate(self.root, self.call.with_tensors(leaves))["output"])
        if not asked.requires_grad:
            return None
        # No program reads another batch row or another head's keys, so that one sum serves all.
        factors = torch.linspace(0.5, 1.5, asked.shape[-1], dtype=asked.dtype)
        found = torch.autograd.grad(
            (asked @ factors).sum(), list(leaves.values()), allow_unused=True
        )
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is None:
                continue
            keys = _per_key(gradient, self.rows[name])
            # NaN may come from the other queries, whose share is 0: 0 times an infinite weight.
            leaking = (self.forbidden & (keys != 0) & ~keys.isnan()).nonzero()
            if len(leaking):
                row, head, key = leaking[0].tolist()
                words = f"the gradient in '{name}' of the key row is {keys[row, head, key]:.6g}"
                place = Place(row, head, row, key)
                return show(self.root, self.call, place, "", "the output stays", words)
        return None


def _per_key(gradient: Tensor, leaf: n.Node) -> Tensor:
    """Return one number a key row, (B, H, M), 0 only if all of its numbers are."""
    match leaf:
        case n.Vector():
            return gradient.abs().sum(-1)
        case n.PairInput():
            return gradient.abs().sum(2)
    return gradient


def _over(keys: Tensor, leaf: n.Node) -> Tensor:
    """Return key rows, bool (B, H, M), in a shape that broadcasts over a tensor."""
    if isinstance(leaf, n.Vector):
        return keys[..., None]
    return keys[:, :, None, :] if isinstance(leaf, n.PairInput) else keys


def _spoil(rows: Mapping[str, n.Node]) -> Change:
    def change(bound: Bound, keys: Tensor) -> Bound:
        new = {}
        for name, leaf in rows.items():
            old = bound.tensors[name]
            spoilt = torch.full_like(old, torch.nan) if old.is_floating_point() else 1 - old.long()
            new[name] = torch.where(_over(keys, leaf), spoilt.to(old.dtype), old)
        return bound.with_tensors(new)

    return change
