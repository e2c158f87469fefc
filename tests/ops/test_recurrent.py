"""Decoding from a state gives, row by row, what attending to all tokens gives."""

import pytest
import torch

import regard as rg
from regard.errors import InputError, UnsupportedError
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

SIZES = Sizes(B=2, H=4, G=2, N=90, M=90, D=6, E=5)
NAMES = ["elu_features", "retention", "gated_linear"]
ROWS = {"q", "k", "v", "faded", "fading", "real"}


def tokens(inputs, start, stop):
    """The inputs of some tokens; a feature of one row is the same for all."""

    def part(name, value):
        axis = 2
        if name not in ROWS or value.shape[axis] == 1:
            return value
        return value[:, :, start:stop]

    return {name: part(name, value) for name, value in inputs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_prompt_and_steps_equal_the_whole(name):
    program = PROGRAMS[name]
    inputs = make_inputs(program.root, SIZES, torch.float64, 3)
    whole = rg.attend(program, **inputs, backend="reference")
    outputs, state = [], None
    for start, stop in [(0, 70), (70, 71), (71, 72), (72, 90)]:
        output, state = rg.attend_recurrent(program, **tokens(inputs, start, stop), state=state)
        outputs.append(output)
    assert state.length == 90
    torch.testing.assert_close(torch.cat(outputs, 2), whole, rtol=1e-9, atol=1e-10)


def test_gradient_flows_through_the_state():
    program = PROGRAMS["retention"]
    inputs = make_inputs(program.root, SIZES, torch.float64, 3)
    first = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    second = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    rg.attend(program, **first, backend="reference").square().sum().backward()
    one, state = rg.attend_recurrent(program, **tokens(second, 0, 40))
    two, _ = rg.attend_recurrent(program, **tokens(second, 40, 90), state=state)
    (one.square().sum() + two.square().sum()).backward()
    for name in "qkv":
        torch.testing.assert_close(second[name].grad, first[name].grad, rtol=1e-8, atol=1e-9)
    assert not any(one.sums.requires_grad for one in state.detach().memory.states)


def test_state_has_one_size_and_follows_its_batch_rows():
    program = PROGRAMS["elu_features"]
    inputs = make_inputs(program.root, SIZES, torch.float32, 3)
    _, short = rg.attend_recurrent(program, **tokens(inputs, 0, 1))
    _, long = rg.attend_recurrent(program, **tokens(inputs, 0, 80))
    sizes = [[one.sums.shape for one in state.memory.states] for state in (short, long)]
    assert sizes[0] == sizes[1] == [(2, 4, 6, 5)]
    rows = torch.tensor([1, 0])
    swapped = {name: value[rows] for name, value in tokens(inputs, 80, 81).items()}
    moved, _ = rg.attend_recurrent(program, **swapped, state=long.reorder(rows))
    plain, _ = rg.attend_recurrent(program, **tokens(inputs, 80, 81), state=long)
    torch.testing.assert_close(moved[rows], plain)


def test_misuses_are_told():
    q = torch.randn(1, 2, 3, 4)
    causal, retention = PROGRAMS["elu_features"], PROGRAMS["retention"]
    _, state = rg.attend_recurrent(causal, q, q, q)
    with pytest.raises(InputError, match="another program's, not that of 'retention'"):
        rg.attend_recurrent(retention, q, q, q, state)
    with pytest.raises(InputError, match=r"the state holds \(1, 2, 4, 4\) torch.float32"):
        rg.attend_recurrent(causal, q.double(), q.double(), q.double(), state)
    with pytest.raises(InputError, match="found 3 queries and 2 keys"):
        rg.attend_recurrent(causal, q, q[:, :, 1:], q[:, :, 1:])
    with pytest.raises(UnsupportedError, match="'k' holds NaN or infinity"):
        rg.attend_recurrent(causal, q, q / 0, q)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (lambda p: rg.softmax(rg.dot(p.q, p.k)), "its weights are not one weigh or ratio"),
        (lambda p: rg.linear(p.q, p.k), "it is not causal, so a token changes rows before it"),
        (
            lambda p: rg.weigh(rg.dot(p.q, p.k) / p.keys, where=p.j <= p.i),
            "it reads how many tokens there are in all",
        ),
    ],
)
def test_program_without_a_state_is_refused(weights, reason):
    q = torch.randn(1, 2, 3, 4)
    with pytest.raises(UnsupportedError, match=reason):
        rg.attend_recurrent(rg.program(lambda pair: weights(pair)), q, q, q)
