"""Programs as FlexAttention's functions: the same numbers there, here, and back here."""

import math
import re

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import regard as rg
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS
from tests.flex.oracle import assert_same, flex_eager, rows

# What FlexAttention cannot say, and in which words.
REASONS = {
    "shaw_relative": "sums something other than v",
    "transformer_xl": "'content' has rows of channels",
    "scalable": "counts the keys a query sees",
    "softmax_one": "has a sink",
    "cosine": "reads rows otherwise than as dot(q, k)",
    "rotary_halves": "reads channels otherwise than as dot(q, k)",
    "rotary_interleaved": "reads some channels alone",
    "gaussian": "its weights are weigh",
    "differential": "its weights are combined weights",
    "best_keys": "chooses keys by their rank",
    "contextual_positions": "adds up over keys in order",
    "drop_key": "draws random numbers",
    "gated": "finishes the summed row",
}
SAYABLE = (
    "scaled_dot_product", "causal", "strictly_causal", "alibi", "fixed_slope", "t5_buckets",
    "window", "dilated", "prefix", "documents", "chosen_tokens", "minus_infinity", "soft_cap",
    "every_operator", "sizes_and_heads", "indexed_by_pairs",
)  # fmt: skip


def call_of(name):
    sizes = Sizes(B=2, H=4, G=2, N=17, M=19, D=8, E=6)
    made = make_inputs(PROGRAMS[name].root, sizes)
    tensors = {key: tensor.detach() for key, tensor in made.items()}
    return [tensors.pop(key) for key in "qkv"], tensors


def test_every_program_of_the_contract_is_said_or_refused():
    said = set()
    for name, program in PROGRAMS.items():
        (q, k, _), inputs = call_of(name)
        try:
            rg.to_flex(program, q=q, k=k, **inputs)
            said.add(name)
        except rg.UnsupportedError as problem:
            assert str(problem).startswith(f"FlexAttention cannot run '{name}': ")
            assert REASONS.get(name, "") in str(problem)
    assert said == set(SAYABLE)


@pytest.mark.parametrize("name", SAYABLE)
def test_flex_attention_computes_what_the_program_says_and_so_does_the_way_back(name):
    (q, k, v), inputs = call_of(name)
    said = rg.to_flex(PROGRAMS[name], q=q, k=k, **inputs)
    wanted, seen = rg.attend(
        PROGRAMS[name], q, k, v, observe=["lse"], backend="reference", **inputs
    )
    found = flex_eager(q, k, v, said.score_mod, said.mask_mod, said.scale)
    # Quotients of whole numbers are float32 in torch.
    assert_same(found[:2], [wanted, seen["lse"]], 1e-6)
    back = rg.from_flex(said.score_mod, said.mask_mod, scale=said.scale, q=q, k=k)
    again = rg.attend(back.program, q, k, v, backend="reference", **back.inputs)
    assert_same([again], [wanted], 1e-7)


def test_functions_are_plain_python_that_can_be_read():
    @rg.program
    def capped(pair):
        score = 20 * rg.tanh(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width) / 20)
        return rg.softmax(score, where=(pair.j <= pair.i) & (pair.i - pair.j < 4))

    said = rg.to_flex(capped)
    assert said.scale is None
    assert said.source == (
        "def score_mod(score, b, h, q_idx, kv_idx):\n"
        "    x1 = score / 20\n"
        "    x2 = torch.tanh(x1)\n"
        "    x3 = 20 * x2\n"
        "    return x3\n"
        "\n\n"
        "def mask_mod(b, h, q_idx, kv_idx):\n"
        "    x1 = kv_idx <= q_idx\n"
        "    x2 = q_idx - kv_idx\n"
        "    x3 = x2 < 4\n"
        "    x4 = x1 & x3\n"
        "    return x4"
    )


# Torch's compiler warns of parts of torch.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_torch_compiles_the_functions():
    q, k, v = rows(N=128, D=16, dtype=torch.float32)
    slope = torch.rand(4)
    said = rg.to_flex(PROGRAMS["alibi"], slope=slope)
    block_mask = create_block_mask(said.mask_mod, None, None, 128, 128, device="cpu")
    compiled = torch.compile(torch.nn.attention.flex_attention.flex_attention)
    found = compiled(q, k, v, said.score_mod, block_mask, scale=said.scale)
    wanted = rg.attend(PROGRAMS["alibi"], q, k, v, slope=slope)
    assert_same([found], [wanted], 1e-5)


