"""One layer of attention that runs several programs at once, each head in shares of its gate.

Before: head 0 runs a program. After: head 0 runs 0.6 of one and 0.4 of another.
A share is a softmax of learned logits by a temperature, as in DARTS (Liu et al. 2019, arXiv
1806.09055, equation 2), here over programs of a head. Leaves to others: which programs
(`offers`), how the temperature falls (`schedule`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn

from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.nn.programmed import HeadGroups, Programmed, draw_seed

# Gates that no loss depends on have no gradient.
_LEAST = 1e-30


@dataclass(frozen=True)
class Offer:
    """What one gate chooses from.

    Attributes:
        heads: (first head, head after the last) that the gate is of.
        programs: The programs by the names of their candidates.
    """

    heads: tuple[int, int]
    programs: Mapping[str, AttentionProgram]


class Gated(nn.Module):
    """Runs all programs that are offered, or once settled the chosen ones alone.

    What a program learns is kept once for the layer, whichever gates offer it.

    Attributes:
        offers: What each of the G gates chooses from.
        programs: The K programs, each as a layer that runs it on all H heads.
        logits: (G, K), by what `learn` has seen.
        choices: The K programs themselves.
        reads: The inputs beside q, k, v and the parameters that any of them reads.
        temperature: What logits are divided by.
    """

    def __init__(
        self, offers: Sequence[Offer], make: Callable[[HeadGroups], Programmed], heads: int
    ) -> None:
        """Put programs and gates together; all gates begin with equal shares.

        Args:
            offers: Of neighbouring groups of heads that cover all.
            make: Makes a layer of programs on groups of heads.
            heads: H.
        """
        super().__init__()
        self.offers, self.heads = tuple(offers), heads
        self.choices = tuple(dict.fromkeys(p for one in offers for p in one.programs.values()))
        self.programs = nn.ModuleList(make([((0, heads), one)]) for one in self.choices)
        self.logits = nn.Parameter(torch.zeros(len(offers), len(self.choices)), False)
        self.register_buffer("total", torch.zeros(len(offers), len(self.choices)))
        self.register_buffer("squares", torch.zeros(len(offers), 1))
        offered = [[p in one.programs.values() for p in self.choices] for one in offers]
        self.register_buffer("offered", torch.tensor(offered), persistent=False)
        gate_of = [number for number, one in enumerate(offers) for _ in range(*one.heads)]
        self.register_buffer("gate_of", torch.tensor(gate_of), persistent=False)
        self.reads: set[str] = {name for one in self._each() for name in one.reads}
        self.temperature = 1.0
        # In a tuple, so that what it shares with `programs` is not saved twice.
        self._chosen: tuple[Programmed, ...] = ()

    @property
    def chosen(self) -> Programmed | None:
        """The layer that runs alone, once settled."""
        return self._chosen[0] if self._chosen else None

    def shares(self) -> Tensor:
        """Return the share of each program in each gate.

        Returns:
            (G, K), each row of sum 1; 0 for what a gate does not offer.
        """
        return torch.softmax(self._offered(self.logits) / self.temperature, dim=-1)

    def winners(self) -> list[AttentionProgram]:
        """Return the program with the largest logit of each gate, the first among equals."""
        best = self._offered(self.logits.detach()).argmax(-1)
        return [self.choices[number] for number in best.tolist()]

    def learn(self) -> None:
        """Take the gradients that the logits have as evidence.

        A logit is -Σ g / √Σ |g|², over steps, with |g| over the candidates of its gate: dual
        averaging with the steps of AdaGrad (Duchi et al. 2011, JMLR 12). Evidence that is noise
        stays near 1, whatever its scale; evidence that agrees grows with the root of the steps.
        """
        if self.logits.grad is None:
            return
        total, squares = cast(Tensor, self.total), cast(Tensor, self.squares)
        # By logit and temperature together, so that a cold step counts no more than a warm one.
        gradient = self.logits.grad * self.temperature
        with torch.no_grad():
            total += gradient
            squares += gradient.square().sum(-1, keepdim=True)
            self.logits.copy_(-total / squares.sqrt().clamp_min(_LEAST))

    def _offered(self, logits: Tensor) -> Tensor:
        return logits.masked_fill(~cast(Tensor, self.offered), float("-inf"))

    def settle(self, chosen: Programmed) -> None:
        """Run chosen programs alone from now on, with the parameters they have here.

        Args:
            chosen: The same programs on groups of heads; its own parameters are given up.
        """
        for group in chosen.groups:
            own = cast(Any, self.programs[self.choices.index(cast(Any, group).program)])
            for name, value in own.groups[0].learned.named_parameters():
                setattr(cast(Any, group).learned, name, value)
        self.logits.requires_grad_(False)
        self._chosen = (chosen,)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, *, observe: Sequence[str] = (), **options: Any
    ) -> Any:
        """Attend.

        Args:
            q: (B, H, N, D).
            k: (B, G, M, D).
            v: (B, G, M, E).
            observe: As for `attend`; nothing before it is settled.
            **options: Those of `Programmed`, and the programs' further inputs.

        Returns:
            (B, H, N, E); once settled, with `observe` also what was observed.

        Raises:
            InputError: If something is to be observed of several programs at once.
        """
        if self.training and "seed" not in options:
            # One for all programs, as a layer draws one for all groups of heads.
            options["seed"] = draw_seed()
        if self.chosen is not None:
            self.chosen.training = self.training
            return self.chosen(q, k, v, observe=observe, **self._options_of(self.chosen, options))
        if observe:
            raise InputError(
                f"'{observe[0]}' cannot be observed while gates are learned, because each head "
                "runs several programs; observe the model that comes of it"
            )
        shares = self.shares()[cast(Tensor, self.gate_of)].to(v.dtype)
        parts = [
            share[:, None, None] * one(q, k, v, **self._options_of(one, options))
            for share, one in zip(shares.unbind(1), self._each(), strict=True)
        ]
        return reduce(torch.add, parts)

    def _options_of(self, one: Programmed, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options without inputs that only other programs read."""
        others = self.reads - one.reads
        return {name: value for name, value in options.items() if name not in others}

    def _each(self) -> list[Programmed]:
        return [cast(Programmed, one) for one in self.programs]
