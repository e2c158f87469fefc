"""A model whose attention runs several programs in shares, and the model that comes of it.

Before: a model, and what each gate chooses from. After: the model with one program on each head, a
mode, and the weights it learned on the way. Leaves to others: a layer (`layer`), the
choices (`offers`), when to settle (`schedule`).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from regard import hf
from regard.customise.gates.layer import Gated
from regard.customise.gates.offers import Candidates, find_offers
from regard.hf.apply import make_programmed
from regard.hf.places import Place, find_places
from regard.modes import Mode
from regard.nn.programmed import HeadGroups, Programmed
from regard.search import Layers, Space
from regard.search.space import Row, mode_of


class GatedModel:
    """A model whose layers have gates, in place.

    Attributes:
        model: The model.
        layers: Its layers with gates, and where they stand.
    """

    def __init__(
        self, model: PreTrainedModel, candidates: Candidates, head_groups: int | None = None
    ) -> None:
        """Put gates into a model; roles that no candidate speaks of stay as they are.

        Args:
            model: The model, with or without a mode.
            candidates: As for `learn_gates`.
            head_groups: As for `learn_gates`.

        Raises:
            InputError: If the candidates do not fit the model or each other.
            UnsupportedError: If the model's attention cannot be replaced.
        """
        offers = find_offers(model, candidates, head_groups)
        roles = {place.role for _, place, _ in offers.values()}
        before: Mode | None = getattr(model, "regard_mode", None)
        kept = [] if before is None else before.assignments
        self._kept = [one for one in kept if one.role not in roles]
        self.model = model
        self.layers: list[tuple[Place, Gated]] = []
        for module, place, gates in offers.values():
            gated = Gated(gates, partial(_make, module, place), place.heads)
            if (ran := _ran(module)) is not None:
                for one in gated.programs:
                    carry(ran, cast(Programmed, one))
            self.layers.append((place, gated.to(next(module.parameters()).device)))
        # Whatever the gates begin with, the model must ask for programs everywhere.
        apply_again(model, self.winners())
        for (module, _, _), (_, gated) in zip(offers.values(), self.layers, strict=True):
            holder: Any = module
            holder.regard = gated.train(module.training)

    def winners(self, name: str = "gates", intent: str = "") -> Mode:
        """Return the mode of the programs with the largest logits.

        Args:
            name: What it is called.
            intent: What it is for.

        Returns:
            The mode; roles without gates run what they ran before.
        """
        rows: dict[str, list[Row]] = {}
        for place, gated in self.layers:
            chosen = zip(gated.offers, gated.winners(), strict=True)
            row = [program for offer, program in chosen for _ in range(*offer.heads)]
            rows.setdefault(place.role, []).append(tuple(row))
        shapes = {
            role: Layers(len(of), len(of[0]), layer_groups=len(of), head_groups=len(of[0]))
            for role, of in rows.items()
        }
        grid = {role: tuple(of) for role, of in rows.items()}
        made = mode_of(grid, Space(shapes), name, intent)
        return Mode(name, intent, [*self._kept, *made.assignments])

    def course(self) -> Iterator[dict[str, Any]]:
        """Yield where gates stand.

        Yields:
            `role`, `layer`, `heads` as text, `candidate` and `share`, for each gate and candidate.
        """
        for place, gated in self.layers:
            shares = gated.shares().detach()
            for offer, row in zip(gated.offers, shares, strict=True):
                first, after = offer.heads
                heads = str(first) if after == first + 1 else f"{first}-{after - 1}"
                where = {"role": place.role, "layer": place.layer, "heads": heads}
                for name, program in offer.programs.items():
                    share = float(row[gated.choices.index(program)])
                    yield {**where, "candidate": name, "share": round(share, 5)}

    def settle(self) -> None:
        """Run the winner of each gate alone from now on, with the parameters it has."""
        mode = self.winners()
        modules = find_places(self.model)
        for place, gated in self.layers:
            groups = mode.at(place.role, place.layer, place.heads) or []
            # First values are not kept; a run that goes on from here must draw as one that did not.
            with torch.random.fork_rng(devices=[]):
                made = _make(modules[place.path][0], place, groups)
            gated.settle(made)

    def finish(self, name: str, intent: str) -> PreTrainedModel:
        """Take the gates out and leave the winners, with the parameters they have.

        Args:
            name: What the mode is called.
            intent: What it is for.

        Returns:
            The model, which computes what it computed once settled.
        """
        self.settle()
        for module, _ in find_places(self.model).values():
            gated = getattr(module, "regard", None)
            if isinstance(gated, Gated) and gated.chosen is not None:
                holder: Any = module
                holder.regard = gated.chosen
        return apply_again(self.model, self.winners(name, intent))


def apply_again(model: PreTrainedModel, mode: Mode) -> PreTrainedModel:
    """Apply a mode; heads that run what they ran before keep what they learned.

    Args:
        model: With or without a mode.
        mode: The new one.

    Returns:
        The same model.
    """
    before = _programmed(model)
    hf.apply(model, mode)
    for path, now in _programmed(model).items():
        if path in before:
            carry(before[path], now)
    return model


def carry(before: Programmed, now: Programmed) -> None:
    """Give programs the parameters that the same programs had on the same heads.

    Args:
        before: A layer.
        now: Another of as many heads; its parameters are replaced in place.
    """
    for group in now.groups:
        own: Any = group
        for other in before.groups:
            was: Any = other
            met = was.start < own.stop and own.start < was.stop
            if met and was.program == own.program:
                own.learned.load_state_dict(was.learned.state_dict())


def _programmed(model: PreTrainedModel) -> dict[str, Programmed]:
    """Return the layers that run programs, by path."""
    return {
        path: ran
        for path, (module, _) in find_places(model).items()
        if (ran := _ran(module)) is not None
    }


def _ran(module: nn.Module) -> Programmed | None:
    found = getattr(module, "regard", None)
    return found if isinstance(found, Programmed) else None


def _make(module: nn.Module, place: Place, groups: HeadGroups) -> Programmed:
    return make_programmed(groups, module, place)
