"""What each variant of the catalogue costs, as a share of softmax's time on the cpu backend.

A few variants and softmax run in turn. Ctrl-C keeps what is measured, and the next start goes on
from there; `--build` compiles all kernels beforehand and measures nothing, `--again` starts anew.
A variant that the cpu backend refuses is measured in tiles, with the reason; one that the linear
backend takes is measured there too. Writes catalogue.json beside this file.
Leaves to others: what variants are called with (`scripts/scenes`), the pages (`scripts/gallery`).
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from _measure import cores, interleaved_rounds, machine
from torch import Tensor

import regard as rg
from regard.catalogue import VARIANTS
from regard.catalogue.variant import Variant
from regard.view.imagine import Scene as Imagined
from regard.view.imagine import imagine_inputs

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from scenes import inputs_of, large_scene

RESULTS = Path(__file__).with_suffix(".json")
HEADS, ROWS, WIDTH = 8, 1024, 64
CALL = f"B 1, H {HEADS}, N {ROWS}, D {WIDTH}, float32"
PARTS = ("forward", "forward + backward")
PLAIN = "scaled_dot_product"
# Variants that are timed together; rounds, and seconds after which no further round begins.
TOGETHER, ROUNDS, LEAST, MOST_SECONDS = 4, 7, 2, 5.0
# The figures of another machine say nothing about this one.
SAME_MACHINE = ("cpu", "threads", "compiler", "torch")


class Call:
    """A variant, ready to be run at the size that is measured.

    Args:
        variant: The variant.
    """

    def __init__(self, variant: Variant) -> None:
        scene = large_scene(variant, ROWS, HEADS, WIDTH)
        self.variant, self.knobs = variant, scene.knobs
        self.program = variant(**scene.knobs)
        random = torch.Generator().manual_seed(0)
        rows = {name: torch.randn(1, HEADS, ROWS, WIDTH, generator=random) for name in "qkv"}
        given = {**rows, **inputs_of(self.program, scene)}
        root = self.program.root
        imagined, _ = imagine_inputs(root, Imagined(HEADS, ROWS, ROWS, WIDTH, given))
        names = [leaf.name for leaf in self.program.inputs]
        parameters = {leaf.name for leaf in self.program.parameters}
        vectors = {name: rows["q"] for name in names if name not in {**given, **imagined}}
        self.inputs = {**given, **imagined, **vectors}
        self.learned = [
            name
            for name, x in self.inputs.items()
            if x.is_floating_point() and name in names and (x.ndim == 4 or name in parameters)
        ]

    def forward(self, backend: str) -> Tensor:
        """Run forward."""
        return rg.attend(self.program, backend=backend, **self.inputs)

    def both(self, backend: str) -> object:
        """Run forward, and backward to rows and parameters."""
        leaves = {name: self.inputs[name].detach().requires_grad_() for name in self.learned}
        out = rg.attend(self.program, backend=backend, **{**self.inputs, **leaves})
        return torch.autograd.grad(out.sum(), list(leaves.values()), allow_unused=True)

    def runs(self, backend: str) -> dict[str, Callable[[], object]]:
        """Return what is timed, by part."""
        return {
            PARTS[0]: partial(self.forward, backend),
            PARTS[1]: partial(self.both, backend),
        }

    def backends(self) -> tuple[list[str], dict[str, str]]:
        """Return where it is measured, and why it is not on others."""
        refused = {name: reason for name in ("cpu", "linear") if (reason := self._refusal(name))}
        chosen = [name for name in ("cpu", "linear") if name not in refused]
        refused.pop("linear", None)
        return ["tiled", *chosen] if "cpu" in refused else chosen, refused

    def _refusal(self, backend: str) -> str:
        """Return why a backend does not run it forward and backward; nothing if it does."""
        shape = (1, HEADS, ROWS, WIDTH)
        free = {name: x for name, x in self.inputs.items() if name not in ("q", "k", "v")}
        try:
            rg.explain(self.program, shape, backend=backend, training=True, **free)
        except rg.UnsupportedError as reason:
            return str(reason).partition("\n")[0].rpartition("program: ")[2]
        return ""


def measure(calls: list[Call]) -> dict[str, dict[str, Any]]:
    """Time some variants and plain softmax in turn.

    Args:
        calls: The variants.

    Returns:
        A row for each, by name.
    """
    plain = Call(VARIANTS[PLAIN])
    contenders = {("", "cpu", part): run for part, run in plain.runs("cpu").items()}
    rows: dict[str, dict[str, Any]] = {}
    for call in calls:
        backends, refused = call.backends()
        row = {"hash": call.program.hash, "knobs": call.knobs, "times": {}, "refused": refused}
        rows[call.variant.name] = row
        for backend in backends:
            for part, run in call.runs(backend).items():
                contenders[call.variant.name, backend, part] = run
    named = {"\t".join(key): run for key, run in contenders.items()}
    found = interleaved_rounds(named, ROUNDS, 1, MOST_SECONDS, LEAST)
    times = {tuple(key.split("\t")): one for key, one in found.items()}
    for (name, backend, part), one in times.items():
        if not name:
            continue
        beside = times["", "cpu", part]
        ratio = statistics.median(ours / plain for ours, plain in zip(one, beside, strict=True))
        told = rows[name]["times"].setdefault(backend, {"rounds": len(one)})
        told[part], told[f"{part} ms"] = round(ratio, 3), round(statistics.median(one), 2)
    return rows


def build(wanted: list[Variant]) -> None:
    """Run everything once, so that all kernels are compiled and kept."""
    for number, variant in enumerate(wanted, 1):
        call = Call(variant)
        backends, refused = call.backends()
        for backend in backends:
            for run in call.runs(backend).values():
                run()
        told = "".join(f"; not {name}: {reason}" for name, reason in refused.items())
        print(
            f"{number} of {len(wanted)}: {variant.name} on {', '.join(backends)}{told}", flush=True
        )


def left_of(wanted: list[Variant], rows: dict[str, Any]) -> Iterator[Variant]:
    """Yield the variants whose program, at the size that is measured, has no row yet."""
    for variant in wanted:
        row = rows.get(variant.name)
        knobs = large_scene(variant, ROWS, HEADS, WIDTH).knobs
        if row is None or row["hash"] != variant(**knobs).hash:
            yield variant


def read(again: bool = False) -> dict[str, Any]:
    """Return the rows that were measured on this machine."""
    if again or not RESULTS.exists():
        return {}
    kept, here = json.loads(RESULTS.read_text(encoding="utf-8")), machine()
    if any(kept["machine"].get(key) != here[key] for key in SAME_MACHINE):
        return {}
    return {name: row for name, row in kept["rows"].items() if name in VARIANTS}


def write(rows: dict[str, Any]) -> None:
    """Write all rows, in the catalogue's order."""
    ordered = {name: rows[name] for name in VARIANTS if name in rows}
    text = {"title": __doc__.splitlines()[0], "call": CALL, "machine": machine(), "rows": ordered}
    # Replaced in one go, so that no interruption leaves half a file.
    unfinished = RESULTS.with_suffix(".part")
    unfinished.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(RESULTS)


