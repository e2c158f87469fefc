"""Children of modes: changed and crossed, place by place, and only such as every place admits.

Before: encoder: local. After, for example: encoder: local; encoder, layers 2–3: focused and local.
What does not verify, or is not admitted after mending, is thrown away and drawn again: nothing
invalid leaves this room. Leaves to others: changes (`change`, `splice`), demands (`admit`).
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from regard.catalogue import VARIANTS
from regard.errors import InputError, ProgramError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.modes.collection import READY
from regard.modes.mode import Mode
from regard.modes.ready import ReadyMode
from regard.search.admit import Fault, check_graph, find_faults, mend
from regard.search.change import CHANGES, Tools
from regard.search.parts import Parts, known_parts
from regard.search.space import Grid, Row, Space, grid_of, mode_of
from regard.search.splice import splice

# How often a draw is repeated before a parent is given back unchanged.
_MOST_DRAWS = 200
# How often a child has two parents, and a change follows another.
_CROSSED, _ANOTHER = 0.35, 0.3
# How often a place gets the program of another place of its role.
_COPIED = 0.15


@dataclass
class Tally:
    """What was drawn.

    Attributes:
        drawn: Programs that were made by a change or a splice.
        admitted: Those that a place admits.
        refused: How many of the others, by reason: "same" where nothing changed, "grammar", or the
            rule of a fault.
    """

    drawn: int = 0
    admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """The share of the drawn that is admitted."""
        return self.admitted / self.drawn if self.drawn else 0.0


class Children:
    """Draws modes from modes; the same seed gives the same ones.

    Args:
        space: What is searched.
        seed: Every choice is drawn from it.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space, self.random, self.tally = space, Random(seed), Tally()
        self._parts: dict[tuple[bool, bool], Parts] = {}

    def starts(self) -> list[Mode]:
        """Return modes to start from: plain attention, and the ready modes that fill the space.

        A ready mode that speaks to some roles alone leaves plain attention to the others.

        Returns:
            Modes that all places admit, plain attention first.
        """
        plain = {role: self._plain(role) for role in self.space.roles}
        found = [mode_of(self._filled(plain), self.space, "plain", "Reads as it learns to.")]
        for ready in READY.values():
            own = {role: one for role in plain if (one := self._ready(ready, role))}
            if own:
                grid = self._filled({**plain, **own})
                found.append(mode_of(grid, self.space, ready.name, ready.intent))
        return found

    def mutate(self, mode: Mode) -> Mode:
        """Return a child of one mode.

        Args:
            mode: A mode that fills the space.

        Returns:
            The child.

        Raises:
            InputError: If a place does not admit its program, or has none.
        """
        return self._child(mode, self._mutated)

    def cross(self, mode: Mode, other: Mode) -> Mode:
        """Return a child of two modes: of each role the layers of one, or spliced programs.

        Args:
            mode: A mode that fills the space.
            other: Another.

        Returns:
            The child.

        Raises:
            InputError: If a place does not admit its program, or has none.
        """
        theirs = self._grid(other)
        return self._child(mode, lambda grid: self._crossed(grid, theirs), f" × {_stem(other)}")

    def draw(self, parents: Sequence[Mode], count: int, known: Sequence[Mode] = ()) -> list[Mode]:
        """Return so many different children of some modes.

        Args:
            parents: Modes that fill the space.
            count: How many children.
            known: Modes that are not wanted again, beside the parents.

        Returns:
            Modes of different hashes; fewer if nothing new is found any more.

        Raises:
            InputError: If there is no parent, or one that the space does not admit.
        """
        if not parents:
            raise InputError("children need a parent; Children.starts() gives some")
        seen = {mode.hash for mode in (*parents, *known)}
        found: list[Mode] = []
        failures = 0
        while len(found) < count and failures < _MOST_DRAWS:
            mode = self.random.choice(parents)
            if len(parents) > 1 and self.random.random() < _CROSSED:
                child = self.cross(mode, self.random.choice(parents))
            else:
                child = self.mutate(mode)
            if child.hash in seen:
                failures += 1
                continue
            failures = 0
            seen.add(child.hash)
            found.append(child)
        return found

    # ── Grids ─────────────────────────────────────────────────────────────────────────────────
    def _child(self, mode: Mode, make: Callable[[Grid], str], beside: str = "") -> Mode:
        grid = self._grid(mode)
        done = make(grid)
        made = mode_of(grid, self.space, mode.name)
        name = f"{_stem(mode)}{beside}"[:60] + f" {made.hash[:6]}"
        return Mode(name, f"{_stem(mode)}{beside}: {done}", made.assignments)

    def _grid(self, mode: Mode) -> Grid:
        for number, faults in find_mode_faults(mode, self.space).items():
            one = mode.assignments[number]
            raise InputError(
                f"mode '{mode.name}': program '{one.program.name}' is not fit for role "
                f"'{one.role}': {faults[0]}"
            )
        return grid_of(mode, self.space)

    def _mutated(self, grid: Grid) -> str:
        """Change a rectangle of places in place, and return what was done."""
        role, layers, heads = self._rectangle(grid)
        made: dict[AttentionProgram, AttentionProgram] = {}
        if self.random.random() < _COPIED:
            # A program of another place of the role.
            source = self.random.choice(self.random.choice(grid[role]))
            made = dict.fromkeys(_within(grid[role], layers, heads), source)
            done = "copied a place"
        else:
            done = ""
            for program in _within(grid[role], layers, heads):
                made[program], done = self._changed(program, role)
        grid[role] = _replaced(grid[role], layers, heads, made)
        return f"{done} ({role})"

    def _crossed(self, grid: Grid, theirs: Grid) -> str:
        role = self.random.choice(list(grid))
        how = self.random.choice(["layers", "heads", "splice", "splice"])
        own, other = grid[role], theirs[role]
        if how == "splice":
            pairs = {
                a: b
                for row, beside in zip(own, other, strict=True)
                for a, b in zip(row, beside, strict=True)
            }
            made = {a: self._spliced(a, b, role) for a, b in pairs.items()}
            grid[role] = tuple(tuple(made[one] for one in row) for row in own)
            return f"spliced programs ({role})"
        if how == "layers" and len(own) > 1:
            cut = self.random.randrange(1, len(own))
            grid[role] = (*own[:cut], *other[cut:])
            return f"took later layers ({role})"
        cut = self.random.randrange(self.space.roles[role].head_groups)
        grid[role] = tuple((*a[:cut], *b[cut:]) for a, b in zip(own, other, strict=True))
        return f"took later heads ({role})"

    def _rectangle(self, grid: Grid) -> tuple[str, range, range]:
        """Draw a role, some of its groups of layers and some of its groups of heads."""
        role = self.random.choice(list(grid))
        return role, self._some(len(grid[role])), self._some(len(grid[role][0]))

    def _some(self, count: int) -> range:
        if count == 1 or self.random.random() < 0.5:
            return range(count)
        first = self.random.randrange(count)
        return range(first, self.random.randrange(first, count) + 1)

    # ── Programs ──────────────────────────────────────────────────────────────────────────────
    def _changed(self, program: AttentionProgram, role: str) -> tuple[AttentionProgram, str]:
        """Return an admitted change of a program, and what was done."""
        tools = Tools(self.random, self._known(role), self.space.length)
        for _ in range(_MOST_DRAWS):
            root, done = program.root, []
            while not done or self.random.random() < _ANOTHER:
                change = self.random.choice(CHANGES)
                made = change(root, tools)
                # A program may have nothing that this change is about.
                if made is not None:
                    root = made
                    done.append(change.__name__.replace("_", " "))
            admitted = self._admitted(root, program.root, role)
            if admitted is not None:
                return self._program(admitted, program, role), ", ".join(done)
        return program, "nothing"

    def _spliced(
        self, one: AttentionProgram, other: AttentionProgram, role: str
    ) -> AttentionProgram:
        for _ in range(_MOST_DRAWS if one != other else 0):
            admitted = self._admitted(splice(one.root, other.root, self.random), one.root, role)
            if admitted is not None:
                return self._program(admitted, one, role)
        return one

    def _admitted(self, root: n.Output, parent: n.Output, role: str) -> n.Output | None:
        """Return a graph mended for a place, or None, and count it."""
        self.tally.drawn += 1
        try:
            root = check_graph(mend(check_graph(root), role, self.space))
        except ProgramError:
            self.tally.refused["grammar"] += 1
            return None
        faults = find_faults(root, role, self.space)
        if root is parent or faults:
            self.tally.refused[faults[0].rule if faults else "same"] += 1
            return None
        self.tally.admitted += 1
        return root

    def _program(self, root: n.Output, parent: AttentionProgram, role: str) -> AttentionProgram:
        # What is declared is looked at again whenever the program is loaded.
        promised = ["causal"] if self.space.is_causal(role) else []
        stem = parent.name.partition("_v")[0]
        made = AttentionProgram(root, stem, parent.doc, (*promised, "never empty"))
        return AttentionProgram(root, f"{stem}_v{made.hash[:6]}", parent.doc, made.contracts)

    def _known(self, role: str) -> Parts:
        key = role == "cross", self.space.is_causal(role)
        if key not in self._parts:
            self._parts[key] = known_parts(role, self.space)
        return self._parts[key]

    def _plain(self, role: str) -> AttentionProgram:
        return VARIANTS["causal" if self.space.is_causal(role) else "scaled_dot_product"].program

    def _ready(self, mode: ReadyMode, role: str) -> AttentionProgram | None:
        program = mode.programs.get(self.space.like(role))
        admitted = program and not find_faults(program.root, role, self.space)
        return program if admitted else None

    def _filled(self, programs: Mapping[str, AttentionProgram]) -> Grid:
        return {
            role: ((programs[role],) * shape.head_groups,) * shape.layer_groups
            for role, shape in self.space.roles.items()
        }


