"""What leaves read: groups, offsets, clipping, dtypes and shapes that broadcast."""

import pytest
import torch

from regard.errors import InputError, ProgramError
from regard.ir import nodes as n
from regard.reference import evaluate
from tests.reference.builders import (
    HEAD,
    SCORE,
    I,
    J,
    K,
    Q,
    V,
    bind,
    c,
    call,
    close,
    dot,
    inputs,
    out,
    output,
    parameter,
    run,
    softmax,
    table,
    times,
    total,
    weigh,
    weights_of,
)


def test_query_heads_share_the_key_head_of_their_group():
    tensors = inputs(heads=6, groups=2) | {"gate": torch.randn(2, 2, 5).double()}
    program = times(softmax(), n.Feature("key", "gate"))
    repeated = {
        name: tensor if name == "q" else tensor.repeat_interleave(3, 1)
        for name, tensor in tensors.items()
    }
    close(out(program, tensors), out(program, repeated))


def test_a_feature_may_be_shared_by_batch_rows_and_heads():
    tensors = inputs() | {"f": torch.randn(1, 1, 4).double(), "g": torch.randn(2, 1, 5).double()}
    f, g = n.Feature("query", "f"), n.Feature("key", "g")
    found = weights_of(weigh(times(f, g)), tensors)
    expected = tensors["f"][..., None] * tensors["g"][..., None, :]
    close(found, expected.expand_as(found))


def test_an_array_per_head_is_indexed_by_the_head_of_the_whole_layer():
    tensors = inputs(heads=2) | {"slope": torch.arange(8.0), "rows": torch.randn(8, 3, 5)}
    found = weights_of(weigh(parameter("slope", "head")), tensors, first_head=4, total_heads=8)
    close(found[0, :, 0, 0], [4.0, 5.0])
    gathered = weigh(n.Gather(table("rows", "head", 3, 5), (I, J)))
    found = weights_of(gathered, tensors, first_head=4, total_heads=8)
    close(found[0, :, :3], tensors["rows"][4:6])


def test_a_matrix_per_head_is_that_of_the_whole_layer():
    tensors = inputs(heads=2) | {"W": torch.randn(4, 3, 2).double()}
    program = output(softmax(), n.Project(K, table("W", "head", "channel", "channel"), 2))
    expected = (tensors["q"] @ tensors["k"].mT).softmax(-1) @ tensors["k"] @ tensors["W"][2:]
    close(out(program, tensors, first_head=2, total_heads=4), expected)


def test_an_index_out_of_range_is_clipped():
    tensors = inputs(queries=5, keys=5) | {"t": torch.tensor([10.0, 20.0, 30.0])}
    found = weights_of(weigh(n.Gather(table("t", "rows"), (call("sub", J, I),))), tensors)
    close(found[0, 0, 0], [10.0, 20.0, 30.0, 30.0, 30.0])
    close(found[0, 0, 4], 10.0)


def test_integer_data_of_any_width_indexes():
    for dtype in (torch.uint8, torch.int16, torch.int64):
        tensors = inputs(keys=4) | {
            "t": torch.tensor([1.0, 2.0]),
            "e": torch.tensor([[[0, 1, 1, 0]]], dtype=dtype),
        }
        found = weights_of(weigh(n.Gather(table("t", "rows"), (n.Feature("key", "e"),))), tensors)
        close(found, [1.0, 2.0, 2.0, 1.0])


def test_a_pair_input_indexes_a_table_of_rows():
    relation = torch.randint(0, 3, (1, 1, 4, 5))
    tensors = inputs() | {"e": relation, "r": torch.randn(2, 3, 3).double()}
    rows = n.Gather(table("r", "head", "rows", "channel"), (n.PairInput("e"),))
    score = torch.einsum("bhid,hijd->bhij", tensors["q"], tensors["r"][:, relation[0, 0]])
    close(weights_of(weigh(dot(Q, rows)), tensors), score)


def test_truth_values_of_data_mask_and_count():
    mask = torch.rand(2, 1, 4, 5) > 0.5
    tensors = inputs() | {"m": mask}
    seen = n.PairInput("m")
    found = weights_of(weigh(call("add", seen, seen), where=seen), tensors)
    close(found, 2.0 * mask.expand(2, 2, 4, 5))


def test_half_precision_is_promoted_before_computing():
    for dtype in (torch.float16, torch.bfloat16):
        tensors = inputs(dtype=dtype)
        result = run(softmax(), tensors, ["lse"])
        wide = {name: tensor.float() for name, tensor in tensors.items()}
        assert result["output"].dtype == result["lse"].dtype == torch.float32
        assert torch.equal(result["output"], out(softmax(), wide))


