"""Packages that only some work needs: imported when it is done, and missed with a remedy."""

import importlib
from typing import Any

from regard.errors import UnsupportedError


def need(module: str) -> Any:
    """Import a module of another package.

    Args:
        module: Its dotted name.

    Returns:
        The module.

    Raises:
        UnsupportedError: If its package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != package:
            raise
        raise UnsupportedError(
            f"this needs the package {package}; install it with: pip install 'regard[tasks]'"
        ) from None
