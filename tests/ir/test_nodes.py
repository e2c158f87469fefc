"""The grammar: interning, copying, pickling, and walks that visit shared parts once."""

import copy
import gc
import pickle
import threading
import weakref

import pytest

from regard.ir import nodes as n
from tests.ir import graphs
from tests.ir.graphs import call
from tests.ir.work import lines_run


def test_nodes_that_say_the_same_are_the_same():
    assert n.Index("i") is n.Index(name="i")
    assert call("add", n.Index("i"), 1) is call("add", n.Index("i"), 1)
    assert call("add", n.Index("i"), 1) is not call("add", n.Index("j"), 1)


@pytest.mark.parametrize(
    "values", [(1, 1.0, True), (0, 0.0, -0.0, False), (float("inf"), float("-inf"), 2.0**63)]
)
def test_numbers_that_python_counts_as_equal_stay_apart(values):
    made = [n.Const(value) for value in values]
    assert len({id(node) for node in made}) == len(values)
    assert [repr(node.value) for node in made] == [repr(value) for value in values]


def test_numbers_inside_fields_stay_apart_too():
    whole, floating = n.Array("parameter", "a", (1,)), n.Array("parameter", "a", (True,))
    assert whole is not floating
    assert n.Scalar("s", 1.0) is not n.Scalar("s", 1)  # type: ignore[arg-type]


def test_types_with_the_same_fields_stay_apart():
    assert n.Vector("query", "x") is not n.Feature("query", "x")


def test_nodes_cannot_be_changed():
    with pytest.raises(AttributeError):
        n.Index("i").name = "j"  # type: ignore[misc]


def test_copies_of_a_node_are_the_node():
    root = graphs.local_alibi()
    assert copy.copy(root) is root
    assert copy.deepcopy(root) is root
    assert copy.deepcopy({"root": [root]})["root"][0] is root


@pytest.mark.parametrize("name", graphs.SAMPLES)
def test_a_pickled_graph_comes_back_as_itself(name):
    root = graphs.SAMPLES[name]
    assert pickle.loads(pickle.dumps(root)) is root


def test_a_pickle_of_several_nodes_keeps_their_sharing():
    root = graphs.local_alibi()
    parts = n.walk(root)
    assert all(a is b for a, b in zip(pickle.loads(pickle.dumps(parts)), parts, strict=True))


def test_very_deep_graphs_can_be_pickled_shown_and_dropped():
    root = graphs.deep(20_000)
    assert pickle.loads(pickle.dumps(root)) is root
    assert repr(root) == "Output(weights=<Softmax>, values=<Vector>, finish=None)"
    gone = weakref.ref(root.weights)
    del root
    gc.collect()
    assert gone() is None


def test_dropped_nodes_are_forgotten():
    before = len(n._interned)
    made = [call("add", n.Index("i"), number + 0.1357) for number in range(1000)]
    assert len(n._interned) >= before + 2000
    del made
    gc.collect()
    assert len(n._interned) <= before + 10


def test_the_words_of_a_node_show_its_fields_one_level_deep():
    node = call("add", n.Index("i"), 1)
    assert repr(node) == "Call(op='add', args=(<Index>, <Const>))"
    assert repr(n.Array("table", "t", ("rows",))) == (
        "Array(source='table', name='t', per=('rows',), init=None)"
    )


def test_threads_that_build_the_same_node_get_the_same_node():
    made: list[list[n.Node]] = [[] for _ in range(8)]
    barrier = threading.Barrier(8)

    def build(mine: list[n.Node]) -> None:
        barrier.wait()
        mine.extend(call("mul", n.Index("i"), number + 0.0625) for number in range(300))

    threads = [threading.Thread(target=build, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(node is other for row in made for node, other in zip(row, made[0], strict=True))


def test_a_walk_gives_every_node_once_after_what_it_is_made_of():
    order = n.walk(graphs.everything_else())
    place = {node: number for number, node in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[child] < place[node] for node in order for child in n.children(node))
    assert order[-1] is graphs.everything_else()


def test_a_walk_of_several_roots_skips_none():
    i, j = n.Index("i"), n.Index("j")
    assert n.walk(i, None, j, i) == [i, j]


def test_rebuild_replaces_children_wherever_they_stand():
    i, j, k = n.Index("i"), n.Index("j"), n.Index("keys")
    node = n.Gather(n.Array("table", "t", ("rows", "rows")), (i, j))
    assert n.rebuild(node, {i: k}) is n.Gather(node.array, (k, j))
    assert n.rebuild(node, {}) is node


def test_rewrite_changes_bottom_up_and_keeps_what_it_need_not_change():
    def double(node: n.Node) -> n.Node | None:
        return call("mul", node, 2) if node is n.Index("i") else None

    root = call("add", n.Index("i"), n.Index("j"))
    assert n.rewrite(root, double) is call("add", call("mul", n.Index("i"), 2), n.Index("j"))
    assert n.rewrite(root, lambda node: None) is root


def test_rewrite_calls_once_per_node_even_where_a_tree_would_be_endless():
    root = graphs.doubling(200)
    seen: list[n.Node] = []
    assert n.rewrite(root, seen.append) is root
    assert len(seen) == len(n.walk(root)) < 2000


def test_walks_take_work_linear_in_the_nodes():
    small, large = graphs.deep(200), graphs.deep(2_000)

    def work(root: n.Node) -> int:
        return lines_run(lambda: (n.walk(root), n.rewrite(root, lambda node: None)))

    # Ten times the nodes; quadratic work would run a hundred times as many lines.
    assert work(large) < 15 * work(small)


def test_every_node_of_the_grammar_can_be_named_in_a_file():
    assert n.NODE_TYPES["Softmax"] is n.Softmax
    assert all(kind.__name__ == name for name, kind in n.NODE_TYPES.items())
