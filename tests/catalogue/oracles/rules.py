"""Who sees whom, asked one pair at a time: for masks that are written as sets of pairs."""

import torch


def per_head(feature, q):
    """Give each query head its own: (1 or B, 1 or G or H, n, …) gives (B, H, n, …)."""
    batch, heads = q.shape[:2]
    each = feature.repeat_interleave(heads // feature.shape[1], dim=1)
    return each.expand(batch, heads, *each.shape[2:])


def pairs(q, k, rule, of_queries=(), of_keys=()):
    """Return (B, H, N, M) truth values of rule(i, j, features of query i, features of key j)."""
    queries = [per_head(one, q).tolist() for one in of_queries]
    keys = [per_head(one, q).tolist() for one in of_keys]

    def grid(b, h):
        rows = [[one[b][h][i] for one in queries] for i in range(q.shape[-2])]
        columns = [[one[b][h][j] for one in keys] for j in range(k.shape[-2])]
        return [[rule(i, j, *x, *y) for j, y in enumerate(columns)] for i, x in enumerate(rows)]

    return torch.tensor([[grid(b, h) for h in range(q.shape[1])] for b in range(q.shape[0])])
