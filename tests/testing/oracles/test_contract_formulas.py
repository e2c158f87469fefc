"""Every contract program means what a dense formula says, values and gradients."""

import inspect

import pytest
import torch

from regard.testing.accuracy import largest, worst_error
from regard.testing.contract import run_both
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS
from tests.testing.oracles import contract_scores, contract_weights
from tests.testing.oracles.test_formulas import CASES, from_formula

# More keys than queries; two heads that share nothing need no grouping.
SIZES = Sizes(B=2, H=2, G=2, N=29, M=31, D=8, E=6)
# Both are float64 and differ by the order of operations; halving loses some digits more.
TOLERANCE = 1e-10
FORMULAS = {
    name: formula
    for module in (contract_scores, contract_weights)
    for name, formula in inspect.getmembers(module, inspect.isfunction)
    if name in PROGRAMS and formula.__module__ == module.__name__
}


@pytest.mark.parametrize("name", FORMULAS)
def test_contract_program_says_what_its_formula_says(name):
    program = PROGRAMS[name]
    inputs = make_inputs(program.root, SIZES, torch.float64, seed=3)
    # Without a seed nothing is dropped, as in evaluation.
    found = run_both(program, inputs, seed=None, backend="reference")
    expected = from_formula(FORMULAS[name], inputs, {})
    assert found.keys() == expected.keys()
    scale = max(1.0, *map(largest, expected.values()))
    for key, value in expected.items():
        error = worst_error(found[key], value)
        assert error <= TOLERANCE * scale, f"{key}: differs by {error:.1e}"


def test_every_contract_program_has_a_formula():
    in_papers = {name.removeprefix("contract ") for name in CASES}
    assert set(PROGRAMS) - FORMULAS.keys() - in_papers == set()
