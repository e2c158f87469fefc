"""What each gate of a model chooses from: candidates, checked, by layer and group of heads.

Before: {"plain": scaled_dot_product, "near": a local mode}, and a model of 2 layers of 4 heads.
After: for each of its 2 · 4 gates, {"plain": scaled_dot_product, "near": local}.
Leaves to others: running them (`layer`).
"""

from collections.abc import Iterator, Mapping

from torch import nn
from transformers import PreTrainedModel

from regard.customise.gates.layer import Offer
from regard.errors import InputError, RegardError, UnsupportedError, located, no_program
from regard.hf.apply import check_fit
from regard.hf.places import Place, find_places
from regard.ir.program import AttentionProgram
from regard.modes import Assignment, Mode
from regard.nn.programmed import check_head_groups
from regard.search import Layers, Space, find_faults
from regard.search.space import spans

Candidates = Mapping[str, Mode | AttentionProgram]
# By the path of the module: its place, and what each of its gates chooses from.
Offers = dict[str, tuple[nn.Module, Place, list[Offer]]]


def find_offers(
    model: PreTrainedModel, candidates: Candidates, head_groups: int | None = None
) -> Offers:
    """Return what each gate of a model chooses from.

    Args:
        model: The model.
        candidates: Modes, or programs for every role that admits them, by name.
        head_groups: Into how many groups of neighbours, a gate each, the heads of a layer fall.
            None: each head alone, or with those that it shares keys with.

    Returns:
        Offers of the layers of all roles that any candidate speaks of, in the order of the model.

    Raises:
        InputError: If a candidate does not fit the model, is not admitted where it would run, or
            says what another says; if a place is offered nothing, or there is no choice anywhere.
        UnsupportedError: If layers of one role have different numbers of heads.
    """
    space = space_of(model)
    modes = _modes_of(candidates, model, space)
    found: Offers = {}
    roles = {role for mode in modes.values() for role in _roles(mode, model)}
    for path, (module, place) in find_places(model).items():
        if place.role in roles:
            gates = [_offer(modes, place, span) for span in _spans(place, head_groups)]
            found[path] = (module, place, gates)
    if all(len(set(one.programs.values())) < 2 for _, _, gates in found.values() for one in gates):
        raise InputError(
            "the candidates leave no gate a choice: no head is offered two different programs"
        )
    return found


def space_of(model: PreTrainedModel) -> Space:
    """Return the layers of a model, as a search sees them.

    Args:
        model: The model.

    Returns:
        Its roles, and what all of its attention gives to programs.

    Raises:
        UnsupportedError: If layers of one role have different numbers of heads.
    """
    places = [place for _, place in find_places(model).values()]
    roles = {}
    for role in dict.fromkeys(one.role for one in places):
        heads = [one.heads for one in places if one.role == role]
        if len(set(heads)) > 1:
            raise UnsupportedError(
                f"layers of role '{role}' have from {min(heads)} to {max(heads)} heads; gates are "
                "for layers that are alike"
            )
        roles[role] = Layers(len(heads), heads[0])
    given = frozenset.intersection(*(one.given for one in places))
    return Space(roles, may_read=given)


def _modes_of(candidates: Candidates, model: PreTrainedModel, space: Space) -> dict[str, Mode]:
    """Return candidates as modes whose programs are admitted and which differ."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise InputError("candidates are modes or programs by name; none was given")
    found: dict[str, Mode] = {}
    hashes: dict[str, str] = {}
    for name, candidate in candidates.items():
        try:
            mode = _mode_of(str(name), candidate, space)
            check_fit(mode, model)
        except RegardError as problem:
            raise located(problem, f"candidate '{name}'") from None
        if mode.hash in hashes:
            raise InputError(
                f"candidates '{hashes[mode.hash]}' and '{name}' are the same; leave one out"
            )
        found[str(name)], hashes[mode.hash] = mode, str(name)
    return found


def _mode_of(name: str, candidate: Mode | AttentionProgram, space: Space) -> Mode:
    if isinstance(candidate, Mode):
        return candidate
    if not isinstance(candidate, AttentionProgram):
        raise InputError(f"a mode or a program belongs here, not {no_program(candidate)}")
    faults = {role: find_faults(candidate.root, role, space) for role in space.roles}
    admitted = {role: candidate for role, found in faults.items() if not found}
    if not admitted:
        role, (first, *_) = next(iter(faults.items()))
        raise InputError(f"not fit for role '{role}': {first}")
    return Mode(name, "", [Assignment(role, one) for role, one in admitted.items()])


def _roles(mode: Mode, model: PreTrainedModel) -> set[str]:
    """Return the roles, of those that places go by, that a mode speaks of."""
    named = {one.role for one in mode.assignments}
    places = [place for _, place in find_places(model).values()]
    return {place.role for place in places if named & place.numbers.keys()}


def _spans(place: Place, head_groups: int | None) -> list[tuple[int, int]]:
    key_heads = place.key_heads or place.heads
    count = key_heads if head_groups is None else head_groups
    if type(count) is not int or not 1 <= count <= place.heads:
        raise InputError(
            f"head_groups={head_groups!r} must be a whole number from 1 to {place.heads}, the "
            f"heads of {place.path}"
        )
    found = spans(place.heads, count)
    try:
        check_head_groups(found, place.heads, key_heads)
    except InputError as problem:
        raise InputError(f"head_groups={head_groups}: {place.path}: {problem}") from None
    return found


def _offer(modes: Mapping[str, Mode], place: Place, span: tuple[int, int]) -> Offer:
    """Return the different programs that candidates run on some heads; of equal ones the first."""
    programs: dict[str, AttentionProgram] = {}
    for name, mode in modes.items():
        running = list(_running(mode, place, span))
        if len(running) > 1:
            raise InputError(
                f"candidate '{name}' runs {len(running)} programs in heads {span[0]}:{span[1]} of "
                f"{place.path}, which one gate chooses for; give more head_groups"
            )
        if running and running[0] not in programs.values():
            programs[name] = running[0]
    if not programs:
        raise InputError(
            f"no candidate says what heads {span[0]}:{span[1]} of {place.path} run, as one does of "
            f"other places of role '{place.role}'; add one that does"
        )
    space = Space({place.role: Layers(1, place.heads)}, may_read=place.given)
    for name, program in programs.items():
        if faults := find_faults(program.root, place.role, space):
            raise InputError(f"candidate '{name}': not fit for role '{place.role}': {faults[0]}")
    return Offer(span, programs)


def _running(mode: Mode, place: Place, span: tuple[int, int]) -> Iterator[AttentionProgram]:
    """Yield the programs of a mode on some heads."""
    groups = mode.at(place.role, place.layer, place.heads, place.numbers)
    for (start, stop), program in groups or ():
        if start < span[1] and span[0] < stop:
            yield program
