"""The model card: the section of README.md that says what a model's attention runs.

What people wrote into a card stays; only the lines between two marks are Regard's. Leaves to
others: when it is written (`saving`).
"""

import re
from pathlib import Path

from regard.errors import FileError
from regard.ir.files import write_text
from regard.ir.program import AttentionProgram
from regard.modes.mode import Assignment, Mode

BEGIN = (
    "<!-- regard: begin. What stands up to the end is written anew whenever the model is saved. -->"
)
END = "<!-- regard: end -->"
_SECTION = re.compile(rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n?", re.DOTALL | re.MULTILINE)
# Marks whose other half was lost; what stands around them may be somebody's own words.
_STRAY = re.compile(rf"^(?:{re.escape(BEGIN)}|{re.escape(END)})\n?", re.MULTILINE)
# How a repository of a hub is called; a path of this machine says nothing to others.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def write_card(
    path: Path, mode: Mode, *, base_model: str | None = None, repository: str | None = None
) -> None:
    """Write the section of a mode into a model card.

    Args:
        path: README.md; made, with a head that hubs read, if it is not there.
        mode: The mode.
        base_model: The repository of the model that was re-programmed, if it is known.
        repository: The repository the card is for, if it is known.

    Raises:
        FileError: If the card cannot be read or written.
    """
    section = _section(mode, base_model, repository)
    if not path.exists():
        write_text(_head(mode, base_model) + section, path)
        return
    text = _read(path)
    found = _SECTION.search(text)
    if found:
        before, after = (
            _STRAY.sub("", part) for part in (text[: found.start()], text[found.end() :])
        )
        write_text(before + section + after, path)
    else:
        own = _STRAY.sub("", text).rstrip("\n")
        write_text(f"{own}\n\n{section}" if own else section, path)


def remove_section(path: Path) -> None:
    """Take the section out of a model card, if there is one.

    Args:
        path: README.md.

    Raises:
        FileError: If the card cannot be read or written.
    """
    if path.exists():
        text = _read(path)
        if (rest := _STRAY.sub("", _SECTION.sub("", text))) != text:
            write_text(rest, path)


def repository_name(name: object) -> str | None:
    """Return a name if it is that of a repository, not of a folder on this machine.

    Args:
        name: What a configuration says the model came from.

    Returns:
        The name, or None.
    """
    if not isinstance(name, str) or not _REPOSITORY.fullmatch(name) or Path(name).exists():
        return None
    return name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise FileError(
            f"{path}: {problem}; the model card is text in UTF-8, move this file away"
        ) from None


def _head(mode: Mode, base_model: str | None) -> str:
    lines = ["---", "library_name: transformers", "tags:", "- regard", "- attention"]
    if base_model:
        lines.append(f'base_model: "{base_model}"')
    return "\n".join([*lines, "---", "", f"# {_plain(mode.name)}", "", ""])


def _section(mode: Mode, base_model: str | None, repository: str | None) -> str:
    parts = [BEGIN, f"## Attention: {_plain(mode.name)}"]
    if mode.intent:
        parts.append(_quoted(mode.intent))
    parts.append(
        "This model runs attention programs of Regard. Places "
        " that are not listed run the model's own attention."
    )
    parts += [_table(mode), *map(_program, dict.fromkeys(one.program for one in mode.assignments))]
    parts += ["### Loading", _loading(repository)]
    if base_model:
        parts.append(f"Base model: `{base_model}`")
    parts += [f"Hash of the mode: `sha256:{mode.hash}`", END]
    return "\n\n".join(parts) + "\n"


def _table(mode: Mode) -> str:
    rows = ["| role | layers | heads | program |", "|---|---|---|---|"]
    rows += [
        f"| {one.role} | {_span(one.layers)} | {_span(one.heads)} | {_name(one)} |"
        for one in mode.assignments
    ]
    return "\n".join(rows)


def _span(span: tuple[int, int] | None) -> str:
    if span is None:
        return "all"
    return str(span[0]) if span[1] == span[0] + 1 else f"{span[0]}–{span[1] - 1}"


def _name(one: Assignment) -> str:
    return _plain(one.program.name)


def _program(program: AttentionProgram) -> str:
    parts = [f"### {_plain(program.name)}"]
    if program.doc:
        parts.append(_quoted(program.doc))
    parts.append(f"```text\n{program.formula()}\n```")
    return "\n\n".join(parts)


def _loading(repository: str | None) -> str:
    where, lines = '"path/to/this/folder"', ["import regard as rg"]
    if repository:
        lines.append("from huggingface_hub import snapshot_download")
        where = f'snapshot_download("{repository}")'
    lines += ["", f"model = rg.hf.from_pretrained({where})"]
    return "```python\n" + "\n".join(lines) + "\n```"


def _plain(text: str) -> str:
    """Return text for one line of Markdown, in which nothing of it means anything."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!&~])", r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    """Return text as a quotation: whatever it holds, it ends with its last line."""
    shown = text.strip().replace("&", "&amp;").replace("<", "&lt;")
    return "\n".join(f"> {line}".rstrip() for line in shown.splitlines())
