"""`regard cache`: the compiled kernels that are kept, and their removal."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regard.backends.cpu.library import Entry

_UNITS = ((86400, "days"), (3600, "h"), (60, "min"))


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them all.")] = False,
) -> None:
    """List the compiled kernels that are kept on disk; --clear removes them."""
    from regard.backends.cpu import folder, library

    where = folder.cache_folder()
    if clear:
        typer.echo(f"removed {_libraries(library.clear())} from {where}")
    else:
        typer.echo("\n".join(kernel_table(library.cached(), str(where), time.time())))


def kernel_table(entries: "list[Entry]", where: str, now: float) -> list[str]:
    """Return what the command prints.

    Args:
        entries: The libraries.
        where: Their folder.
        now: The time, in seconds since 1970.

    Returns:
        A heading, and a line for each library: name, size, age, compiler.
    """
    size = _size(sum(entry.size_bytes for entry in entries))
    heading = f"{_libraries(len(entries))} in {where}" + (f", {size}" if entries else "")
    wide = max((len(entry.name) for entry in entries), default=0)
    lines = [
        f"  {entry.name:<{wide}}  {_size(entry.size_bytes):>9}  {_age(now - entry.built):>8}  "
        f"{entry.compiler}"
        for entry in entries
    ]
    return [heading, *lines]


def _libraries(count: int) -> str:
    return f"{count} compiled {'kernel' if count == 1 else 'kernels'}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def _age(seconds: float) -> str:
    for unit, name in _UNITS:
        # Two of a unit, so that none has to be written in the singular.
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"
