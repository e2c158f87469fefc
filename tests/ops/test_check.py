"""Every input that does not fit, by the message that names it."""

import pytest
import torch

import regard as rg
from regard.errors import InputError

SHAPES = {"q": (2, 4, 5, 8), "k": (2, 2, 7, 8), "v": (2, 2, 7, 6)}


def tensors(**changed):
    """Return q, k and v that fit, but for what is changed."""
    return {name: torch.randn(*changed.get(name, shape)) for name, shape in SHAPES.items()}


@rg.program
def plain(pair):
    return rg.softmax(rg.dot(pair.q, pair.k))


@rg.program
def rich(pair):
    """Read one input of every kind."""
    bias = rg.parameter("bias", per=("head", 3))[rg.pair_input("edges")]
    rows = rg.table("rows", per=("rows", "channel"))[pair.j]
    score = rg.dot(rg.query_vector("place"), rows) + bias + rg.scalar("heat")
    seen = rg.key_feature("real") & (rg.query_feature("since") <= pair.j)
    gate = rg.project(pair.q, rg.parameter("gate", per=("channel", "channel")), width=3)
    return rg.softmax(score + rg.sum(gate), where=seen)


def rich_inputs(**changed):
    given = {
        "bias": torch.zeros(4, 3),
        "edges": torch.zeros(2, 1, 5, 7, dtype=torch.int64),
        "rows": torch.zeros(9, 10),
        "place": torch.zeros(2, 4, 5, 10),
        "heat": 0.5,
        "real": torch.ones(2, 1, 7, dtype=torch.bool),
        "since": torch.zeros(2, 1, 5),
        "gate": torch.zeros(8, 3),
    }
    return {**given, **changed}


def test_inputs_that_fit_are_taken():
    assert rg.attend(rich, **tensors(), **rich_inputs()).shape == (2, 4, 5, 6)


SIZES = [
    (dict(q=(2, 4, 8)), "q has shape (2, 4, 8); expected four axes (B, H, N, D)"),
    (dict(k=(2, 2, 7, 8, 1)), "k has shape (2, 2, 7, 8, 1); expected four axes (B, G, M, D)"),
    (dict(v=(2, 7, 6)), "v has shape (2, 7, 6); expected four axes (B, G, M, E)"),
    (dict(k=(2, 2, 0, 8)), "k has shape (2, 2, 0, 8); every axis needs at least one element"),
    (
        dict(v=(2, 2, 6, 6)),
        "k (2, 2, 7, 8) and v (2, 2, 6, 6) need the same batch, heads and keys",
    ),
    (dict(q=(1, 4, 5, 8)), "q has 1 batch rows and k has 2"),
    (dict(q=(2, 3, 5, 8)), "q has 3 heads, which is no multiple of k's 2"),
    (dict(k=(2, 2, 7, 6)), "'q' has 8 channels and 'k' has 6; one expression combines them"),
]


@pytest.mark.parametrize(("changed", "text"), SIZES)
def test_sizes_that_do_not_fit_are_told(changed, text):
    with pytest.raises(InputError) as caught:
        rg.attend(plain, **tensors(**changed))
    assert str(caught.value).startswith(text)


INPUTS = [
    (
        dict(bias=torch.zeros(3, 4)),
        "parameter 'bias' has shape (3, 4); expected (4, 3) for per=('head', 3)",
    ),
    (
        dict(rows=torch.zeros(9, 11)),
        "'place' has 10 channels and a row of 'rows' has 11; one expression combines them",
    ),
    (
        dict(rows=torch.zeros(10)),
        "table 'rows' has shape (10,); expected (any, 10) for per=('rows', 'channel')",
    ),
    (
        dict(rows=torch.zeros(0, 10)),
        "table 'rows' has shape (0, 10); expected (any, 10) for per=('rows', 'channel')",
    ),
    (
        dict(gate=torch.zeros(3, 8)),
        "parameter 'gate' has shape (3, 8); expected (8, 3) for per=('channel', 'channel')",
    ),
    (
        dict(place=torch.zeros(2, 4, 7, 10)),
        "'place' has shape (2, 4, 7, 10); expected (2, 4, 5) and a width",
    ),
    (dict(heat=torch.zeros(1)), "'heat' is a run-time scalar; found shape (1,)"),
    (
        dict(since=torch.zeros(2, 1, 7)),
        "'since' has shape (2, 1, 7), which does not broadcast to (2, 4, 5)",
    ),
    (
        dict(edges=torch.zeros(5, 7).long()),
        "pair input 'edges' has shape (5, 7); expected (2 or 1, 4 or 1, 5, 7); "
        "pass edges[None, None]",
    ),
    (
        dict(edges=torch.zeros(2, 2, 5, 7).long()),
        "pair input 'edges' has shape (2, 2, 5, 7); expected (2 or 1, 4 or 1, 5, 7)",
    ),
    (
        dict(edges=torch.zeros(2, 1, 5, 7)),
        "'edges' has dtype torch.float32; it must be an integer, because it indexes 'bias'",
    ),
    (
        dict(real=torch.ones(2, 1, 7)),
        "'real' has dtype torch.float32; it must be bool, because it is a condition",
    ),
    (dict(bias="x"), "'bias' must be a tensor or a number, not str"),
    (
        dict(basis=torch.zeros(4, 3)),
        "the program reads no 'basis'; did you mean 'bias'? known: ",
    ),
    (
        dict(querry_offset=3),
        "the program reads no 'querry_offset'; did you mean 'query_offset'? known: ",
    ),
]


