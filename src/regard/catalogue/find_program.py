"""Find the program a command names: `file.py:name`, or a `.json` file.

Leaves to others: what is done with it.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from regard.errors import FileError, InputError, RegardError, nearest
from regard.ir.files import load
from regard.ir.program import AttentionProgram

HELP = (
    "file.py:name (runs that Python file) or a .json file that rg.save wrote (runs nothing). "
    "The name may be left out if the file defines one program."
)


def load_program(reference: str) -> AttentionProgram:
    """Return the program a person means.

    Args:
        reference: "path/to/file.py:name", "path/to/file.py" if it defines one program, or a path
            ending in .json. A Python file is run; a JSON file is data.

    Returns:
        The program.

    Raises:
        FileError: If the file is missing, cannot be read or fails when run.
        InputError: If nothing of that name is a program in it, or the reference is of no such form.
    """
    path, name = _split(reference)
    if path.suffix == ".json":
        return load(path)
    if path.suffix != ".py":
        raise InputError(
            f"'{reference}' names no program; give file.py:name, or a .json file of rg.save\n"
            "names of a catalogue will be understood once there is one"
        )
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    return _pick(_run(path), path, name)


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
