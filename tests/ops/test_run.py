"""attend where training puts it: checkpoints, workers of a loader, distributed modules."""

import weakref

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import regard as rg
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

BACKENDS = ["tiled", "reference", "auto", "cpu"]


class Layer(torch.nn.Module):
    """Attention with a learned slope."""

    def __init__(self, backend="tiled"):
        super().__init__()
        self.backend, self.slope = backend, torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return rg.attend(PROGRAMS["alibi"], x, x, x, slope=self.slope, backend=self.backend)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpoint_gives_the_same_gradients(backend, reentrant):
    inputs = make_inputs(PROGRAMS["dropped_out"].root, Sizes(), torch.float64)
    learned = [x.requires_grad_() for x in inputs.values() if x.is_floating_point()]

    def run():
        # The function stands in for a layer: reentrant checkpoints see what is given to it alone.
        def attended(*_):
            return rg.attend(PROGRAMS["dropped_out"], **inputs, seed=5, backend=backend)

        return attended

    expected = torch.autograd.grad(run()().sin().sum(), learned)
    output = checkpoint(run(), *learned, use_reentrant=reentrant).sin().sum()
    output.backward()
    for tensor, grad in zip(learned, expected, strict=True):
        torch.testing.assert_close(tensor.grad, grad, rtol=1e-12, atol=1e-12)


def test_tensors_that_hooks_move_away_are_not_kept():
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.clone()) or len(kept) - 1, lambda place: kept[place]
    )
    q, k, v = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64).unbind()
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    with hooks:
        output = rg.attend(PROGRAMS["causal"], *leaves, backend="tiled").sum()
    (_, _, _, rest) = output.grad_fn.next_functions[0][0].call
    assert not {"q", "k", "v"} & rest.tensors.keys()
    found = torch.autograd.grad(output, leaves)
    expected = torch.autograd.grad(rg.attend(PROGRAMS["causal"], *leaves).sum(), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


class Token:
    """Something that a graph holds."""


@pytest.mark.parametrize("observe", [(), ("lse", "max")])
@pytest.mark.parametrize("backend", BACKENDS)
def test_graph_is_freed_with_its_output(backend, observe):
    rows = [torch.randn(1, 2, 5, 4, requires_grad=True) for _ in "qkv"]
    output = rg.attend(PROGRAMS["causal"], *rows, backend=backend, observe=observe)
    token = Token()
    (output[0] if observe else output).grad_fn.metadata["token"] = token
    held = weakref.ref(token)
    del token
    assert held() is not None
    del output
    assert held() is None


class Attended(torch.utils.data.Dataset):
    """Items that are attended to where they are read."""

    def __init__(self, rows, backend):
        self.rows, self.layer = rows, Layer(backend)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return self.layer(self.rows[place]).detach()


@pytest.mark.parametrize("backend", ["tiled", "cpu"])
def test_workers_of_a_loader_attend(backend):
    # Large enough for several threads, which this process has had and a forked one must not miss.
    rows = torch.randn(4, 1, 2, 260, 16)
    expected = torch.stack([Layer(backend)(row).detach() for row in rows])
    loader = torch.utils.data.DataLoader(
        Attended(rows, backend), batch_size=2, num_workers=2, multiprocessing_context="fork"
    )
    assert torch.equal(torch.cat(list(loader)), expected)


def test_distributed_module_trains_as_the_module_alone(tmp_path):
    rows = torch.randn(2, 2, 5, 4)
    alone = Layer()
    alone(rows).sin().sum().backward()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    try:
        layer = Layer()
        torch.nn.parallel.DistributedDataParallel(layer)(rows).sin().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(layer.slope.grad, alone.slope.grad)
