"""What is emitted for a small program, as text: people read it when a kernel is wrong."""

import ast
import subprocess
import sys

import pytest
import torch

import regard as rg
from regard.backends.triton import TritonBackend
from regard.ops.bind import Options
from regard.ops.explain import emitted_code
from regard.ops.prepare import prepare
from regard.testing.programs import PROGRAMS
from tests.backends.cpu.programs import near, rows
from tests.ir.golden import assert_golden


@pytest.fixture(scope="module")
def sources():
    """The Triton of the sweeps forward and backward."""
    given = {name: x.float() for name, x in rows().items()}
    found = {}
    for name, wanted in (("near-forward.triton", False), ("near-backward.triton", True)):
        tensors = {key: x.requires_grad_(wanted) for key, x in given.items()}
        named = {"slope": torch.ones(2).requires_grad_(wanted)}
        kind, _ = prepare(near, tensors["q"], tensors["k"], tensors["v"], named, Options())
        found[name] = TritonBackend().code(kind.request)
    return found


def test_kernel_is_the_one_that_is_kept(sources):
    for name, text in sources.items():
        assert_golden(name, text)


def test_kernel_begins_with_its_name_the_formula_and_its_inputs(sources):
    _, *formula = near.formula().splitlines()
    for name, text in sources.items():
        first, *lines = text.splitlines()
        assert name.removeprefix("near-").removesuffix(".triton") in first
        assert [line.split() for line in lines[: len(formula)]] == [
            ["#", *line.split()] for line in formula
        ]
        assert any(line.startswith("#   ") and "q_i, query row" in line for line in lines)


def test_lines_are_short(sources):
    assert max(len(line) for text in sources.values() for line in text.splitlines()) <= 140


SHAPE = (1, 2, 64, 16)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_code_of_every_program_is_python_or_there_is_a_reason(name, training):
    try:
        text = emitted_code(PROGRAMS[name], SHAPE, backend="triton", training=training)
    except rg.UnsupportedError as reason:
        assert "kernel" in str(reason) or "its kernels" in str(reason)
        return
    tree = ast.parse(text)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions and all(ast.get_docstring(one) for one in functions)


def test_code_is_read_where_triton_cannot_be_imported():
    script = (
        "import sys\n"
        "sys.modules['triton'] = None\n"
        "import regard as rg\n"
        "from regard.backends.base import registered\n"
        "from regard.ops.explain import emitted_code\n"
        "text = emitted_code(rg.catalogue.causal(), (1, 2, 64, 16), backend='triton')\n"
        "assert '@triton.jit' in text and 'triton' not in registered()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
