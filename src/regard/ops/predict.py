"""How long a call takes: what it costs, counted, times what each costs on this machine.

Before: 34e6 exponentials, 8.6e9 multiply-adds, one call.
After: 74 ms.

The prices come from calls that are timed once on a machine, with a number of threads, and kept in
the cache folder: programs that differ in what they do most. Leaves to others: counting (the
backends' `facts`), the calls (`measure_machine`).
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields

import torch

from regard.backends.cpu.compiler import cpu_identity, find_compiler
from regard.backends.cpu.folder import cache_folder, open_folder, read_trusted, write_private
from regard.passes.count_work import Work

# Raised when what is counted or how it is timed changes, so that older prices are forgotten.
_VERSION = 1


@dataclass(frozen=True)
class Prices:
    """Seconds of one of each thing that `Work` counts, for a backend and a dtype."""

    products: float
    functions: float
    operations: float
    bytes: float
    pieces: float
    calls: float
    gradients: float

    def seconds(self, work: Work) -> float:
        """Return how long work takes.

        Args:
            work: What a call costs.

        Returns:
            Seconds.
        """
        return sum(a * b for a, b in zip(astuple(self), astuple(work), strict=True))

    def __str__(self) -> str:
        rates = (
            ("GFLOP/s of products", 2e-9, self.products),
            ("G exponentials/s", 1e-9, self.functions),
            ("G operations/s", 1e-9, self.operations),
            ("GB/s", 1e-9, self.bytes),
        )
        told = [f"{scale / price:.3g} {unit}" for unit, scale, price in rates if price]
        return ", ".join([*told, f"{1e6 * self.calls:.3g} µs a call"])


def fit_prices(timed: Iterable[tuple[Work, float]]) -> Prices:
    """Find prices, none negative, that come closest to measured times, each relative to itself.

    Args:
        timed: What calls cost, and their seconds.

    Returns:
        The prices; 0 for what makes no difference.
    """
    rows, seconds = zip(*((astuple(work), time) for work, time in timed), strict=True)
    costs = torch.tensor(rows, dtype=torch.float64)
    costs = costs / torch.tensor(seconds, dtype=torch.float64).unsqueeze(1)
    scale = costs.amax(0).clamp(min=torch.finfo(torch.float64).tiny)
    used = (costs.amax(0) > 0).nonzero().flatten().tolist()
    ones = torch.ones(len(rows), 1, dtype=torch.float64)
    found = torch.zeros(len(scale), dtype=torch.float64)
    # What would be negative is left out, the worst first, until nothing is.
    while used:
        part = torch.linalg.lstsq(costs[:, used] / scale[used], ones, driver="gelsd").solution[:, 0]
        if bool((part >= 0).all()):
            found[used] = part / scale[used]
            break
        used.remove(used[int(part.argmin())])
    return Prices(*found.tolist())


def known_prices(backend: str, dtype: torch.dtype) -> Prices | None:
    """Return a backend's prices on this machine with as many threads, if they were measured.

    Args:
        backend: Its name.
        dtype: Of q.

    Returns:
        The prices, or None.
    """
    key = _key(backend, dtype)
    if key not in _known:
        try:
            kept = json.loads(read_trusted(cache_folder() / f"machine-{key}.json"))
            prices = Prices(**{one.name: float(kept[one.name]) for one in fields(Prices)})
            if not all(0 <= price < math.inf for price in astuple(prices)):
                return None
            _known[key] = prices
        except (OSError, ValueError, TypeError, KeyError):
            return None
    return _known[key]


def keep_prices(backend: str, dtype: torch.dtype, prices: Prices) -> None:
    """Keep prices for this process and, if there is a cache folder, for later ones.

    Args:
        backend: The backend's name.
        dtype: Of q.
        prices: What was measured.
    """
    key = _key(backend, dtype)
    _known[key] = prices
    try:
        write_private(open_folder() / f"machine-{key}.json", json.dumps(asdict(prices)).encode())
    except OSError:
        # Without a folder, the next process measures again.
        return


_known: dict[str, Prices] = {}


def _key(backend: str, dtype: torch.dtype) -> str:
    parts = [_VERSION, torch.__version__, cpu_identity(), torch.get_num_threads(), backend, dtype]
    compiler = find_compiler() if backend == "cpu" else ""
    parts.append(compiler if isinstance(compiler, str) else compiler.identity)
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()
