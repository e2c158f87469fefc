"""Kernels do what the reference does, and refuse the rest with a reason.

On a GPU all of it runs there (`make test-gpu`); elsewhere in Triton's interpreter, a sample of it
unless all tests are asked for.
"""

import pytest
import torch

from regard.errors import UnsupportedError
from regard.testing.contract import DTYPES, SETTINGS, Case, check_case, run_case
from regard.testing.laws import LAWS, check_law
from regard.testing.programs import PROGRAMS

# The interpreter computes hidden pairs too, with numpy, which warns of their NaN.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

NO_ORDER = "a running sum over keys needs ordered keys"
REFUSED = dict.fromkeys(
    ("stick_breaking", "contextual_positions", "forget_gate", "nested_sums"), NO_ORDER
)
# What each meets first: a mask, a learned number, a sink, channels at pairs, other normalisers,
# two terms, tables, draws, thresholds, chosen keys.
QUICK = [
    Case("causal", "whole", torch.float32),
    Case("alibi", "rows alone, ragged", torch.float64),
    Case("learned_sink", "one key", torch.bfloat16),
    Case("manhattan", "one", torch.float32),
    Case("sigmoid_weights", "decoding", torch.float16),
    Case("softpick", "whole", torch.float64),
    Case("differential", "one", torch.float64),
    Case("indexed_by_pairs", "decoding", torch.float32),
    Case("dropped_out", "rows alone", torch.float32),
    Case("sparsemax_window", "one", torch.float64),
    Case("entmax_per_head", "one", torch.float64),
    Case("best_keys", "one", torch.float32),
]


def check(case):
    reason = check_case("triton", case)
    if case.program in REFUSED:
        assert reason is not None, f"{case} runs now; take it off REFUSED"
        assert REFUSED[case.program] in reason
    else:
        assert reason is None, f"{case}: {reason}"


@pytest.mark.parametrize("case", QUICK, ids=str)
def test_kernels_do_what_the_reference_does_in_a_sample(case, triton):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("program", PROGRAMS)
def test_kernels_do_what_the_reference_does(program, dtype, triton):
    for setting in SETTINGS:
        check(Case(program, setting, dtype))


@pytest.mark.parametrize("program", REFUSED)
def test_program_that_no_kernel_runs_is_refused_with_its_reason(program, triton):
    with pytest.raises(UnsupportedError, match=REFUSED[program]):
        run_case("triton", Case(program, "one", torch.float32), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("program", ["alibi", "learned_sink", "sigmoid_weights", "differential"])
def test_laws_hold(law, program, triton):
    check_law("triton", law, program)


def test_hidden_nan_stays_hidden(triton):
    assert check_law("triton", "hidden_keys_may_be_nan", "alibi") is None
