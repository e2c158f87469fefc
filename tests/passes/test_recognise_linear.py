"""Programs that are sums of products are recognised, and others are refused with their reason."""

import pytest

import regard as rg
from regard.ir import nodes as n
from regard.passes.build import call, neg
from regard.passes.recognise_linear import LinearProgram, Product, recognise_linear

Q, K = n.Vector("query", "q"), n.Vector("key", "k")


def recognised(weights, **options):
    return recognise_linear(rg.program(lambda pair: weights(pair)).root, **options)


def test_docstring_example():
    def before(pair):
        product = rg.dot(rg.relu(pair.q), rg.exp(pair.k))
        return rg.ratio(product * rg.exp(-(pair.i - pair.j) / 8), where=pair.j <= pair.i)

    found = recognised(before)
    assert isinstance(found, LinearProgram)
    assert found.causal
    assert found.den == found.num
    assert found.num == (
        Product(
            query=call("relu", Q),
            key=call("exp", K),
            dot=True,
            query_exponent=call("div", neg(n.Index("i")), 8),
            key_exponent=call("mul", call("div", 1.0, 8), n.Index("j")),
        ),
    )


def test_sums_differences_and_factors_become_products():
    def weights(pair):
        first = rg.dot(pair.q, pair.k) / 4 - rg.query_feature("a") * rg.key_feature("b")
        return -rg.weigh(first) * rg.sigmoid(rg.key_feature("b")) / (1 + pair.i)

    found = recognised(weights)
    assert [product.dot for product in found.num] == [True, False]
    assert found.den is None


def test_conditions_of_one_row_stand_apart():
    def weights(pair):
        real = rg.key_feature("real") > 0
        asked = rg.query_feature("asked") > 0
        return rg.linear(pair.q, pair.k, where=real & (pair.i >= pair.j) & asked)

    found = recognised(weights)
    assert found.causal
    assert found.keys is call("gt", n.Feature("key", "real"), 0)
    assert found.queries is call("gt", n.Feature("query", "asked"), 0)


def test_draws_count_where_there_is_a_seed():
    def weights(pair):
        return rg.dropout(rg.linear(pair.q, pair.k, where=rg.keep(0.5)), 0.1)

    assert isinstance(recognised(weights), LinearProgram)
    assert recognised(weights, seeded=True) == "its weights are not one weigh or ratio"


def dot(pair):
    return rg.dot(pair.q, pair.k)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (lambda p: rg.softmax(dot(p)), "its weights are not one weigh or ratio"),
        (lambda p: rg.weigh(dot(p)) + rg.weigh(dot(p)), "its weights are not one weigh or ratio"),
        (lambda p: rg.map(abs, rg.weigh(dot(p))), "its weights are not one weigh or ratio"),
        (lambda p: rg.weigh(dot(p) / p.visible), "it counts or selects keys per row"),
        (lambda p: rg.weigh(rg.exp(dot(p))), "it reads query and key together in 'exp'"),
        (lambda p: rg.weigh(rg.relu(dot(p))), "it reads query and key together in 'relu'"),
        (lambda p: rg.weigh(abs(p.i - p.j) * dot(p)), "it reads query and key together in 'abs'"),
        (lambda p: rg.weigh(dot(p) * dot(p)), "it multiplies two dot products"),
        (lambda p: rg.weigh(1 / (1 + abs(p.i - p.j))), "it divides by a number of query and key"),
        (
            lambda p: rg.weigh(dot(p) * rg.exp(rg.exp(p.i * 0.1) * p.j)),
            "it reads query and key together in 'exp'",
        ),
        (
            lambda p: rg.weigh(dot(p), where=p.j < p.i),
            "its mask is not all keys or j <= i, beside conditions of one row",
        ),
        (
            lambda p: rg.output(rg.weigh(dot(p)), values=p.v * p.i),
            "its values depend on the query",
        ),
        (
            lambda p: rg.output(rg.weigh(dot(p)), finish=lambda r: r + rg.max_over_keys(p.v)),
            "it reads the largest value over keys",
        ),
        (
            lambda p: rg.ratio(rg.exp(rg.key_feature("a")) * dot(p), add=1.0, scaled=True),
            "its bounds are meant after scaling by the row's largest exponential",
        ),
        (
            lambda p: rg.weigh(rg.sum(rg.exp(rg.min(p.q, p.k)))),
            "it reads query and key together in 'exp'",
        ),
        (
            lambda p: rg.weigh(rg.sum(p.q * p.k * dot(p))),
            "it sums over channels what is summed over channels already",
        ),
        (
            lambda p: rg.weigh(
                rg.dot(sum((p.q[c : c + 1] for c in range(1, 40)), p.q[:1]), p.k[:1])
                * sum((rg.key_feature(f"a{c}") * rg.query_feature(f"b{c}") for c in range(33)), 0)
            ),
            "it is a sum of more than 32 products",
        ),
    ],
)
def test_reason_names_what_is_in_the_way(weights, reason):
    found = recognised(weights)
    assert isinstance(found, str)
    assert found.startswith(reason)
