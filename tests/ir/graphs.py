"""Sample programs built from nodes directly, one of each kind the language can say."""

from regard.ir import nodes as n
from regard.ir.verify import verify, verify_program

QI, KJ, WIDTH = n.Index("i"), n.Index("j"), n.Index("width")
Q, K, V = n.Vector("query", "q"), n.Vector("key", "k"), n.Vector("key", "v")
ZERO = n.Const(0.0)


def lift(value) -> n.Node:
    """Return a node; numbers become constants."""
    return value if isinstance(value, n.Node) else n.Const(value)


def call(op: str, *args) -> n.Call:
    """Apply a scalar operator; add, mul, and, min, max take any number of arguments."""
    first, *rest = map(lift, args)
    if len(rest) > 1 and op != "where":
        return call(op, call(op, first, rest[0]), *rest[1:])
    return n.Call(op, (first, *rest))


def dot(u: n.Node, w: n.Node) -> n.Reduce:
    return n.Reduce(call("mul", u, w), "c")


def parameter(name: str, *per: str | int, init: n.Init | None = None) -> n.Array:
    return n.Array("parameter", name, per, init or n.Init("zeros"))


def scaled_score(q: n.Node = Q, k: n.Node = K) -> n.Node:
    return call("div", dot(q, k), call("sqrt", WIDTH))


DISTANCE = call("sub", QI, KJ)
CAUSAL = call("le", KJ, QI)


def program(weights: n.Node, values: n.Node = V, finish: n.Node | None = None) -> n.Output:
    """End a program and check all of it."""
    root = n.Output(weights, values, finish)
    for node in n.walk(root):
        verify(node)
    verify_program(root)
    return root


def plain() -> n.Output:
    return program(n.Softmax(scaled_score(), None, None, "a"))


def local_alibi() -> n.Output:
    slope = parameter("slope", "head", init=n.Init("alibi"))
    score = call("sub", scaled_score(), call("mul", slope, call("abs", DISTANCE)))
    seen = call("and", CAUSAL, call("lt", DISTANCE, 256))
    return program(n.Softmax(score, seen, None, "a"))


def t5_buckets() -> n.Output:
    past = call("max", DISTANCE, 0)
    far = call("div", call("log", call("div", past, 16)), call("log", 8.0))
    far = call("min", 31, call("add", 16, call("floor", call("mul", far, 16))))
    bucket = call("where", call("lt", past, 16), past, far)
    bias = n.Gather(parameter("bias", "head", 32), (bucket,))
    return program(n.Softmax(call("add", dot(Q, K), bias), CAUSAL, None, "a"))


def additive() -> n.Output:
    a = parameter("a", "channel", init=n.Init("normal", (0.02,)))
    return program(n.Softmax(dot(a, call("tanh", call("add", Q, K))), None, None, "a"))


def learned_sink() -> n.Output:
    sink = parameter("sink", "head")
    return program(n.Softmax(scaled_score(), CAUSAL, sink, "a"))


def differential() -> n.Output:
    lam = parameter("lam_full", init=n.Init("constant", (0.8,)))
    q2, k2 = n.Vector("query", "q2"), n.Vector("key", "k2")
    first = n.Softmax(scaled_score(), CAUSAL, None, "a")
    second = n.Softmax(scaled_score(q2, k2), CAUSAL, None, "b")
    return program(call("sub", first, call("mul", lam, second)))


def softpick() -> n.Output:
    grown = call("sub", call("exp", scaled_score()), 1.0)
    ratio = n.Ratio(
        call("relu", grown), call("abs", grown), CAUSAL, ZERO, n.Const(1e-6), False, "a"
    )
    return program(ratio)


def sigmoid_bias() -> n.Output:
    bias = n.Scalar("bias", -4.5)
    return program(n.Weigh(call("sigmoid", call("add", scaled_score(), bias)), CAUSAL, "a"))


def rotary() -> n.Output:
    wave = call("exp", call("div", call("mul", n.Channel(), -18.420680743952367), WIDTH))
    q = n.Rotate(Q, call("mul", QI, wave), "halves")
    k = n.Rotate(K, call("mul", KJ, wave), "halves")
    return program(n.Softmax(scaled_score(q, k), CAUSAL, None, "a"))


