"""An attention program as a value: its graph, what it is called, and what can be asked of it.

Leaves to others: writing one (`lang`), running one (`ops`), files on disk (`files`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from regard.errors import FileError, InputError, ProgramError, nearest
from regard.ir import json_file
from regard.ir import nodes as n
from regard.ir.print_latex import formula_latex
from regard.ir.print_text import formula_text
from regard.ir.verify import verify_program

# Finding out whether a contract is kept takes passes and the reference, which stand above this
# room; they put themselves here when `regard` is imported.
_guards: list[Callable[["AttentionProgram"], None]] = []


def guard_with(guard: Callable[["AttentionProgram"], None]) -> None:
    """Have every program that declares contracts looked at when it is made.

    Args:
        guard: Raises ProgramError for a program that breaks one.
    """
    _guards.append(guard)


Leaf = n.Vector | n.Feature | n.Array | n.Scalar | n.PairInput


@dataclass(frozen=True, eq=False, repr=False)
class AttentionProgram:
    """An attention mechanism held as data; two programs are equal if their graphs are.

    Attributes:
        root: The graph.
        name: What it is called.
        doc: What it is for.
        contracts: The properties it declares, e.g. ("causal",).
    """

    root: n.Output
    name: str
    doc: str = ""
    contracts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the graph as a whole, and what it declares; its nodes were checked when made."""
        verify_program(self.root)
        if self.contracts:
            for guard in _guards:
                guard(self)

    @cached_property
    def hash(self) -> str:
        """64 hexadecimal digits that name the graph, the same in every process."""
        return json_file.program_hash(self.root)

    @cached_property
    def inputs(self) -> tuple[Leaf, ...]:
        """What the program reads by name, in the order of first appearance."""
        return tuple(node for node in n.walk(self.root) if isinstance(node, Leaf))

    @cached_property
    def parameters(self) -> tuple[n.Array, ...]:
        """The learned ones among the inputs."""
        arrays = (node for node in self.inputs if isinstance(node, n.Array))
        return tuple(array for array in arrays if array.source == "parameter")

    def formula(self, style: Literal["text", "latex"] = "text") -> str:
        """Write the program as mathematics.

        Args:
            style: "text" or "latex".

        Returns:
            One named part a line; as LaTeX an `aligned` block without dollar signs.

        Raises:
            InputError: If the style is unknown.
        """
        styles = {"text": formula_text, "latex": formula_latex}
        if style not in styles:
            raise InputError(f"style={style!r} of formula: {nearest(str(style), styles)}")
        return styles[style](self.name, self.root)

    def to_json(self) -> str:
        """Return the program as canonical JSON text; one too large for a file is a FileError."""
        return json_file.dump(self.root, name=self.name, doc=self.doc, contracts=self.contracts)

    @classmethod
    def from_json(cls, text: str) -> "AttentionProgram":
        """Read a program from JSON text; whatever is wrong with it is a FileError with its place.

        Args:
            text: What `to_json` returned.

        Returns:
            The program.
        """
        root, about = json_file.load(text)
        return program_of_file(root, about)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttentionProgram):
            return NotImplemented
        return self.root is other.root or self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __copy__(self) -> "AttentionProgram":
        return self

    def __deepcopy__(self, memo: dict) -> "AttentionProgram":
        return self

    def __reduce__(self) -> tuple:
        return AttentionProgram, (self.root, self.name, self.doc, self.contracts)

    def __repr__(self) -> str:
        reads = ", ".join(leaf.name for leaf in self.inputs)
        return f"<AttentionProgram {self.name}({reads}) {self.hash[:8]}>"

    def __str__(self) -> str:
        return self.formula()

    def _repr_latex_(self) -> str:
        return f"$$\n{self.formula('latex')}\n$$"

    def _repr_markdown_(self) -> str:
        return "\n\n".join(part for part in (self.doc, self._repr_latex_()) if part)


def program_of_file(root: n.Output, about: json_file.About) -> AttentionProgram:
    """Return the program that a file holds.

    Args:
        root: The graph, as `json_file` read it.
        about: What the file says of it.

    Returns:
        The program.

    Raises:
        FileError: If the program breaks a contract that the file says it keeps.
    """
    try:
        return AttentionProgram(root, *about)
    except ProgramError as problem:
        raise FileError(f"contracts: {problem}") from None
