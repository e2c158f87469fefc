"""Row values that the output's sweeps read: chosen keys, visible keys and thresholds.

Leaves to others: the sweeps themselves (`ranksweep`, `forward_sweeps`).
"""

import torch
from torch import Tensor

from regard.backends.cpu.caller import Caller
from regard.backends.cpu.kernel import Kernel
from regard.backends.values.choices import most_chosen


def prepare_rows(kernel: Kernel, caller: Caller, holes: dict[str, Tensor]) -> None:
    """Run the sweeps whose row values others read, in order.

    Args:
        kernel: The compiled program.
        caller: Calls kernels on the call's tensors.
        holes: Row values known beforehand, to which those found are added.
    """
    whole = torch.int64 if kernel.real == "double" else torch.int32
    for choice, module in zip(kernel.lowered.choices, kernel.choices, strict=True):
        # A choice ranks what its own condition admits, which may be more than the weights see.
        conditions = () if choice.where is None else (choice.where,)
        own = type(caller)(kernel, caller.bound, holes, conditions)
        keys = caller.bound.keys
        most = most_chosen(caller.values.at.number(choice.k), keys)
        # Behind the last chosen key stands one beyond all.
        listed = caller.rows(max(1, most)).fill_(keys)
        own.run(module, [listed])
        holes[choice.hole.name] = listed.to(whole)
    if kernel.counts is not None:
        found = caller.row_results(kernel.counts, kernel.counts.row_results)
        caller.run(kernel.counts, list(found.values()))
        holes |= {name: value.round().to(torch.int64) for name, value in found.items()}
    if kernel.thresholds is not None:
        found = caller.row_results(kernel.thresholds, kernel.thresholds.row_results)
        caller.run(kernel.thresholds, list(found.values()))
        holes |= found
