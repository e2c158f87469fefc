"""The lines that variants of a file share, so that their code runs as a page shows it.

Before: variants of one family. After: imports, helpers and constants that their functions use.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

from regard.catalogue.variant import Variant

_FRONT = "from regard import lang as rg"
_OWN = "regard.catalogue.variant"


def shared_code(own: Sequence[Variant]) -> str:
    """Return what stands above a family's programs on a page.

    Args:
        own: Variants of one file.

    Returns:
        Python: imports, then what the functions of variants read of their file, in its order.
    """
    module = sys.modules[own[0].fn.__module__]
    source = inspect.getsource(module)
    tree = ast.parse(source)
    wanted = set().union(*(_names_read(one) for one in _variants(tree, own)))
    kept = _reachable(tree, module, wanted, {one.name for one in own})
    imports = [ast.unparse(node) for node in tree.body if _is_wanted_import(node, kept)]
    lines = ["import regard as rg", *(line for line in imports if line != _FRONT)]
    lines.sort(key=lambda line: line == "import regard as rg")
    parts = ["\n".join(lines)]
    parts += [ast.get_source_segment(source, node) or "" for node in _defined(tree, kept)]
    return "\n\n".join(parts)


def _variants(tree: ast.Module, own: Sequence[Variant]) -> Iterator[ast.FunctionDef]:
    names = {one.name for one in own}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            yield node


def _names_read(node: ast.AST) -> set[str]:
    """Return the names that a definition reads when it runs; decorators stay out."""
    parts = node.body if isinstance(node, ast.FunctionDef) else [node]
    return {one.id for part in parts for one in ast.walk(part) if isinstance(one, ast.Name)}


def _names_made(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {one.id for one in node.targets if isinstance(one, ast.Name)}
    return set()


def _reachable(
    tree: ast.Module, module: ModuleType, wanted: set[str], variants: set[str]
) -> set[str]:
    """Return the wanted names and those that their definitions read in turn."""
    found, left = set(), [name for name in wanted if name in vars(module)]
    while left:
        name = left.pop()
        if name in found or name in variants:
            continue
        found.add(name)
        for node in tree.body:
            if name in _names_made(node):
                left += [one for one in _names_read(node) if one in vars(module)]
    return found


def _defined(tree: ast.Module, kept: set[str]) -> Iterator[ast.stmt]:
    return (node for node in tree.body if _names_made(node) & kept)


def _is_wanted_import(node: ast.stmt, kept: set[str]) -> bool:
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, ast.ImportFrom) and node.module == _OWN:
        return False
    return any((one.asname or one.name) in kept for one in node.names)
