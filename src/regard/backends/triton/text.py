"""The parts that all kernels have in common: the arguments, the opening, the loops over blocks.

Leaves to others: what a tile computes (`rowkernel`, `keykernel`), compiling (`module`).
"""

from dataclasses import dataclass

from regard.backends.cpu.emit import indent
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.slots import place_kind
from regard.backends.triton.emit import HIDDEN
from regard.backends.triton.places import ARGUMENTS, WITH_WIDTH, Places

# What every kernel is told: which blocks it visits, sizes, and where rows end.
CALL = (
    "visits_ptr", "visits_b", "visits_h", "visits_r", "H", "N", "M", "first_head",
    "query_lengths", "key_lengths",
)  # fmt: skip
# What is fixed when it is compiled.
FIXED = ("REAL", "UNIT", "BI", "BJ", "CHUNKS")


@dataclass
class Text:
    """A kernel as text.

    Attributes:
        places: Its inputs.
        body: Its lines.
        results: The names of the pointers to its results.
        used: The functions it calls.
    """

    places: Places
    body: list[str]
    results: list[str]
    used: set[str]

    @property
    def arguments(self) -> list[str]:
        """The names of its arguments, in order."""
        found = []
        for item in self.places.used:
            name = f"in{self.places.index[item]}"
            found += [f"{name}_ptr", *(f"{name}_{x}" for x in ARGUMENTS[place_kind(item)].split())]
        draws = [f"draw{k}" for k in range(len(self.places.split.draws))]
        return [*found, *self.results, *draws, *CALL]

    @property
    def fixed(self) -> list[str]:
        """The names of what is fixed when it is compiled."""
        rows = [self.places.index[x] for x in self.places.used if x.kind in WITH_WIDTH]
        sums = range(len(self.places.split.sums))
        return [*(f"{letter}{k}" for k in rows for letter in "WC"),
                *(f"CHANNELS{k}" for k in sums), *FIXED]  # fmt: skip

    def function(self, name: str, about: str) -> list[str]:
        """Return the kernel's lines.

        Args:
            name: What it is called.
            about: What it is for.

        Returns:
            A decorated function.
        """
        parts = [*self.arguments, *(f"{x}: tl.constexpr" for x in self.fixed)]
        lines, line = [], "   "
        for part in parts:
            if len(line) + len(part) > 96:
                lines.append(line)
                line = "   "
            line += f" {part},"
        body = [f'"""{about}"""', *self.body]
        return ["@triton.jit", f"def {name}(", *lines, line, "):", *indent(body, 4)]


def opening(major: str) -> list[str]:
    """Return the lines that find a program's head and block, and the blocks it visits.

    Args:
        major: "i" if it takes a block of query rows, "j" if one of keys.

    Returns:
        Lines.
    """
    size, block = ("N", "BI") if major == "i" else ("M", "BJ")
    return [
        f"blocks = tl.cdiv({size}, {block})",
        # The last block often sees the most, so it starts first.
        "block = blocks - 1 - tl.program_id(0) % blocks",
        "bh = (tl.program_id(0) // blocks).to(tl.int64)",
        "b = bh // H",
        "h = bh % H",
        "rows_end = N",
        "keys_end = M",
        "if query_lengths is not None:",
        "    rows_end = tl.minimum(N, tl.load(query_lengths + b)).to(tl.int32)",
        "if key_lengths is not None:",
        "    keys_end = tl.minimum(M, tl.load(key_lengths + b)).to(tl.int32)",
        "row = tl.arange(0, BI)",
        "column = tl.arange(0, BJ)",
        *_rows_of(major, "block"),
        "# Of the blocks that this one sees: how many are full, how many there are, which.",
        "visits = visits_ptr + b * visits_b + h * visits_h + block * visits_r",
        "full = tl.load(visits)",
        "total = tl.load(visits + 1)",
    ]


def _rows_of(side: str, block: str) -> list[str]:
    size, within = ("BI", "row") if side == "i" else ("BJ", "column")
    return [f"{side}0 = {block}.to(tl.int64) * {size}", f"{side} = {side}0.to(tl.int32) + {within}"]