def find_mode_faults(mode: Mode, space: Space) -> dict[int, list[Fault]]:
    """Return what keeps the programs of a mode from their places.

    Args:
        mode: The mode.
        space: What is searched.

    Returns:
        Faults by number of the assignment; of admitted ones none.

    Raises:
        InputError: If it has a program for a role that the space lacks.
    """
    found = {}
    for number, one in enumerate(mode.assignments):
        if one.role not in space.roles:
            raise InputError(
                f"mode '{mode.name}' has a program for role '{one.role}'; the space has "
                f"{', '.join(space.roles)}"
            )
        faults = find_faults(one.program.root, one.role, space)
        if faults:
            found[number] = faults
    return found


def _stem(mode: Mode) -> str:
    """Return the name of a mode without the mark that children bear."""
    return re.sub(r" [0-9a-f]{6}$", "", mode.name)


def _within(rows: tuple[Row, ...], layers: range, heads: range) -> list[AttentionProgram]:
    """Return the programs of a rectangle, each once, in the order of places."""
    return list(dict.fromkeys(rows[layer][head] for layer in layers for head in heads))


def _replaced(
    rows: tuple[Row, ...], layers: range, heads: range,
    new: dict[AttentionProgram, AttentionProgram],
) -> tuple[Row, ...]:  # fmt: skip
    return tuple(
        tuple(
            new[one] if layer in layers and head in heads else one for head, one in enumerate(row)
        )
        for layer, row in enumerate(rows)
    )
