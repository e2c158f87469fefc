"""The blocks that kernels visit, full ones first."""

import torch

import regard as rg
from regard.backends.triton.tiles import Tiles
from regard.backends.triton.visits import find_visits
from regard.ops.bind import Options
from regard.ops.prepare import prepare

TILES = Tiles(32, 16, 4, 1)


@rg.program
def causal(pair):
    return rg.softmax(rg.dot(pair.q, pair.k), where=pair.j <= pair.i)


def visits(queries, keys, major, **options):
    q, k = torch.zeros(1, 2, queries, 8), torch.zeros(1, 2, keys, 8)
    _, bound = prepare(causal, q, k, k, {}, Options(**options))
    return find_visits((causal.root.weights.where,), bound, TILES, major)[0, 0].tolist()


def test_query_blocks_see_full_blocks_before_those_at_the_diagonal():
    assert visits(64, 64, "i") == [[0, 2, 0, 1, 2, 3], [2, 4, 0, 1, 2, 3]]


def test_key_blocks_see_the_query_blocks_below_them():
    found = visits(64, 64, "j")
    assert [row[:2] for row in found] == [[1, 2], [1, 2], [0, 1], [0, 1]]
    assert [row[2] for row in found] == [1, 1, 1, 1]


def test_blocks_beyond_the_last_key_are_masked():
    assert visits(64, 40, "i")[1] == [2, 3, 0, 1, 2]


def test_same_call_is_given_the_same_visits():
    _, bound = prepare(causal, *(torch.zeros(1, 2, 64, 8) for _ in "qkv"), {}, Options())
    where = (causal.root.weights.where,)
    assert find_visits(where, bound, TILES, "i") is find_visits(where, bound, TILES, "i")
