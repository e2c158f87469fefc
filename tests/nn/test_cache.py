"""The key-value cache: decoding step by step gives what the whole sequence gives."""

import pytest
import torch

import regard as rg
from regard.errors import InputError
from tests.nn import programs as p

PROGRAMS = [p.causal, p.alibi, p.relative, p.additive]
# Beyond 16 tokens the cache grows.
LENGTH = 21


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def make(program, **options):
    return rg.nn.Attention(program, 32, 4, **options).double().eval()


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def decode(layer, x, chunks, **options):
    cache = rg.nn.KeyValueCache()
    parts = [layer(chunk, cache=cache, **options) for chunk in x.split(chunks, dim=1)]
    assert cache.length == x.shape[1]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("chunks", [[15, 1, 1, 1, 1, 2], [3, 1, 14, 3]])
def test_decoding_in_chunks_gives_the_whole(program, chunks):
    layer, x = make(program, key_heads=2), rows(2, LENGTH, 32)
    torch.testing.assert_close(decode(layer, x, chunks), layer(x), rtol=0, atol=1e-12)


def test_decoding_with_several_programs_gives_the_whole():
    layer = make([((0, 2), p.alibi), ((2, 3), p.additive), ((3, 4), p.relative)])
    x = rows(2, LENGTH, 32)
    torch.testing.assert_close(decode(layer, x, 1), layer(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(decode(layer, x, LENGTH), layer(x), rtol=0, atol=1e-12)


def test_a_program_counts_the_keys_so_far():
    layer, x = make(p.counting), rows(2, 5, 32)
    cache = rg.nn.KeyValueCache()
    for end in range(1, 6):
        found = layer(x[:, end - 1 : end], cache=cache)
        torch.testing.assert_close(found, layer(x[:, :end])[:, -1:], rtol=0, atol=1e-12)


def test_a_mask_hides_held_tokens():
    layer, x = make(p.causal), rows(2, 6, 32)
    visible = torch.rand(2, 1, 1, 6) < 0.6
    whole = layer(x, mask=visible.expand(2, 1, 6, 6))
    cache = rg.nn.KeyValueCache()
    for end in range(1, 7):
        found = layer(x[:, end - 1 : end], cache=cache, mask=visible[..., :end])
        torch.testing.assert_close(found, whole[:, end - 1 : end], rtol=0, atol=1e-12)


def test_padding_on_the_left_is_positions_of_ones_own():
    layer, x = make(p.relative), rows(1, 6, 32)
    alone = layer(x[:, 2:])
    cache = rg.nn.KeyValueCache()
    positions = torch.tensor([[0, 0, 0, 1, 2, 3]])
    for end in range(1, 7):
        found = layer(
            x[:, end - 1 : end], cache=cache, mask=(torch.arange(end) >= 2).view(1, 1, 1, end),
            query_positions=positions[:, end - 1 : end], key_positions=positions[:, :end],
        )  # fmt: skip
        if end > 2:
            torch.testing.assert_close(found, alone[:, end - 3 : end - 2], rtol=0, atol=1e-12)


def test_reordering_follows_beams():
    layer, x = make(p.relative), rows(3, 6, 32)
    beams = torch.tensor([2, 0, 0])
    cache = rg.nn.KeyValueCache()
    layer(x[:, :4], cache=cache)
    cache.reorder(beams)
    found = layer(x[:, 4:], cache=cache)
    expected = layer(torch.cat([x[beams, :4], x[:, 4:]], dim=1))[:, 4:]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_reordering_may_change_the_number_of_rows_and_does_nothing_to_an_empty_cache():
    layer, x = make(p.relative), rows(1, 6, 32)
    cache = rg.nn.KeyValueCache()
    cache.reorder(torch.tensor([0, 0]))
    layer(x[:, :4], cache=cache)
    cache.reorder(torch.tensor([0, 0]))
    found = layer(x[:, 4:].expand(2, 2, 32), cache=cache)
    torch.testing.assert_close(found, layer(x)[:, 4:].expand(2, 2, 32), rtol=0, atol=1e-12)


def test_keys_of_a_context_are_computed_once():
    layer, context = make(p.distant), rows(2, 5, 32)
    calls = []
    layer.k.register_forward_hook(lambda *_: calls.append(1))
    x, cache, lengths = rows(2, 3, 32), rg.nn.KeyValueCache(), [5, 3]
    whole = layer(x, context, context_lengths=lengths)
    steps = [
        layer(
            x[:, i : i + 1], context, context_lengths=lengths, cache=cache, query_offset=i
        )
        for i in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-12)
    assert len(calls) == 2 and cache.length == 5


def test_the_cache_holds_exactly_what_was_appended():
    cache, keys, values = rg.nn.KeyValueCache(), rows(2, 3, 40, 8), rows(2, 3, 40, 5)
    for start, end in ((0, 1), (1, 18), (18, 40)):
        found = cache.append(keys[:, :, start:end], values[:, :, start:end])
        assert torch.equal(found[0], keys[:, :, :end])
        assert torch.equal(found[1], values[:, :, :end])
    assert torch.equal(cache.held()[0], keys) and torch.equal(cache.held()[1], values)


def test_an_empty_cache_holds_nothing():
    with pytest.raises(InputError, match="the cache is empty"):
        rg.nn.KeyValueCache().held()


@pytest.mark.parametrize(
    "other", [rows(3, 3, 1, 8), rows(2, 2, 1, 8), rows(2, 3, 1, 7), rows(2, 3, 1, 8).float()]
)
def test_tokens_that_do_not_fit_the_cache_are_refused(other):
    cache = rg.nn.KeyValueCache()
    cache.append(rows(2, 3, 4, 8), rows(2, 3, 4, 8))
    with pytest.raises(InputError) as error:
        cache.append(other, other)
    assert str(error.value) == (
        f"the cache holds (2, 3, 16, 8) torch.float64; new tokens are {tuple(other.shape)} "
        f"{other.dtype}"
    )


def test_a_cache_takes_no_gradients():
    layer, x = make(p.causal), rows(2, 3, 32)
    message = r"a cache holds no gradients; decode under torch.no_grad\(\)"
    with torch.enable_grad(), pytest.raises(InputError, match=message):
        layer(x, cache=rg.nn.KeyValueCache())


def test_lengths_beside_a_cache_are_refused():
    message = "with a cache every row of x is new; give lengths as key positions or a mask"
    with pytest.raises(InputError, match=message):
        make(p.causal)(rows(2, 3, 32), lengths=[3, 2], cache=rg.nn.KeyValueCache())