@pytest.mark.parametrize(("changed", "text"), INPUTS)
def test_named_input_that_does_not_fit_is_named(changed, text):
    with pytest.raises(InputError) as caught:
        rg.attend(rich, **tensors(), **rich_inputs(**changed))
    assert str(caught.value).startswith(text)


def test_feature_of_the_batch_without_a_head_axis_is_told_what_to_write():
    featured = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) * rg.key_feature("f")))
    given = {name: torch.randn(3, *shape[1:]) for name, shape in SHAPES.items()}
    with pytest.raises(InputError) as caught:
        rg.attend(featured, **given, f=torch.zeros(3, 7))
    assert str(caught.value) == (
        "'f' has shape (3, 7), which does not broadcast to (3, 2, 7); write f[:, None]"
    )


MISSING = {
    "edges": "the program reads the pair input 'edges', which was not given; pass edges=…",
    "rows": "the program reads the table 'rows', which was not given; pass rows=…",
    "place": "the program reads the vector 'place', which was not given; pass place=…",
    "heat": "the program reads the run-time scalar 'heat', which was not given; pass heat=…",
    "real": "the program reads the feature 'real', which was not given; pass real=…",
}


@pytest.mark.parametrize("name", MISSING)
def test_input_that_is_missing_is_named_with_its_kind(name):
    given = {key: value for key, value in rich_inputs().items() if key != name}
    with pytest.raises(InputError) as caught:
        rg.attend(rich, **tensors(), **given)
    assert str(caught.value) == MISSING[name]


def test_dtypes_of_the_three_must_agree():
    given = tensors()
    given["k"] = given["k"].double()
    with pytest.raises(InputError) as caught:
        rg.attend(plain, **given)
    assert str(caught.value) == (
        "q, k and v need one floating-point dtype; "
        "found q torch.float32, k torch.float64, v torch.float32"
    )
    with pytest.raises(
        InputError, match=r"^q, k and v need one floating-point dtype; found q torch"
    ):
        rg.attend(plain, **{name: x.long() for name, x in tensors().items()})


def test_tensor_on_another_device_is_named():
    with pytest.raises(InputError, match=r"^'bias' is on meta, q is on cpu$"):
        rg.attend(rich, **tensors(), **rich_inputs(bias=torch.zeros(4, 3, device="meta")))


OPTIONS = [
    (dict(first_head=2), "heads 2 … 5 do not exist in a layer of 4"),
    (dict(first_head=3, total_heads=6), "heads 3 … 6 do not exist in a layer of 6"),
    (dict(first_head=-1, total_heads=6), "heads -1 … 2 do not exist in a layer of 6"),
    (dict(query_offset=0.5), "query_offset must hold whole numbers, not torch.float32"),
    (dict(query_offset=[1, 2, 3]), "query_offset has shape (3,); expected a number or (2,)"),
    (
        dict(query_offset=1, query_positions=torch.arange(5)),
        "query_offset and query_positions both say where queries are; give one",
    ),
    (
        dict(query_positions=torch.arange(7)),
        "query_positions has shape (7,); expected (5,) or (2, 5)",
    ),
    (
        dict(key_positions=torch.zeros(7)),
        "key_positions must hold whole numbers, not torch.float32",
    ),
    (dict(key_positions=torch.arange(5)), "key_positions has shape (5,); expected (7,) or (2, 7)"),
    (dict(key_lengths=[7, 8]), "key_lengths holds 8 or a negative number; there are 7 rows"),
    (dict(query_lengths=[-1, 5]), "query_lengths holds 5 or a negative number; there are 5 rows"),
    (
        dict(key_lengths=[1, 2, 3]),
        "key_lengths has shape (3,); expected (2,), one length per batch row",
    ),
    (dict(key_lengths=[1.0, 2.0]), "key_lengths must hold whole numbers, not torch.float32"),
    (dict(backend="tilled"), "there is no backend 'tilled'; did you mean 'tiled'? known: auto, "),
    (dict(backend=None), "there is no backend 'None'; "),
    (dict(observe="lse"), "observe takes a list of names, e.g. observe=[\"lse\"]; found 'lse'"),
    (dict(observe=["lsf"]), "'lsf' cannot be observed; did you mean 'lse'? known: distance, "),
    (
        dict(observe=["lse:b"]),
        "'lse:b': no softmax of the program is named 'b'; known: a",
    ),
    (dict(observe=["top:0"]), "'top:0' needs a number of keys from 1 to 4096, as in top:8"),
    (dict(observe=["top"]), "'top' needs a number of keys from 1 to 4096, as in top:8"),
    (
        dict(observe=["map:64"]),
        "'map:64' needs two sizes from 1 to 4096, as in map:64x64",
    ),
    (
        dict(observe=["mass:4:kind"]),
        "'mass:4:kind' names no feature of keys; write mass:kind, or mass:kind:4",
    ),
    (
        dict(observe=["mass:kind:x"], kind=torch.zeros(7, dtype=torch.int64)),
        "'mass:kind:x' needs a number of classes from 1 to 4096, as in mass:kind:4",
    ),
    (
        dict(observe=["mass:kind"]),
        "what is observed reads the feature 'kind', which was not given; pass kind=…",
    ),
    (
        dict(observe=["mass:kind"], kind=torch.zeros(7, dtype=torch.int64)),
        "'mass:kind': 'kind' has dtype torch.int64; write mass:kind:4 if it tells 4 classes",
    ),
    (
        dict(observe=["mass:kind:4"], kind=torch.zeros(7)),
        "'mass:kind:4': 'kind' has dtype torch.float32; write mass:kind",
    ),
    (
        dict(observe=["mass:kind:4"], kind=torch.zeros(6, dtype=torch.int64)),
        "'kind' has shape (6,), which does not broadcast to (2, 2, 7)",
    ),
    (
        dict(observe=["mass:q:4"]),
        "what is observed reads 'q' as a feature of keys, which it is not in the program; ",
    ),
    (dict(observe=["sink"]), "'sink' belongs to a softmax with a sink; the program has none"),
    (dict(seed=1.5), "seed must be a whole number, or None to draw nothing; found 1.5"),
]


