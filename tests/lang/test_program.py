"""A function becomes data once: what the decorator keeps, numbers and names."""

import pickle
import threading

import torch

import regard as rg
from regard.ir import nodes as n

SCORE = n.Reduce(n.Call("mul", (n.Vector("query", "q"), n.Vector("key", "k"))), "c")


def weights_of(fn):
    return rg.program(fn).root.weights


def test_function_runs_once_when_it_is_decorated():
    calls = []

    @rg.program
    def counted(pair):
        calls.append(pair)
        return rg.softmax(rg.dot(pair.q, pair.k))

    q = torch.randn(1, 1, 2, 4)
    rg.attend(counted, q, q, q)
    assert len(calls) == 1
    assert counted.root is n.Output(n.Softmax(SCORE, None, None, "a"), n.Vector("key", "v"), None)


def test_program_keeps_its_name_text_and_contracts():
    @rg.program(contracts=["causal"])
    def named(pair):
        """Look back.

        And further.
        """
        return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j <= pair.i)

    assert (named.name, named.doc) == ("named", "Look back.\n\nAnd further.")
    assert named.contracts == ("causal",)


def test_parameters_with_defaults_are_the_authors_own():
    def local(pair, width=3):
        return rg.softmax(rg.dot(pair.q, pair.k), where=pair.i - pair.j < width)

    assert weights_of(local).where is n.Call(
        "lt", (n.Call("sub", (n.Index("i"), n.Index("j"))), n.Const(3))
    )


def test_terms_are_lettered_in_the_order_of_writing_around_given_names():
    def several(pair):
        first = rg.softmax(pair.j)
        second = rg.softmax(pair.j + 1, name="b")
        return first - second + rg.weigh(pair.j * 2) * rg.weigh(pair.j * 3, name="named")

    terms = [node.name for node in n.walk(weights_of(several)) if isinstance(node, n.Term)]
    assert terms == ["a", "b", "c", "named"]


def test_draws_are_numbered_in_the_order_of_writing():
    def dropped(pair):
        kept = rg.keep(0.1, "bh") & rg.keep(0.1, "bh")
        return rg.dropout(rg.softmax(pair.j, where=kept), 0.2)

    nodes = n.walk(weights_of(dropped))
    places = [node.place for node in nodes if isinstance(node, n.Keep | n.Dropout)]
    assert places == [0, 1, 2], "two draws with the same probability are two draws"


def test_axes_of_keep_are_a_set():
    for axes in ("hb", "bh", "bhb"):
        kept = rg.program(lambda pair, axes=axes: rg.softmax(pair.j, where=rg.keep(0.1, axes)))
        assert kept.root.weights.where.axes == "bh"


def test_program_of_a_program_counts_for_itself():
    @rg.program
    def outer(pair):
        first = rg.softmax(pair.j)

        @rg.program
        def inner(pair):
            return rg.softmax(pair.j + 1)

        assert inner.root.weights.name == "a"
        return first + rg.softmax(pair.j + 2)

    assert [t.name for t in n.walk(outer.root) if isinstance(t, n.Term)] == ["a", "b"]


def test_threads_count_for_themselves():
    found, barrier = [], threading.Barrier(4)

    def trace():
        def slow(pair):
            first = rg.softmax(pair.j)
            barrier.wait(10)
            return first + rg.softmax(pair.j + 1)

        found.append(rg.program(slow).root)

    threads = [threading.Thread(target=trace) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(root is found[0] for root in found)


def test_failed_tracing_leaves_nothing_behind():
    def bad(pair):
        rg.softmax(pair.j)
        return 3

    for _ in range(2):
        try:
            rg.program(bad)
        except rg.ProgramError:
            pass
    assert weights_of(lambda pair: rg.softmax(pair.j)).name == "a"


def test_same_words_are_the_same_node_and_survive_pickling():
    def written(pair):
        return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width), where=pair.j <= pair.i)

    one, other = rg.program(written), rg.program(lambda pair: written(pair))
    assert one.root is other.root
    assert one == other
    assert pickle.loads(pickle.dumps(one)).root is one.root
