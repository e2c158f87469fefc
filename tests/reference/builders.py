"""Short words for nodes, and calls with standard inputs, so that a test is mostly its program."""

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.verify import verify, verify_program
from regard.reference import evaluate

Q, K, V = n.Vector("query", "q"), n.Vector("key", "k"), n.Vector("key", "v")
I, J, HEAD = n.Index("i"), n.Index("j"), n.Index("head")  # noqa: E741


def c(value) -> n.Node:
    return value if isinstance(value, n.Node) else n.Const(value)


def call(op: str, *args) -> n.Node:
    return n.Call(op, tuple(c(arg) for arg in args))


def total(body: n.Node) -> n.Node:
    return n.Reduce(body, "c")


def dot(u: n.Node, w: n.Node) -> n.Node:
    return total(call("mul", u, w))


def minus(a, b) -> n.Node:
    return call("sub", a, b)


def times(a, b) -> n.Node:
    return call("mul", a, b)


def where(condition: n.Node, a, b) -> n.Node:
    return call("where", condition, a, b)


CAUSAL = call("le", J, I)
SCORE = dot(Q, K)


def softmax(score=SCORE, where=None, sink=None, name="softmax") -> n.Softmax:
    return n.Softmax(c(score), where, None if sink is None else c(sink), name)


def weigh(weight, where=None, name="weigh") -> n.Weigh:
    return n.Weigh(c(weight), where, name)


def ratio(num, den=None, where=None, add=0, at_least=0, scaled=False, name="ratio") -> n.Ratio:
    return n.Ratio(c(num), c(num if den is None else den), where, c(add), c(at_least), scaled, name)


def entmax(score=SCORE, alpha=1.5, where=None, name="entmax") -> n.Entmax:
    return n.Entmax(c(score), c(alpha), where, name)


def topk(score, k, where=None) -> n.TopK:
    return n.TopK(c(score), c(k), where)


def parameter(name: str, *per) -> n.Array:
    return n.Array("parameter", name, per)


def table(name: str, *per) -> n.Array:
    return n.Array("table", name, per)


def output(weights: n.Node, values: n.Node = V, finish: n.Node | None = None) -> n.Output:
    return n.Output(weights, values, finish)


def inputs(
    batch=2, heads=2, queries=4, keys=5, width=3, values=2, groups=None, dtype=torch.float64
):
    """Return random q, k and v."""
    groups = groups or heads
    return {
        "q": torch.randn(batch, heads, queries, width, dtype=dtype),
        "k": torch.randn(batch, groups, keys, width, dtype=dtype),
        "v": torch.randn(batch, groups, keys, values, dtype=dtype),
    }


def bind(tensors: dict[str, Tensor], **options) -> Bound:
    """Return a call; positions are row numbers unless options say otherwise."""
    positions = {
        "query_positions": torch.arange(tensors["q"].shape[2])[None],
        "key_positions": torch.arange(tensors["k"].shape[2])[None],
    }
    for name in ("query_lengths", "key_lengths"):
        if isinstance(options.get(name), list):
            options[name] = torch.tensor(options[name])
    return Bound(tensors, **{**positions, **options})


def run(program: n.Node, tensors: dict[str, Tensor], observe=(), **options) -> dict[str, Tensor]:
    """Verify a program (bare weights stand for their output) and evaluate it."""
    root = program if isinstance(program, n.Output) else output(program)
    for node in n.walk(root):
        verify(node)
    verify_program(root)
    return evaluate(root, bind(tensors, **options), observe)


def out(program: n.Node, tensors: dict[str, Tensor], **options) -> Tensor:
    return run(program, tensors, **options)["output"]


def weights_of(program: n.Node, tensors: dict[str, Tensor], **options) -> Tensor:
    return run(program, tensors, ["weights"], **options)["weights"]


def score_table(values: list, dtype=torch.float64) -> dict[str, Tensor]:
    """Return inputs whose only head scores its keys as the rows of `values` say, by SCORE."""
    scores = torch.tensor(values, dtype=dtype)
    keys = scores.shape[1]
    return {
        "q": scores[None, None],
        "k": torch.eye(keys, dtype=dtype)[None, None],
        "v": torch.eye(keys, dtype=dtype)[None, None],
    }


def close(actual: Tensor, expected, rtol=1e-12, atol=1e-12) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected.expand_as(actual), rtol=rtol, atol=atol)