def test_a_float64_feature_keeps_its_digits():
    tensors = inputs(queries=2, keys=2, dtype=torch.float32)
    tensors["t"] = torch.tensor([[[1e9, 1e9 + 0.5]]], dtype=torch.float64)
    lag = call("sub", n.Feature("query", "t"), n.Feature("key", "s"))
    found = run(weigh(lag), tensors | {"s": tensors["t"]}, ["weights"])
    assert found["output"].dtype == torch.float32
    close(found["weights"], [[0.0, -0.5], [0.5, 0.0]])


def test_float32_data_is_computed_in_the_dtype_of_float64_queries():
    tensors = inputs() | {"t": torch.tensor([0.1], dtype=torch.float32)}
    found = weights_of(weigh(call("exp", n.Gather(table("t", "rows"), (c(0),)))), tensors)
    close(found, tensors["t"].double().exp().item())


def test_offsets_per_batch_row_move_positions():
    tensors = inputs(queries=2, keys=4)
    positions = torch.tensor([[2, 3], [0, 1]])
    found = weights_of(weigh(1.0, where=call("le", J, I)), tensors, query_positions=positions)
    close(found[:, 0].sum(-1), [[3.0, 4.0], [1.0, 2.0]])


def test_lengths_are_of_rows_not_of_positions():
    tensors = inputs(keys=4)
    found = weights_of(
        weigh(1.0), tensors, key_lengths=[4, 1], key_positions=torch.tensor([[3, 2, 1, 0]])
    )
    close(found[:, 0, 0], [[1.0, 1, 1, 1], [1, 0, 0, 0]])


def test_channels_are_numbered_where_they_are_summed():
    tensors = inputs(width=3)
    found = weights_of(weigh(total(times(n.Channel(), Q))), tensors)
    expected = (tensors["q"] * torch.arange(3)).sum(-1, keepdim=True)
    close(found, expected.expand_as(found))


def test_channels_are_numbered_anew_in_values_and_finish():
    tensors = inputs(values=2)
    program = output(softmax(), call("add", V, n.Channel()), call("add", n.SUMMED, n.Channel()))
    plain = out(softmax(), tensors)
    close(out(program, tensors), plain + 2 * torch.arange(2))


def test_channels_of_a_slice_are_those_of_the_row_it_cuts():
    tensors = inputs(width=4)
    cut = n.Slice(times(Q, n.Channel()), 2, None)
    found = weights_of(weigh(total(cut)), tensors)
    expected = (2 * tensors["q"][..., 2] + 3 * tensors["q"][..., 3])[..., None]
    close(found, expected.expand_as(found))


def test_channels_without_a_row_beside_them_are_an_error():
    counted = weigh(total(call("mul", n.Channel(), 2.0)))
    with pytest.raises(ProgramError, match="nothing says how many channels"):
        out(counted, inputs())


def test_rows_of_unequal_width_cannot_meet():
    with pytest.raises(InputError, match="'mul' joins rows of 2 and 3 channels"):
        out(weigh(dot(Q, V)), inputs())


def test_a_channel_in_a_score_has_no_meaning():
    with pytest.raises(ProgramError, match=r"rg\.channel has a meaning inside"):
        evaluate(output(weigh(n.Channel())), bind(inputs()))


def test_visible_has_no_meaning_outside_a_score():
    with pytest.raises(ProgramError, match="visible belongs inside the score"):
        evaluate(output(times(softmax(), n.Visible())), bind(inputs()))


def test_a_hole_nobody_fills_is_an_error():
    with pytest.raises(ProgramError, match="'mapped' is no value"):
        evaluate(output(times(softmax(), n.MAPPED)), bind(inputs()))


def test_extra_rows_have_a_width_of_their_own():
    tensors = inputs() | {
        "u": torch.randn(2, 2, 4, 7).double(),
        "w": torch.randn(2, 2, 5, 7).double(),
    }
    score = call("add", SCORE, dot(n.Vector("query", "u"), n.Vector("key", "w")))
    expected = tensors["q"] @ tensors["k"].mT + tensors["u"] @ tensors["w"].mT
    close(weights_of(softmax(score), tensors), expected.softmax(-1))


def test_a_program_may_be_deeper_than_the_stack():
    score = SCORE
    for _ in range(3000):
        score = call("add", score, HEAD)
    tensors = inputs(queries=1, keys=2)
    close(out(softmax(score), tensors), out(softmax(), tensors))


def test_ambient_autocast_does_not_narrow_a_projection():
    tensors = inputs(dtype=torch.float32) | {"W": torch.randn(3, 3)}
    program = softmax(dot(n.Project(Q, parameter("W", "channel", "channel"), 3), K))
    expected = out(program, tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(out(program, tensors), expected)


def test_lengths_are_read_per_batch_row():
    tensors = inputs(keys=5)
    for name in ("queries", "keys"):
        program = weigh(n.Index(name))
        found = weights_of(program, tensors, query_lengths=[2, 3], key_lengths=[2, 3])
        close(found[:, 0, 0, 0], [2.0, 3.0])
