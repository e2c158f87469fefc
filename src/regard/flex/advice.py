"""What to write where Python asks a traced value for a plain one: `if`, `and`, `max`, `range` …

A score_mod runs once for all pairs, so Python cannot decide or count by its values. The error
shows the user's line, and the same line written with torch's functions where that is mechanical.
Leaves to others: the values (`traced`).
"""

import ast
import linecache
from types import FrameType
from typing import NoReturn

from regard.lang.trace import fail, users_frame

_WHAT = {
    "__bool__": "a traced value has no truth value: Python cannot decide by it",
    "__int__": "a traced value is no Python integer",
    "__index__": "a traced value cannot count or index in Python",
    "__float__": "a traced value is no Python number",
    "__iter__": "a traced value cannot be looped over",
    "__len__": "a traced 0-d tensor has no length",
    "item": "a traced value has no item(): it stands for every pair at once",
}
_GENERAL = {
    "__bool__": "write torch.where(condition, a, b), and & | ~ between conditions",
    "__int__": "x.long() makes a whole number of it",
    "__index__": "a captured tensor can be indexed with it: torch.tensor(values)[index]",
    "__float__": "torch's functions compute with it: torch.exp for math.exp, torch.sqrt, …",
    "__iter__": "write out what the loop adds up, or index a captured tensor",
    "__len__": "sizes of captured tensors are plain numbers: tensor.shape[0]",
    "item": "compute with the value itself; x.long() and x.float() change its dtype",
}


def refuse_python(name: str) -> NoReturn:
    """Fail at the user's line, saying what to write instead.

    Args:
        name: What Python asked for, e.g. "__bool__".

    Raises:
        ProgramError: Always.
    """
    frame = users_frame()
    better = [] if frame is None else _rewritten(frame, name)
    hints = [f"write {text}" for text in better[:1]] or [_GENERAL[name]]
    fail("\n".join([_WHAT[name], *hints]))


def _rewritten(frame: FrameType, name: str) -> list[str]:
    """Return what the statement's own parts are in torch's words, the outermost first."""
    statement, after = _statement(frame.f_code.co_filename, frame.f_lineno)
    if statement is None:
        return []
    parts = [statement, *_own_parts(statement)]
    if name != "__bool__":
        return [text for part in parts if (text := _of_math(part))]
    if isinstance(statement, ast.If):
        return [_branch(statement, after)]
    return [
        text for part in parts if type(part) in _DECIDED and (text := _DECIDED[type(part)](part))
    ]


def _own_parts(statement: ast.stmt) -> list[ast.AST]:
    """Return the expressions of a statement, without the statements below an `if` or a loop."""
    roots = [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt)]
    return [part for root in roots for part in ast.walk(root)]


def _statement(file: str, line: int) -> tuple[ast.stmt | None, list[ast.stmt]]:
    """Return the innermost statement that the line belongs to, and those that follow it."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return None, []
    found: ast.stmt | None = None
    after: list[ast.stmt] = []
    for node in ast.walk(tree):
        for _, body in ast.iter_fields(node):
            statements = body if isinstance(body, list) else []
            for place, part in enumerate(statements):
                if not isinstance(part, ast.stmt):
                    continue
                # ast.walk goes from the outside in, so the last one found is the innermost.
                if part.lineno <= line <= (part.end_lineno or part.lineno):
                    found, after = part, statements[place + 1 :]
    return found, after


def _branch(part: ast.If, after: list[ast.stmt]) -> str:
    """Write an `if` as a choice; without `else` what follows is the other side."""
    ends = bool(part.body) and isinstance(part.body[-1], ast.Return)
    other = part.orelse or (after[:1] if ends else [])
    return f"torch.where({_condition(part.test)}, {_returned(part.body)}, {_returned(other)})"


def _returned(body: list[ast.stmt]) -> str:
    last = body[-1] if body else None
    if isinstance(last, ast.Return | ast.Assign | ast.AugAssign) and last.value is not None:
        return ast.unparse(last.value)
    return "…"


def _condition(test: ast.expr) -> str:
    """Write a condition with & | ~, as torch takes it."""
    match test:
        case ast.BoolOp():
            sign = " & " if isinstance(test.op, ast.And) else " | "
            return sign.join(_bracketed(value) for value in test.values)
        case ast.UnaryOp(op=ast.Not()):
            return "~" + _bracketed(test.operand)
        case ast.Compare() if len(test.ops) > 1:
            operands = [test.left, *test.comparators]
            pairs = zip(operands, test.ops, operands[1:], strict=False)
            return " & ".join(
                f"({ast.unparse(ast.Compare(left, [op], [right]))})" for left, op, right in pairs
            )
    return ast.unparse(test)


def _bracketed(value: ast.expr) -> str:
    text = _condition(value)
    return text if isinstance(value, ast.Name | ast.Call) else f"({text})"


def _choice(part: ast.IfExp) -> str:
    parts = _condition(part.test), ast.unparse(part.body), ast.unparse(part.orelse)
    return f"torch.where({', '.join(parts)})"


def _loop(part: ast.While) -> str:
    return "the loop out, with torch.where for what each step decides"


def _asserted(part: ast.Assert) -> str:
    return "the assertion outside of the function, about the captured tensors"


def _of_python(part: ast.Call) -> str:
    """Write Python's max, min, any and all of traced values as torch's."""
    name = part.func.id if isinstance(part.func, ast.Name) else ""
    args = ", ".join(ast.unparse(arg) for arg in part.args)
    wanted = {"max": "torch.maximum", "min": "torch.minimum"}.get(name)
    return f"{wanted}({args})" if wanted and len(part.args) == 2 else ""


def _of_math(part: ast.AST) -> str:
    """Write a function of Python's math as torch's."""
    match part:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr=name)):
            args = ", ".join(ast.unparse(arg) for arg in part.args)
            return f"torch.{name}({args})"
    return ""


_DECIDED = {
    ast.IfExp: _choice,
    ast.While: _loop,
    ast.Assert: _asserted,
    ast.BoolOp: _condition,
    ast.UnaryOp: lambda part: _condition(part) if isinstance(part.op, ast.Not) else "",
    ast.Compare: lambda part: _condition(part) if len(part.ops) > 1 else "",
    ast.Call: _of_python,
}
