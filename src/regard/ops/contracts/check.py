"""check(): is a contract kept? Proved, refuted with a pair, or unknown.

Leaves to others: proofs (`passes/contracts`), searches (`search_regions`, `search_changes`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from regard.errors import InputError, ProgramError, nearest, no_program
from regard.ir import nodes as n
from regard.ir import program as programs
from regard.ir.contracts import MEANINGS, Contract, parse_contract, parse_declared
from regard.ir.program import AttentionProgram
from regard.ops.contracts.counterexample import Counterexample
from regard.ops.contracts.search_changes import (
    search_batch,
    search_bound,
    search_empty,
    search_head,
    search_order,
    search_shift,
)
from regard.ops.contracts.search_regions import search_region
from regard.passes.contracts.prove import Finding, prove

PROVED, REFUTED, UNKNOWN = "proved", "refuted", "unknown"

# Where no number is asked for and none can be proved, these are tried.
_TRIED = {"window": 4096.0, "bounded": 1e6}
_CALLS_BESIDE_A_PROOF = 2
_SEARCHES = {
    "causal": search_region,
    "window": search_region,
    "padding-blind": search_region,
    "bounded": search_bound,
    "batch-independent": search_batch,
    "head-independent": search_head,
    "shift-invariant": search_shift,
    "permutation-equivariant": search_order,
    "never empty": search_empty,
}


@dataclass(frozen=True)
class Answer:
    """What is known of one contract.

    Attributes:
        contract: The contract as text, with its number.
        status: "proved" (for every call), "refuted" (by a pair) or "unknown".
        reason: Why.
        counterexample: The pair, if it is refuted.
        declared: Whether the program declares it.
    """

    contract: str
    status: str
    reason: str
    counterexample: Counterexample | None = None
    declared: bool = False

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"    {line}" for line in self._details())])

    @property
    def headline(self) -> str:
        """The contract and its status, on one line."""
        mark = {PROVED: "✓", REFUTED: "✗", UNKNOWN: "?"}[self.status]
        declared = "  (declared)" if self.declared else ""
        return f"{mark} {self.contract}: {self.status}{declared}"

    def _details(self) -> list[str]:
        shown = self.counterexample
        return [self.reason, *(str(shown).splitlines() if shown is not None else [])]


@dataclass(frozen=True)
class Checked:
    """The answers on one program; it prints well.

    Attributes:
        program: The program's name.
        answers: One a contract.
    """

    program: str
    answers: tuple[Answer, ...]

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __getitem__(self, contract: str) -> Answer:
        """Return the answer on a contract, by its name or by its whole text."""
        for answer in self.answers:
            if contract in (answer.contract, answer.contract.partition(" <= ")[0]):
                return answer
        known = [answer.contract for answer in self.answers]
        raise InputError(f"'{contract}' was not checked; {nearest(contract, known)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        answers = []
        for one in self.answers:
            shown = one.counterexample
            plain = {"contract": one.contract, "status": one.status, "reason": one.reason}
            plain |= {"declared": one.declared}
            plain |= {"counterexample": None if shown is None else shown.as_dict()}
            answers.append(plain)
        return {"program": self.program, "answers": answers}

    def __str__(self) -> str:
        return "\n".join([self.program, *(str(answer) for answer in self.answers)])


def check(program: AttentionProgram, contracts: Sequence[str] | None = None) -> Checked:
    """Say of each contract whether a program keeps it.

    A proof holds for every size and all data, up to rounding. It is tried on small calls as well,
    values and gradients. A counterexample is one of these calls, by the reference.

    Args:
        program: The program.
        contracts: Which, as text such as "causal" or "window <= 256"; all of them, and those that
            the program declares, unless given. "window" and "bounded" find the least number.

    Returns:
        The answers, in that order.

    Raises:
        InputError: If it is no program, or what is asked for is no contract.
    """
    if not isinstance(program, AttentionProgram):
        raise InputError(
            f"check takes a program, which @rg.program makes; found {no_program(program)}"
        )
    if isinstance(contracts, str):
        raise InputError(f'contracts takes a list of names, e.g. ["causal"]; found {contracts!r}')
    declared = [parse_declared(text) for text in program.contracts]
    if contracts is None:
        known = {contract.name for contract in declared if not contract.feature}
        asked = [*declared, *(Contract(name) for name in MEANINGS if name not in known)]
    else:
        try:
            asked = [parse_contract(text) for text in contracts]
        except ProgramError as problem:
            raise InputError(str(problem)) from None
    return Checked(program.name, tuple(_answer(program, one, one in declared) for one in asked))


def _answer(program: AttentionProgram, contract: Contract, declared: bool) -> Answer:
    try:
        _check_feature(program, contract)
    except ProgramError as problem:
        raise InputError(str(problem)) from None
    finding = prove(program.root, contract)
    contract = _numbered(finding)
    most = _CALLS_BESIDE_A_PROOF if finding.proved else None
    found = _SEARCHES[contract.name](program, contract, most)
    if finding.proved:
        assert found is None, f"'{contract}' is proved of {program.name}, and yet:\n{found}"
        return Answer(str(contract), PROVED, finding.reason, None, declared)
    status = UNKNOWN if found is None else REFUTED
    return Answer(str(contract), status, finding.reason, found, declared)


def _numbered(finding: Finding) -> Contract:
    contract = finding.contract
    if contract.limit is None and contract.name in _TRIED:
        return Contract(contract.name, _TRIED[contract.name])
    return contract


def _check_feature(program: AttentionProgram, contract: Contract) -> None:
    if not contract.feature:
        return
    leaf = n.Feature("key", contract.feature)
    if leaf not in program.inputs:
        known = [x.name for x in program.inputs if isinstance(x, n.Feature) and x.side == "key"]
        raise ProgramError(
            f"contract '{contract}': the program reads no key feature of that name; "
            f"{nearest(contract.feature, known)}"
        )


def guard(program: AttentionProgram) -> None:
    """Refuse a program that breaks a contract it declares.

    What is proved is not tried; what is neither proved nor refuted is let through.

    Args:
        program: The program.

    Raises:
        ProgramError: If a contract is unknown or broken; the message shows the pair.
    """
    for text in program.contracts:
        contract = parse_declared(text)
        _check_feature(program, contract)
        broken = _broken(program, contract)
        if broken is not None:
            reason, found = broken
            shown = "\n".join(f"  {line}" for line in str(found).splitlines())
            raise ProgramError(
                f"{program.name} declares '{contract}' and breaks it: {reason}\n{shown}"
            )


# Equal programs are equal keys: models make the same program many times.
@lru_cache(maxsize=1024)
def _broken(program: AttentionProgram, contract: Contract) -> tuple[str, Counterexample] | None:
    finding = prove(program.root, contract)
    found = None if finding.proved else _SEARCHES[contract.name](program, contract)
    return None if found is None else (finding.reason, found)


programs.guard_with(guard)