def show(name: str, row: dict[str, Any]) -> None:
    """Print a row."""
    for backend, times in row["times"].items():
        cells = [f"{times[part]:6.2f} ×  {times[f'{part} ms']:8.1f} ms" for part in PARTS]
        reason = "; ".join(row["refused"].values())
        print(f"{name:26} {backend:7} {'   '.join(cells)}  {reason}".rstrip(), flush=True)


def main() -> None:
    """Measure what is left, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="these variants alone")
    parser.add_argument("--build", action="store_true", help="compile all kernels; measure nothing")
    parser.add_argument("--again", action="store_true", help="measure all of them anew")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, cores()))
    wanted = [rg.catalogue.find(name) for name in arguments.names] or list(VARIANTS.values())
    if arguments.build:
        build(wanted)
        return
    rows = read(arguments.again)
    print(f"times the time of {PLAIN}, {CALL}: forward, and forward and backward")
    left = left_of(wanted, dict(rows))
    try:
        while group := list(islice(left, TOGETHER)):
            found = measure([Call(variant) for variant in group])
            rows |= found
            write(rows)
            for name, row in found.items():
                show(name, row)
    except KeyboardInterrupt:
        sys.exit(f"stopped; {len(rows)} of {len(VARIANTS)} are kept, and the next start goes on")


if __name__ == "__main__":
    main()
