"""A programmed model under FSDP, beside the same model whole: run by torchrun."""

import sys

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import BertConfig, BertModel

import regard as rg


@rg.program
def relative(pair):
    bias = rg.parameter("bias", per=("head", 9))
    return rg.softmax(rg.dot(pair.q, pair.k) + bias[rg.clip(pair.j - pair.i, -4, 4) + 4])


def make():
    torch.manual_seed(0)
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertModel(BertConfig(vocab_size=10, **shape, **quiet), add_pooling_layer=False)
    rg.hf.apply(model, rg.Mode("near", "by distance", encoder=relative))
    with torch.no_grad():
        for name, one in model.named_parameters():
            if ".regard." in name:
                nn.init.normal_(one)
    return model


def main():
    distributed.init_process_group("gloo")
    rank, count = distributed.get_rank(), distributed.get_world_size()
    whole, sharded = make(), make()
    mesh = init_device_mesh("cpu", (count,))
    for layer in sharded.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    ids = torch.arange(40).view(4, 10) % 10
    optimisers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (whole, sharded)]
    for _ in range(3):
        whole(input_ids=ids).last_hidden_state[..., 0].square().mean().backward()
        mine = ids[rank::count]
        sharded(input_ids=mine).last_hidden_state[..., 0].square().mean().backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    names = []
    for (name, one), (_, other) in zip(
        whole.named_parameters(), sharded.named_parameters(), strict=True
    ):
        torch.testing.assert_close(other.full_tensor(), one.data, rtol=1e-4, atol=1e-5)
        names.append(name)
    assert sum(".regard." in name for name in names) == 2
    assert not torch.equal(dict(make().named_parameters())[names[-1]], one)
    distributed.destroy_process_group()
    sys.stdout.write(f"rank {rank} agrees\n")


if __name__ == "__main__":
    main()
