"""The one table of scalar operators: what each takes, gives and is called in torch.

Leaves to others: derivatives (`passes/differentiate`), printing and emitted code.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Operator:
    """One scalar operator.

    Attributes:
        name: Its name in the IR.
        arity: How many arguments it takes.
        gives: The kind of its result: "float", "bool", "int", or "join" (the widest of its
            arguments).
        takes: The kind its arguments must have: "number" or "bool"; "where" takes a bool and two
            numbers.
        torch: The name of the function in `torch` that defines it elementwise.
    """

    name: str
    arity: int
    gives: str
    takes: str
    torch: str


def _table(*rows: tuple[str, int, str, str, str]) -> dict[str, Operator]:
    return {row[0]: Operator(*row) for row in rows}


OPERATORS = _table(
    ("add", 2, "join", "number", "add"),
    ("sub", 2, "join", "number", "sub"),
    ("mul", 2, "join", "number", "mul"),
    ("div", 2, "float", "number", "div"),
    ("floordiv", 2, "join", "number", "floor_divide"),
    ("mod", 2, "join", "number", "remainder"),
    ("pow", 2, "join", "number", "pow"),
    ("min", 2, "join", "number", "minimum"),
    ("max", 2, "join", "number", "maximum"),
    ("neg", 1, "join", "number", "neg"),
    ("abs", 1, "join", "number", "abs"),
    ("sign", 1, "join", "number", "sign"),
    ("floor", 1, "int", "number", "floor"),
    ("exp", 1, "float", "number", "exp"),
    ("log", 1, "float", "number", "log"),
    ("sqrt", 1, "float", "number", "sqrt"),
    ("tanh", 1, "float", "number", "tanh"),
    ("sigmoid", 1, "float", "number", "sigmoid"),
    ("relu", 1, "join", "number", "relu"),
    ("erf", 1, "float", "number", "erf"),
    (
        "softplus",
        1,
        "float",
        "number",
        "softplus",
    ),  # log(1 + exp(x)) at every x, without a threshold
    ("cos", 1, "float", "number", "cos"),
    ("sin", 1, "float", "number", "sin"),
    ("lt", 2, "bool", "number", "lt"),
    ("le", 2, "bool", "number", "le"),
    ("gt", 2, "bool", "number", "gt"),
    ("ge", 2, "bool", "number", "ge"),
    ("eq", 2, "bool", "number", "eq"),
    ("ne", 2, "bool", "number", "ne"),
    ("and", 2, "bool", "bool", "logical_and"),
    ("or", 2, "bool", "bool", "logical_or"),
    ("not", 1, "bool", "bool", "logical_not"),
    ("where", 3, "join", "where", "where"),
)
