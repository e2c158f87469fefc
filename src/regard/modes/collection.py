"""Ready modes: a dozen ways of attending, each with what it is for.

A program of a decoder is causal by itself, whatever mask a model adds. Leaves to others: what a
ready mode is (`ready`), published mechanisms one by one (`catalogue`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from regard import lang as rg
from regard.catalogue import VARIANTS
from regard.catalogue.position import distance_bucket
from regard.errors import InputError, nearest
from regard.ir.program import AttentionProgram
from regard.lang.trace import Expr
from regard.modes.ready import Programs, ReadyMode

Seen = Expr | None
_PROMISED = {
    "encoder": ("never empty",),
    "decoder": ("causal", "never empty"),
    "cross": ("never empty",),
}


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def _unit(row):
    return row / rg.sqrt(rg.sum(row * row) + 1e-12)


def _by_role(name: str, weights: Callable[..., Expr], *roles: str) -> dict[str, AttentionProgram]:
    """Return a program for each role.

    Args:
        name: What the programs are called.
        weights: Returns the last line of a pair, given what may be seen: None is everything.
        *roles: Which roles; all three if none is named.
    """

    def made(role: str) -> AttentionProgram:
        def line(pair):
            return weights(pair, pair.j <= pair.i if role == "decoder" else None)

        line.__name__ = f"{name}_{role}"
        return rg.program(line, contracts=_PROMISED[role])

    return {role: made(role) for role in roles or _PROMISED}


def _both(seen: Seen, near: Expr) -> Expr:
    return near if seen is None else seen & near


def reader(*, buckets: int = 32, furthest: int = 128) -> Programs:
    """Reads both ways, and learns how much nearness counts in buckets of distances.

    For encoders that understand a text as a whole: classification, tagging, question answering. Far
    words share a bucket, so it goes on working for texts longer than those of training.
    """

    def weights(pair, seen):
        bias = rg.parameter("bias", ("head", buckets), rg.init.normal(0.05))
        half = buckets // 2
        after = rg.where(pair.j > pair.i, half, 0)
        return rg.softmax(
            _score(pair) + bias[distance_bucket(abs(pair.j - pair.i), half, furthest) + after],
            where=seen,
        )

    return _by_role("reader", weights, "encoder")


def sequential() -> Programs:
    """Reads what came before, the more recent the stronger.

    For language models and anything else that happens in time. Slopes differ from head to head, so
    that some look back far; what lies far behind cannot be looked up exactly.
    """
    return {role: VARIANTS["alibi"].program for role in ("encoder", "decoder")}


def focused(*, alpha: float = 1.5) -> Programs:
    """Reads few tokens and gives all others exactly nothing.

    For tasks that a few words decide, for long inputs full of noise, and where people must see what
    counted. A larger `alpha` leaves fewer; an entmax costs about twice a softmax.
    """
    return _by_role("focused", lambda pair, seen: rg.entmax(_score(pair), alpha, where=seen))


def broad(*, cap: float = 3.0) -> Programs:
    """Reads everything a little: no token outweighs another by more than a set factor.

    For impressions of a whole, such as topic, tone or style, and against models that hang on one
    word. Scores stay within ±`cap`, so weights of one row within a factor of e^(2·cap).
    """
    return _by_role(
        "broad", lambda pair, seen: rg.softmax(cap * rg.tanh(_score(pair) / cap), where=seen)
    )


def local(*, window: int = 64) -> Programs:
    """Reads its neighbourhood alone.

    For tagging, speech and other signals whose evidence lies near, and for long inputs, as its cost
    grows with the length and not its square. What is further than `window` reaches a token only
    through several layers.
    """
    return _by_role(
        "local",
        lambda pair, seen: rg.softmax(
            _score(pair), where=_both(seen, abs(pair.i - pair.j) <= window)
        ),
        "encoder",
        "decoder",
    )


def anchored(*, window: int = 64, anchors: int = 4) -> Programs:
    """Reads its neighbourhood and a few first tokens, to which it may also give what it needs not.

    For long documents and endless streams. Anchors are the first tokens: of an encoder they see and
    are seen by all, so a class token or a question put there gathers the text. A learned sink of
    each head takes the mass that finds no home.
    """

    def weights(pair, seen):
        near = (abs(pair.i - pair.j) <= window) | (pair.j < anchors)
        if seen is None:
            near = near | (pair.i < anchors)
        return rg.softmax(_score(pair), where=_both(seen, near), sink=rg.parameter("sink", "head"))

    return _by_role("anchored", weights, "encoder", "decoder")


def selective() -> Programs:
    """Reads only if something matches, and otherwise passes on nothing.

    For heads that look for a thing which is often absent, as rules and keywords are, and for
    weights that will be quantised. Each head learns from which score on it listens.
    """
    return _by_role(
        "selective",
        lambda pair, seen: rg.softmax(_score(pair), where=seen, sink=rg.parameter("sink", "head")),
    )


def contrastive() -> Programs:
    """Reads what one half of the channels finds and the other half does not.

    For finding a thing among much that resembles it, and for long contexts. The second map cancels
    what both attend to by habit; each head learns how much of it to take away. It costs two
    softmaxes.
    """

    def weights(pair, seen):
        half = rg.where(rg.channel < pair.width / 2, 1.0, 0.0)
        scale = rg.sqrt(pair.width / 2)
        signal = rg.softmax(rg.dot(half * pair.q, pair.k) / scale, where=seen)
        noise = rg.softmax(rg.dot((1 - half) * pair.q, pair.k) / scale, where=seen)
        share = rg.sigmoid(rg.parameter("share", "head", rg.init.constant(-1.0)))
        return (signal - share * noise) / (1 - share)

    return _by_role("contrastive", weights)


def associative(*, sharpness: float = 10.0) -> Programs:
    """Reads by likeness alone, as one looks a thing up: lengths of rows do not count.

    For recall, matching and retrieval, and where training is unstable or data few: no score leaves
    ± the learned sharpness, so nothing saturates by accident.
    """

    def weights(pair, seen):
        scale = rg.parameter("sharpness", "head", rg.init.constant(sharpness))
        return rg.softmax(scale * rg.dot(_unit(pair.q), _unit(pair.k)), where=seen)

    return _by_role("associative", weights)


def hierarchical(*, nearest_range: int = 4) -> Programs:
    """Reads at several ranges at once: each head twice as far as the one before, the last all.

    For inputs with structure at many scales, as words, phrases and sections are. The first head
    sees `nearest_range` tokens to each side; short heads cost next to nothing.
    """

    def weights(pair, seen):
        steps = abs(pair.i - pair.j)
        near = (steps == 0) | (steps <= nearest_range * 2.0**pair.head)
        near = near | (pair.head == pair.heads - 1)
        return rg.softmax(_score(pair), where=_both(seen, near))

    return _by_role("hierarchical", weights, "encoder", "decoder")


def aligned() -> Programs:
    """Aligns what it writes with what it reads, and leans to going through it in order.

    For translation between languages of like order, speech and other monotone transduction. Units
    of the sum of both rows score a pair, the first attention of neural translation; each head
    learns how much a step off the diagonal costs.
    """

    def weights(pair, seen):
        units = rg.parameter("units", ("head", "channel"), rg.init.normal(0.5))
        lean = rg.softplus(rg.parameter("lean", "head", rg.init.constant(-2.0)))
        score = rg.sum(units * rg.tanh(pair.q + pair.k)) - lean * abs(pair.i - pair.j)
        return rg.softmax(score, where=seen)

    return _by_role("aligned", weights, "cross")


def structured() -> Programs:
    """Reads within its own document, and learns what each step in a given structure counts.

    For packed documents, dialogues with speakers, and graphs: `document_q` and `document_k` say to
    which text a token belongs, and the table `steps` of the call how far two tokens lie apart in
    the structure, 0 to 15; each head learns a number for every distance.
    """

    def weights(pair, seen):
        same = rg.query_feature("document_q") == rg.key_feature("document_k")
        same = same | (pair.i == pair.j)
        counts = rg.parameter("counts", ("head", 16), rg.init.normal(0.05))
        steps = rg.clip(rg.pair_input("steps"), 0, 15)
        return rg.softmax(_score(pair) + counts[steps], where=_both(seen, same))

    return _by_role("structured", weights, "encoder", "decoder")


_ALL = (
    reader, sequential, focused, broad, local, anchored, selective, contrastive, associative,
    hierarchical, aligned, structured,
)  # fmt: skip

READY: Mapping[str, ReadyMode] = MappingProxyType({fn.__name__: ReadyMode(fn) for fn in _ALL})
"""The ready modes by name; none is traced before it is used."""


def find(name: str) -> ReadyMode:
    """Return a ready mode.

    Args:
        name: Its name.

    Returns:
        The ready mode; a call of it returns the mode.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in READY:
        raise InputError(f"there is no ready mode '{name}'; {nearest(name, READY)}")
    return READY[name]