def loops(
    full: list[str], masked: list[str], minor: str, split: bool = False, going: str = ""
) -> list[str]:
    """Return the loops over full and over masked blocks of the minor side.

    Args:
        full: The lines of a block whose pairs are all seen.
        masked: Those of any other.
        minor: "i" or "j".
        split: Whether a program takes a part of the blocks, as its second number says.
        going: The name of a number: 1, or 0 if no block is to be visited any more.

    Returns:
        Lines.
    """
    limits = ("0, full", "full, total")
    if going:
        limits = (f"0, full * {going}", f"full * {going}, total * {going}")
    found = []
    if split:
        limits = ("first, tl.minimum(last, full)", "tl.maximum(first, full), last")
        found = [
            "chunk = tl.program_id(1)",
            "each = tl.cdiv(total, CHUNKS)",
            "first = chunk * each",
            "last = tl.minimum(first + each, total)",
        ]
    for between, about, body in (
        (limits[0], "Blocks whose pairs are all seen.", full),
        (limits[1], "Blocks of which some pairs are hidden.", masked),
    ):
        first = _rows_of(minor, "tl.load(visits + 2 + step)")
        found += [f"# {about}", f"for step in range({between}):", *indent([*first, *body], 4)]
    return found


def joined(sweep: RowSweep, channels: str) -> list[str]:
    """Return the loop that joins what was summed over each part of the keys.

    Args:
        sweep: What was summed.
        channels: The name of the number of channels of its values.

    Returns:
        Lines.
    """
    body = ["at = chunk * (tl.num_programs(0) // blocks) * N + out_row"]
    load = "tl.load({} + {} * size + at, mask=i < rows_end, other={})"
    body += [f"t{k} = {load.format('sums_ptr', k, 0)}" for k in range(len(sweep.sums))]
    for k, _ in enumerate(sweep.components):
        where = f"accs_ptr + ({k} * size + at)[:, None] * {channels}"
        at = f"{where} + tl.arange(0, {channels})[None, :]"
        body.append(f"part{k} = tl.load({at}, mask=(i < rows_end)[:, None], other=0)")
    for k, term in enumerate(sweep.terms):
        own = {item.name: at for at, item in enumerate(sweep.sums) if item.term == k}
        top = load.format("tops_ptr", k, HIDDEN)
        body += [
            f"n{k} = {top}",
            f"top{k} = tl.maximum(m{k}, n{k})",
            f"shift{k} = tl.where(top{k} == {HIDDEN}, 0.0, top{k})",
        ]
        for m, scale, letter, acc in (("m", "scale", "s", "acc"), ("n", "other", "t", "part")):
            body.append(f"{scale}{k} = tl.exp({m}{k} - shift{k})")
            scaled = own.get(f"x:{term.name}")
            if scaled is not None:
                total = f"{letter}{own[f's:{term.name}']}"
                moved = f"tl.where({m}{k} == {HIDDEN}, 0.0, {m}{k} - shift{k})"
                body.append(f"{letter}{scaled} += {moved} * {total}")
            body += [f"{letter}{at} *= {scale}{k}" for at in own.values()]
            body += [f"{acc}{at} *= {scale}{k}[:, None]"
                     for at, part in enumerate(sweep.components) if k in part.terms]  # fmt: skip
        body.append(f"m{k} = top{k}")
    body += [f"s{k} += t{k}" for k in range(len(sweep.sums))]
    body += [f"acc{k} += part{k}" for k in range(len(sweep.components))]
    first = "size = CHUNKS * (tl.num_programs(0) // blocks) * N"
    return [first, "for chunk in range(0, CHUNKS):", *indent(body, 4)]


def stored_row(pointer: str, value: str) -> str:
    """Return the line that stores a number of each query row."""
    return f"tl.store({pointer} + out_row, tl.zeros([BI], REAL) + {value}, mask=i < rows_end)"
