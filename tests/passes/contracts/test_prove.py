import math

import pytest

import regard as rg
from regard.ir.contracts import Contract, parse_contract
from regard.passes.contracts.bound_terms import bound_terms
from regard.passes.contracts.prove import prove
from regard.passes.contracts.reads import find_reads


def score_of(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def root_of(fn):
    return rg.program(fn).root


def proves(contract, fn):
    return prove(root_of(fn), parse_contract(contract)).proved


@pytest.mark.parametrize(
    ("seen", "width"),
    [
        (lambda p: p.i == p.j, 0),
        (lambda p: abs(p.i - p.j) < 8, 7),
        (lambda p: (p.j <= p.i) & (p.i - p.j <= 300), 300),
        (lambda p: (p.j <= p.i + 3) & (p.i - p.j <= 2), 3),
        (lambda p: p.i // 16 == p.j // 16, 15),
    ],
)
def test_the_least_window_is_found(seen, width):
    finding = prove(root_of(lambda p: rg.softmax(score_of(p), where=seen(p))), Contract("window"))
    assert finding.proved
    assert finding.contract == Contract("window", width)


def test_no_window_is_found_where_there_is_none():
    finding = prove(
        root_of(lambda p: rg.softmax(score_of(p), where=p.j <= p.i)), Contract("window")
    )
    assert not finding.proved


def test_whoever_reads_keys_is_named():
    def all_of_them(p):
        chosen = rg.topk(score_of(p), 3, where=p.j <= p.i)
        return rg.output(
            rg.softmax(score_of(p) * p.keys, where=chosen), values=p.v - rg.max_over_keys(p.v)
        )

    assert [read.reader for read in find_reads(root_of(all_of_them))] == [
        "pair.keys, which counts every key", "rg.topk", "weights 'a'", "rg.max_over_keys",
    ]  # fmt: skip


def running(seen, **options):
    def program(p):
        total = rg.running_sum(rg.exp(score_of(p)), where=seen(p), **options)
        return rg.softmax(score_of(p) - total, where=p.j <= p.i)

    return program


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_sum_reads_what_its_own_where_admits(reverse):
    assert proves("causal", running(lambda p: p.j <= p.i, reverse=reverse))
    assert not proves("causal", running(lambda p: p.j <= p.i + 1, reverse=reverse))
    assert not proves("causal", running(lambda p: None, reverse=reverse))
    assert not proves("window", running(lambda p: p.j <= p.i, reverse=reverse))
    real = rg.program(running(lambda p: rg.key_feature("real") & (p.j <= p.i)))
    (read, _) = find_reads(real.root)
    assert read.reader == "rg.running_sum"


def test_a_running_sum_is_blind_to_padding_that_its_where_hides():
    def blind(p, own):
        real = rg.key_feature("real")
        total = rg.running_sum(p.i * 1.0 + rg.key_feature("f"), where=real if own else None)
        return rg.softmax(score_of(p) + total, where=real)

    assert proves("padding-blind by real", lambda p: blind(p, own=True))
    assert not proves("padding-blind by real", lambda p: blind(p, own=False))


def test_a_running_sum_depends_on_the_order_of_keys():
    ordered = prove(
        root_of(lambda p: rg.softmax(rg.running_sum(score_of(p)))),
        Contract("permutation-equivariant"),
    )
    assert not ordered.proved
    assert ordered.reason == "rg.running_sum adds up keys in their order"


def test_a_running_sum_that_may_be_infinite_hides_keys_behind_it():
    def hiding(p, infinite):
        fallen = rg.running_sum(rg.where(p.j == 0, -math.inf if infinite else -1.0, 0.0))
        return rg.softmax(fallen, where=p.i >= 0)

    assert proves("never empty", lambda p: hiding(p, infinite=False))
    assert not proves("never empty", lambda p: hiding(p, infinite=True))


def test_a_condition_on_a_running_sum_is_not_the_same_at_every_key():
    # Were the sum the same at all keys, one of both programs would see none of them.
    def either(p):
        few = rg.running_sum(1) > 1
        return rg.softmax(score_of(p), where=(few & (p.j == 0)) | (~few & (p.j == p.i)))

    assert not proves("never empty", either)


def test_a_count_of_what_a_score_hides_is_a_read():
    def hidden(p):
        return rg.where(p.j <= p.i, score_of(p), -math.inf)

    assert proves("causal", lambda p: rg.softmax(hidden(p)))
    assert not proves("causal", lambda p: rg.softmax(hidden(p) / p.visible))


def test_what_one_key_holds_says_nothing_of_another():
    # Not real at 0 and real at i: the row sees nothing.
    def trap(p):
        real = rg.key_feature("real")
        return rg.softmax(score_of(p), where=(real & (p.j == 0)) | (~real & (p.j == p.i)))

    assert not proves("never empty", trap)


def test_what_the_query_holds_is_the_same_for_all_its_keys():
    def either(p):
        first = rg.query_feature("first")
        return rg.softmax(score_of(p), where=(first & (p.j == 0)) | (~first & (p.j == p.i)))

    assert proves("never empty", either)


def test_a_score_that_may_be_minus_infinity_may_hide_the_only_key():
    assert not proves("never empty", lambda p: rg.softmax(rg.log(rg.key_feature("x"))))
    assert not proves("never empty", lambda p: rg.softmax(score_of(p) / rg.scalar("heat")))
    assert proves("never empty", lambda p: rg.softmax(score_of(p) / (1 + p.keys)))


def test_a_choice_among_keys_sees_one_if_there_is_one():
    assert proves(
        "never empty",
        lambda p: rg.softmax(score_of(p), where=rg.topk(score_of(p), 1, where=p.j <= p.i)),
    )
    assert not proves(
        "never empty",
        lambda p: rg.softmax(score_of(p), where=rg.topk(score_of(p), 1, where=p.j < p.i)),
    )


def test_a_product_needs_one_key_that_both_terms_see():
    def product(p):
        first = rg.softmax(score_of(p), where=p.j == 0)
        return first * rg.softmax(score_of(p), where=p.j == p.i)

    assert not proves("never empty", product)


def test_rows_of_length_one_have_bounded_products():
    def unit(row, least=0.0):
        return row / rg.max(rg.sqrt(rg.sum(row**2)), least)

    cosine = root_of(lambda p: rg.softmax(8 * rg.dot(unit(p.q), unit(p.k))))
    assert bound_terms(cosine) == {"a": (-8.0, 8.0)}
    shrunk = root_of(
        lambda p: rg.softmax(rg.dot(p.q / rg.sqrt(rg.sum(p.q * p.q) - 1.0), unit(p.k)))
    )
    assert bound_terms(shrunk) == {"a": (-math.inf, math.inf)}


def test_a_bound_is_no_smaller_than_what_is_asked():
    capped = root_of(lambda p: rg.softmax(20 * rg.tanh(score_of(p))))
    assert prove(capped, parse_contract("bounded")).contract == Contract("bounded", 20.0)
    assert prove(capped, parse_contract("bounded <= 20")).proved
    assert not prove(capped, parse_contract("bounded <= 19.9")).proved


def test_a_proof_for_a_file_nobody_wrote_ends():
    def deep(p):
        seen = p.j == -1
        for step in range(1500):
            seen = seen | (p.i * p.i == p.j + step)
        return rg.softmax(score_of(p), where=seen)

    assert not proves("causal", deep)
