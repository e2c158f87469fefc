"""What is emitted for a small program, as text: people read it when a kernel is wrong."""

import re
from itertools import pairwise

import pytest
import torch

from regard.backends.cpu.kernel import compile_kernel
from regard.ir.types import type_of
from regard.ops.bind import Options
from regard.ops.prepare import prepare
from tests.backends.cpu.programs import near, rows
from tests.ir.golden import assert_golden


@pytest.fixture(scope="module")
def sources():
    """The C++ of the sweeps forward and backward."""
    given = {name: x.requires_grad_() for name, x in rows().items()}
    named = {"slope": torch.ones(2, dtype=torch.float64, requires_grad=True)}
    kind, _ = prepare(near, given["q"], given["k"], given["v"], named, Options())
    kernel = compile_kernel(kind.request)
    made = {"near-forward.cpp": kernel.forward[0], "near-backward.cpp": kernel.gradient().backward}
    return {name: module.source(kinds(module)) for name, module in made.items()}


def kinds(module):
    nodes = (type_of(item.node).kind for item in module.inputs)
    return tuple("int" if kind == "int" else "real" for kind in nodes)


def test_kernel_is_the_one_that_is_kept(sources):
    for name, text in sources.items():
        assert_golden(name, text)


def test_kernel_begins_with_its_name_the_formula_and_its_inputs(sources):
    _, *formula = near.formula().splitlines()
    for name, text in sources.items():
        first, *lines = text.splitlines()
        assert name.removeprefix("near-").removesuffix(".cpp") in first
        assert [line.split() for line in lines[: len(formula)]] == [
            ["//", *line.split()] for line in formula
        ]
        assert any(line.startswith("//   ") and "q_i, query row" in line for line in lines)


def test_lines_are_short_and_every_function_says_what_it_is_for(sources):
    for text in sources.values():
        lines = text.splitlines()
        assert max(map(len, lines)) <= 140
        for above, line in pairwise(lines):
            if re.match(r"  static (REGARD_INLINE )?(void|real|constexpr bool) \w+\(", line):
                assert above.strip().startswith(("// ", "template")), line