SCALES = {
    "the usual": (lambda pair: rg.dot(pair.q, pair.k) / rg.sqrt(pair.width), None),
    "a factor": (lambda pair: rg.dot(pair.q, pair.k) * 0.25, 0.25),
    "a factor before": (lambda pair: 3 * rg.dot(pair.k, pair.q), 3.0),
    "a divisor": (lambda pair: rg.dot(pair.q, pair.k) / 4, 0.25),
    "none": (lambda pair: rg.dot(pair.q, pair.k), 1.0),
    "twice": (
        lambda pair: rg.dot(pair.q, pair.k) / 4 + rg.tanh(rg.dot(pair.q, pair.k)), 1.0
    ),
    "no product": (lambda pair: pair.j / 7, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALES)
def test_the_scale_is_taken_from_the_program(name):
    write, scale = SCALES[name]
    program = rg.program(lambda pair: rg.softmax(write(pair)))
    said = rg.to_flex(program)
    assert said.scale == scale
    q, k, v = rows()
    found = flex_eager(q, k, v, said.score_mod, said.mask_mod, said.scale)[0]
    assert_same([found], [rg.attend(program, q, k, v)])


def test_scores_and_masks_that_are_the_same_for_all_pairs_are_tensors():
    program = rg.program(lambda pair: rg.softmax(rg.scalar("flat", 2.0) * 1, where=pair.head < 9))
    said = rg.to_flex(program)
    q, k, v = rows()
    found = flex_eager(q, k, v, said.score_mod, said.mask_mod)[0]
    assert_same([found], [v.mean(2, keepdim=True).expand_as(v)])


def test_a_mask_that_reads_scores_becomes_a_score_of_minus_infinity():
    @rg.program
    def only_positive(pair):
        score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
        return rg.softmax(score, where=(score > 0) | (pair.i == pair.j))

    said = rg.to_flex(only_positive)
    assert said.mask_mod is None
    q, k, v = rows()
    found = flex_eager(q, k, v, said.score_mod)[0]
    assert_same([found], [rg.attend(only_positive, q, k, v)])


def test_names_of_arguments_are_not_names_of_tensors():
    @rg.program
    def odd_names(pair):
        score = rg.dot(pair.q, pair.k) + rg.table("h", per="head") * rg.key_feature("x1")
        return rg.softmax(score + rg.scalar("score") + rg.query_feature("torch") * pair.j)

    q, k, v = rows()
    inputs = {"h": torch.randn(4), "x1": torch.randn(18), "score": 0.5, "torch": torch.randn(18)}
    said = rg.to_flex(odd_names, **inputs)
    found = flex_eager(q, k, v, said.score_mod, said.mask_mod, said.scale)[0]
    assert_same([found], [rg.attend(odd_names, q, k, v, **inputs)])


def test_captured_tensors_train_in_flex_attention_too():
    q, k, v = rows()
    slope = torch.rand(4, dtype=torch.float64, requires_grad=True)
    said = rg.to_flex(PROGRAMS["alibi"], slope=slope)
    found = flex_eager(q, k, v, said.score_mod, said.mask_mod, said.scale)[0]
    wanted = rg.attend(PROGRAMS["alibi"], q, k, v, slope=slope)
    got = [torch.autograd.grad((out * q).sum(), slope)[0] for out in (found, wanted)]
    assert_same(got[:1], got[1:])


SLOPE = PROGRAMS["alibi"]
SIZED = PROGRAMS["sizes_and_heads"]
MISTAKES = {
    "no program": (lambda: rg.to_flex(math.exp), "to_flex takes a program"),
    "unknown": (lambda: rg.to_flex(SLOPE, slop=1), "reads no 'slop'; did you mean 'slope'?"),
    "heads": (lambda: rg.to_flex(SLOPE), "'slope' has one row per head; pass slope=… or q=…"),
    "missing": (
        lambda: rg.to_flex(PROGRAMS["documents"]), "reads 'document', which was not given"
    ),
    "sizes": (lambda: rg.to_flex(SIZED), "the program reads 'heads'; pass q=… and k=…"),
    "groups": (
        lambda: rg.to_flex(
            PROGRAMS["documents"], document=torch.zeros(9), source=torch.zeros(1, 2, 9)
        ),
        "'source' differs between heads; pass q=… and k=…",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_missing_is_asked_for(name):
    call, message = MISTAKES[name]
    with pytest.raises(rg.InputError, match=re.escape(message)):
        call()


def test_parameters_start_as_their_initialisers_say():
    q, k, v = rows()
    said = rg.to_flex(SLOPE, q=q)
    found = flex_eager(q, k, v, said.score_mod, said.mask_mod, said.scale)[0]
    assert_same([found], [rg.attend(SLOPE, q, k, v)])