def dropout() -> n.Output:
    p = n.Scalar("p", 0.1)
    seen = call("and", CAUSAL, n.Keep(p, "bhj", 0))
    return program(n.Dropout(n.Softmax(scaled_score(), seen, None, "a"), p, 1))


def output_gate() -> n.Output:
    gate = n.Vector("query", "gate")
    size = call("sqrt", n.Reduce(call("mul", n.SUMMED, n.SUMMED), "c"))
    normal = call("div", n.SUMMED, call("add", size, 1e-6))
    weights = n.Softmax(scaled_score(), None, None, "a")
    return program(weights, V, call("mul", call("sigmoid", gate), normal))


def projected_mlp() -> n.Output:
    inner = parameter("W_in", "head", "channel", "channel")
    hidden = call("relu", call("add", n.Project(Q, inner, 64), n.Project(K, inner, 64)))
    outer = parameter("w_out", "channel")
    return program(n.Softmax(dot(outer, hidden), None, None, "a"))


def relative_keys() -> n.Output:
    table = n.Array("table", "rel", ("rows", "channel"), None)
    row = n.Gather(table, (call("add", call("min", call("max", DISTANCE, -8), 8), 8),))
    score = call("div", dot(Q, call("add", K, row)), call("sqrt", WIDTH))
    return program(n.Softmax(score, None, None, "a"), call("add", V, row))


def clipped_map() -> n.Output:
    body = call("min", call("max", call("sub", call("mul", n.MAPPED, 1.03), 0.03), 0.0), 1.0)
    return program(n.Map(n.Softmax(scaled_score(), CAUSAL, None, "a"), body))


def stick_breaking() -> n.Output:
    score, before = scaled_score(), call("lt", KJ, QI)
    left = n.Running(call("softplus", score), before, True, True)
    own = call("neg", call("softplus", call("neg", score)))
    return program(n.Weigh(call("exp", call("sub", own, left)), before, "a"))


def everything_else() -> n.Output:
    """Hold what no other sample has: features, pair inputs, top-k, entmax, slices, channels."""
    same = call("eq", n.Feature("query", "doc_q"), n.Feature("key", "doc_k"))
    near = dot(n.Slice(Q, 0, 32), n.Slice(K, 32, None))
    score = call("add", near, n.PairInput("bias_map"))
    gap = n.Reduce(call("abs", call("sub", Q, call("mul", K, n.Channel()))), "c")
    best = n.TopK(call("neg", gap), n.Const(8), same)
    local = n.Entmax(score, n.Const(2.0), call("or", same, best), "local")
    scale = call("div", call("log", n.Visible()), call("log", n.Index("keys")))
    free = n.Entmax(call("mul", score, scale), parameter("alpha", "head"), None, "b")
    shifted = call("exp", call("sub", V, n.KeyMax(V)))
    weights = call("add", call("mul", local, n.Feature("query", "share")), free)
    return program(weights, shifted, call("log", n.SUMMED))


SAMPLES = {
    build.__name__: build()
    for build in (
        plain, local_alibi, t5_buckets, additive, learned_sink, differential, softpick,
        sigmoid_bias, rotary, dropout, output_gate, projected_mlp, relative_keys, clipped_map,
        stick_breaking, everything_else,
    )
}  # fmt: skip


def deep(depth: int) -> n.Output:
    """Return a program whose score is a chain of negations."""
    score = scaled_score()
    for _ in range(depth):
        score = verify(call("neg", score))
    return n.Output(n.Softmax(score, None, None, "a"), V, None)


def doubling(levels: int) -> n.Output:
    """Return a program of few nodes that is exponentially large when written as a tree."""
    score = scaled_score()
    for level in range(levels):
        score = verify(call("add", call("mul", score, score), call("sin", score)))
        score = verify(call("div", score, call("add", score, float(level + 1))))
    return n.Output(n.Softmax(score, None, None, "a"), V, None)
