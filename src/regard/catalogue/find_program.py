"""Find the program a command names: a variant, `file.py:name`, or a `.json` file.

Leaves to others: what is done with it; what the catalogue holds (`catalogue`).
"""

import ast
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from regard.catalogue import find
from regard.catalogue.variant import Variant
from regard.errors import FileError, InputError, RegardError, nearest
from regard.ir.files import load
from regard.ir.program import AttentionProgram

HELP = (
    "a name of the catalogue, its knobs in brackets if they are to be others, such as alibi or "
    "'sliding_window(window=64)'; file.py:name (runs that Python file) or a .json file that "
    "rg.save wrote (runs nothing). "
    "The name may be left out if the file defines one program."
)
_NAMED = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\)\s*)?", flags=re.DOTALL)


def load_program(reference: str) -> AttentionProgram:
    """Return the program a person means.

    Args:
        reference: The name of a variant, with other knobs as in "sliding_window(window=64)";
            "path/to/file.py:name", "path/to/file.py" if it defines one program, or a path ending
            in .json. A Python file is run; all else is data.

    Returns:
        The program.

    Raises:
        FileError: If the file is missing, cannot be read or fails when run.
        InputError: If nothing of that name is a program in it, the catalogue has no such variant
            or the variant no such knob, or the reference is of no such form.
    """
    named = find_variant(reference)
    if named is not None:
        variant, knobs = named
        return variant(**knobs)
    path, name = _split(reference)
    if path.suffix == ".json":
        return load(path)
    if path.suffix != ".py":
        raise InputError(
            f"'{reference}' names no program; give the name of a variant (`regard catalogue` lists "
            "them), file.py:name, or a .json file of rg.save"
        )
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    return _pick(_run(path), path, name)


def names_variant(reference: str) -> bool:
    """Tell whether a reference is to the catalogue rather than to a file, by its form alone.

    Args:
        reference: As for `load_program`.

    Returns:
        Whether it is a name, perhaps with knobs.
    """
    return _NAMED.fullmatch(reference) is not None


def find_variant(reference: str) -> tuple[Variant, dict[str, Any]] | None:
    """Return the variant that a reference names, if it is of that form.

    Args:
        reference: As for `load_program`.

    Returns:
        The variant, and the knobs that the reference sets; None for a reference to a file.

    Raises:
        InputError: If the catalogue has no such variant, or its knobs cannot be read.
    """
    matched = _NAMED.fullmatch(reference)
    if matched is None:
        return None
    variant = find(matched[1])
    written = _read_knobs(reference.strip()) if matched[2] is not None else {}
    return variant, {name: _knob(variant, name, value) for name, value in written.items()}


def _read_knobs(reference: str) -> dict[str, Any]:
    """Return the keyword arguments of a call written out; nothing is run."""
    try:
        call = ast.parse(reference, mode="eval").body
        assert isinstance(call, ast.Call)
        if not call.args and all(one.arg for one in call.keywords):
            return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        pass
    raise InputError(
        f"'{reference}' cannot be read; write knobs as name=number, such as "
        "'sliding_window(window=64)'"
    )


def _knob(variant: Variant, name: str, value: Any) -> Any:
    """Return a value if it is of the kind of the published one; the variant checks names."""
    published = variant.knobs.get(name)
    if published is None or type(value) is type(published):
        return value
    if isinstance(published, float) and type(value) is int:
        return float(value)
    raise InputError(
        f"{name}={value!r} of {variant.name} is of type {type(value).__name__}; the published "
        f"value is {published!r}"
    )


def _split(reference: str) -> tuple[Path, str]:
    before, colon, name = reference.rpartition(":")
    if colon and before.endswith(".py"):
        return Path(before), name
    return Path(reference), ""


def _run(path: Path) -> ModuleType:
    """Run a Python file as `python file.py` would, but not as __main__."""
    spec = importlib.util.spec_from_file_location(f"regard_user_{path.stem}", path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    # Dataclasses and pickles look their module up by name.
    sys.modules[spec.name] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except RegardError:
        raise
    except (Exception, SystemExit) as problem:
        raise FileError(
            f"{path}{_line(problem, path)}: {type(problem).__name__}: {problem}"
        ) from problem
    finally:
        sys.path.remove(folder)
    return module


def _line(problem: BaseException, path: Path) -> str:
    if isinstance(problem, SyntaxError):
        return f":{problem.lineno}"
    own = [
        frame.lineno
        for frame in traceback.extract_tb(problem.__traceback__)
        if Path(frame.filename) == path.resolve()
    ]
    return f":{own[-1]}" if own else ""


def _pick(module: ModuleType, path: Path, name: str) -> AttentionProgram:
    programs = {
        key: value for key, value in vars(module).items() if isinstance(value, AttentionProgram)
    }
    if name in programs:
        return programs[name]
    if not name and len(programs) == 1:
        return next(iter(programs.values()))
    if not programs:
        raise InputError(f"{path} defines no program\nput @rg.program above a function of one pair")
    if not name:
        raise InputError(
            f"{path} defines {len(programs)} programs; name one as {path}:{next(iter(programs))}\n"
            f"they are {', '.join(programs)}"
        )
    if hasattr(module, name):
        kind = type(getattr(module, name)).__name__
        hint = "\nput @rg.program above it" if kind == "function" else ""
        raise InputError(
            f"'{name}' in {path} is of type {kind}, which is no program; "
            f"{nearest(name, programs)}{hint}"
        )
    raise InputError(f"{path} defines no '{name}'; {nearest(name, programs)}")