@pytest.mark.parametrize(("options", "text"), OPTIONS)
def test_option_that_does_not_fit_is_told(options, text):
    with pytest.raises(InputError) as caught:
        rg.attend(plain, **tensors(), **options)
    assert str(caught.value).startswith(text)


def test_observing_needs_a_softmax_and_one_alone():
    weighed = rg.program(lambda pair: rg.weigh(rg.dot(pair.q, pair.k)))
    with pytest.raises(InputError, match=r"^'lse' belongs to a softmax; the program has none$"):
        rg.attend(weighed, **tensors(), observe=["lse"])
    two = rg.program(lambda pair: rg.softmax(pair.j) - rg.softmax(pair.i + pair.j, name="far"))
    with pytest.raises(InputError, match=r"^'max' could mean max:a or max:far; name one$"):
        rg.attend(two, **tensors(), observe=["max"])
    _, seen = rg.attend(two, **tensors(), observe=["max:far"])
    assert seen.keys() == {"max:far"}


def test_what_is_no_program_is_refused():
    with pytest.raises(
        InputError, match=r"^attend runs a program, which @rg\.program makes; found"
    ):
        rg.attend(lambda pair: pair, **tensors())


def test_row_width_that_nothing_decides_is_told():
    @rg.program
    def undecided(pair):
        return rg.softmax(rg.sum(rg.parameter("a", per="channel") * 1.0) + pair.j)

    with pytest.raises(InputError) as caught:
        rg.attend(undecided, **tensors())
    assert str(caught.value) == (
        "nothing decides how many channels parameter 'a' has; combine it with a row, "
        "or give the call a=…"
    )

    @rg.program
    def counting(pair):
        return rg.softmax(rg.sum(rg.channel * 1.0) + pair.j)

    with pytest.raises(InputError, match=r"^nothing decides how many channels rg\.channel counts"):
        rg.attend(counting, **tensors())


def test_channels_that_do_not_exist_are_told():
    halves = rg.program(lambda pair: rg.softmax(rg.dot(pair.q[:12], pair.k[:12])))
    with pytest.raises(InputError, match=r"^channels 0:12 do not exist in a row of 8$"):
        rg.attend(halves, **tensors())
    turned = rg.program(lambda pair: rg.softmax(rg.sum(rg.rotate(pair.q[:5], pair.i))))
    text = "rg.rotate turns pairs of channels; a row of 5 cannot be paired"
    with pytest.raises(InputError, match=text):
        rg.attend(turned, **tensors())


def test_features_may_be_written_shorter():
    @rg.program
    def featured(pair):
        return rg.softmax(rg.dot(pair.q, pair.k) + rg.key_feature("f") * rg.query_feature("g"))

    given, f, g = tensors(), torch.randn(7), torch.randn(5)
    expected = rg.attend(featured, **given, f=f.expand(2, 4, 7), g=g.expand(2, 4, 5))
    torch.testing.assert_close(rg.attend(featured, **given, f=f, g=g), expected)
    torch.testing.assert_close(rg.attend(featured, **given, f=f[None], g=g[None]), expected)


def test_number_for_a_feature_is_one_for_all():
    featured = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) * rg.key_feature("f")))
    given = tensors()
    expected = rg.attend(featured, **given, f=torch.full((2, 1, 7), 0.5))
    torch.testing.assert_close(rg.attend(featured, **given, f=0.5), expected)


def test_default_of_a_scalar_is_as_exact_as_the_call():
    heated = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) * rg.scalar("heat", default=0.3)))
    given = {name: x.double() for name, x in tensors().items()}
    assert torch.equal(rg.attend(heated, **given), rg.attend(heated, **given, heat=0.3))
