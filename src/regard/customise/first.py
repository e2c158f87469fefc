"""The first generation: the model's own attention, the task's mode, proposals and ready modes.

Ranges that would hide nothing of the task's texts are narrowed first. What a place does not admit
is left out, a proposal with its reason. Leaves to others: demands (`search/admit`).
"""

from collections.abc import Iterator

from regard.customise.candidate import Candidate, plain
from regard.customise.ground import Ground
from regard.customise.options import Options
from regard.modes import Mode
from regard.modes.collection import READY
from regard.modes.ready import ReadyMode
from regard.modes.suggestions import suggest
from regard.search import Children, Refusal, Space, find_faults, read_proposals
from regard.search.space import mode_of
from regard.tasks.programs import build_mode

# A range over half of a text's length hides little; an eighth of it is a neighbourhood.
_WIDE, _NARROW = 0.5, 8
_RANGE = "window"


def first_generation(ground: Ground, options: Options) -> tuple[list[Candidate], list[Refusal]]:
    """Return whom a search starts with.

    Args:
        ground: The task and its space.
        options: May name a file of proposals.

    Returns:
        Candidates of different hashes, the model's own attention first; and what is wrong with
        proposals that are not among them.

    Raises:
        RegardError: If the task's own mode or the file of proposals cannot be read.
    """
    refused: list[Refusal] = []
    found = {one.key: one for one in _all(ground, options, refused)}
    # In the words of the search the model's own attention is a mode, too.
    own = Children(ground.space).starts()[0]
    found.pop(own.hash, None)
    return list(found.values()), refused


def _all(ground: Ground, options: Options, refused: list[Refusal]) -> Iterator[Candidate]:
    yield plain()
    own = build_mode(ground.task.mode)
    if own is not None:
        yield Candidate.of(own, "the task's own mode")
    if options.proposals is not None:
        read = read_proposals(options.proposals, ground.space)
        refused += read.refusals
        for pointer, mode in read.modes.items():
            yield Candidate.of(mode, f"proposed, {pointer or '/'}")
    if options.method == "halving":
        for mode in ready_modes(ground.space, ground.task.task):
            yield Candidate.of(mode, "ready mode")


def ready_modes(space: Space, kind: str) -> Iterator[Mode]:
    """Yield the ready modes that a space admits, those first that speak for a kind of task.

    A ready mode that speaks to some roles alone leaves plain attention to the others.

    Args:
        space: The places.
        kind: Of the task.

    Yields:
        Modes that fill the space.
    """
    spoken_for = [one.mode.name for one in suggest(kind.replace("_", " "))]
    basis = {one.role: one.program for one in Children(space).starts()[0].assignments}
    for name in dict.fromkeys([*spoken_for, *READY]):
        programs = {
            role: program
            for role in space.roles
            if (program := _fitting(READY[name], space).get(space.like(role)))
            and not find_faults(program.root, role, space)
        }
        if programs:
            grid = {
                role: ((programs.get(role, basis[role]),) * shape.head_groups,) * shape.layer_groups
                for role, shape in space.roles.items()
            }
            yield mode_of(grid, space, name, READY[name].intent)


def _fitting(ready: ReadyMode, space: Space) -> dict:
    """Return the programs of a ready mode, narrowed where its range is wide for the texts."""
    if ready.knobs.get(_RANGE, 0) > _WIDE * space.length:
        return dict(ready.fn(**{_RANGE: max(1, space.length // _NARROW)}))
    return dict(ready.programs)
