"""A sweep as Triton: its text, and the compiled functions made of it on first use.

Leaves to others: what the text says (`rowkernel`, `keykernel`), the call (`caller`).
"""

import hashlib
import linecache
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.module import Module, Sweep, told
from regard.backends.cpu.ranksweep import RankSweep
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.triton.keykernel import KeyKernel
from regard.backends.triton.places import Form
from regard.backends.triton.rankkernel import RankKernel
from regard.backends.triton.rowkernel import RowKernel, RowResults
from regard.backends.triton.text import Text
from regard.backends.triton.tiles import Job, Tiles

_counted = count()


@dataclass(frozen=True)
class Program:
    """One kernel.

    Attributes:
        text: What it takes.
        run: The function to launch.
    """

    text: Text
    run: Any


@dataclass
class TritonModule(Module[Sweep]):
    """A sweep, and its kernels for every way its inputs may be read.

    Attributes:
        programs: The kernels.
        tiles: How the work of each is cut, once that is settled.
    """

    programs: dict[tuple, Program | None] = field(default_factory=dict)
    tiles: dict[Job, Tiles] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """The checksum of its code, which says all that its speed depends on but sizes."""
        return hashlib.sha256(self.source(("real",) * len(self.inputs)).encode()).hexdigest()

    def program(self, form: Form, of: "RowResults | str") -> Program | None:
        """Return a kernel, made on first use.

        Args:
            form: How inputs are read.
            of: Which results of a row sweep are wanted, or the major side of an adjoint sweep's.

        Returns:
            The kernel; None if that side receives nothing.
        """
        key = (form, of)
        if key not in self.programs:
            text = self._text(form, of)
            self.programs[key] = None if text is None else Program(text, self._compiled(text))
        return self.programs[key]

    def _text(self, form: Form, of: "RowResults | str") -> Text | None:
        if isinstance(of, str):
            assert isinstance(self.sweep, KeySweep)
            return KeyKernel(self.sweep, form, of).text()
        if isinstance(self.sweep, RankSweep):
            return RankKernel(self.sweep, form).text()
        assert isinstance(self.sweep, RowSweep)
        return RowKernel(self.sweep, form, of).text()

    def source(self, kinds: tuple[str, ...]) -> str:
        """Return the text of all kernels of the sweep, with channels that fill their tiles.

        Args:
            kinds: What each input is read as.

        Returns:
            A file's text.
        """
        form = Form(kinds, (True,) * len(kinds))
        if isinstance(self.sweep, KeySweep):
            texts = {"what query rows receive": self._text(form, "i"),
                     "what keys receive": self._text(form, "j")}  # fmt: skip
        else:
            rows = tuple(range(len(self.row_results)))
            texts = {self.what: self._text(form, RowResults(rows))}
        given = {about: text for about, text in texts.items() if text is not None}
        return self._file(given)

    def check(self) -> None:
        """Find what no kernel can do, by writing the text.

        Raises:
            UnsupportedError: If there is anything.
        """
        self.source(("real",) * len(self.inputs))

    def _file(self, texts: dict[str, Text]) -> str:
        used = sorted({name for text in texts.values() for name in text.used})
        imports = [f"from regard.backends.triton.functions import {', '.join(used)}"]
        lines = [
            f"# The sweep '{self.what}' of",
            *(f"#   {line}".rstrip() for line in self.formula.splitlines()[1:]),
            "#",
            "# Inputs, by their number:",
            *(f"#   {k}: {told(item)}" for k, item in enumerate(self.inputs)),
            "import triton",
            "import triton.language as tl",
            *(["", *imports] if used else []),
        ]
        for number, (about, text) in enumerate(texts.items()):
            name = self.what if len(texts) == 1 else f"{self.what}{number}"
            lines += ["", "", *text.function(name, about[0].upper() + about[1:] + ".")]
        return "\n".join([*lines, ""])

    def _compiled(self, text: Text) -> Any:
        source = self._file({self.what: text})
        file = f"<regard {self.name} {next(_counted)}>"
        # Triton reads the text of a function where Python keeps it.
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        made: dict[str, Any] = {"__name__": "regard_kernels"}
        exec(compile(source, file, "exec"), made)
        return made[self.what]
