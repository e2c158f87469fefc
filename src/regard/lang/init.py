"""How parameters start: initialisers by name and numbers, which a saved program holds as data.

Leaves to others: filling tensors with them (`nn/parameters`).
"""

from regard.ir.nodes import Init

zeros = Init("zeros")
ones = Init("ones")
alibi = Init("alibi")
identity = Init("identity")


def constant(value: float) -> Init:
    """Start at one value everywhere.

    Args:
        value: The value.

    Returns:
        The initialiser.
    """
    return Init("constant", (float(value),))


def normal(std: float = 0.02) -> Init:
    """Start normally distributed around 0.

    Args:
        std: The standard deviation.

    Returns:
        The initialiser.
    """
    return Init("normal", (float(std),))


def uniform(low: float, high: float) -> Init:
    """Start uniformly between two values.

    Args:
        low: The lower bound.
        high: The upper bound.

    Returns:
        The initialiser.
    """
    return Init("uniform", (float(low), float(high)))
