"""The main job on embedded data: translate English interface strings into French, twice.

Trains the same small model with plain attention and with a programmed mode, compares both with a
copy baseline, translates a few sentences, draws what the model looks at and writes a report.
Run it with `make demo`.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

import regard as rg
from regard.tasks import Task, load_task
from regard.train import train, translate_run
from regard.train.model import load_model
from regard.train.report import align, write_run_report
from regard.view.alignment import draw_alignment

HERE = Path(__file__).parent / "translation"
TASKS = {"plain": HERE / "en-fr.yaml", "programmed": HERE / "en-fr-programmed.yaml"}
SENTENCES = [
    "Delete the selected rows",
    "Cannot open the file",
    "Insert a new page",
    "Select all text",
]
console = Console(highlight=False, soft_wrap=True)


def heading(number: int, text: str, began: float) -> None:
    """Print the title of a step and the time so far."""
    console.print(f"\n[bold]{number}. {text}[/bold]  [dim]({time.monotonic() - began:.0f} s)[/dim]")


def show_programs(folder: Path) -> None:
    """Print the mode's programs as formulas and draw them."""
    sys.path.insert(0, str(HERE))
    import programs

    for role, program in (
        ("encoder", programs.relative),
        ("decoder", programs.recent),
        ("cross", programs.additive),
    ):
        console.print(f"\n[dim]{role}:[/dim] {escape(str(program))}")
        picture = folder / f"{role}.png"
        rg.draw(program, 16, 16, heads=4, path=picture)
        console.print(f"  [dim]picture: {picture}[/dim]")


def train_both(folder: Path, steps: int | None) -> dict[str, dict]:
    """Train both models and return their metrics."""
    found = {}
    for name, path in TASKS.items():
        console.print(f"\n[dim]{name}: {path.name}[/dim]")
        result = train(_shortened(load_task(path), steps), folder / name)
        if result.metrics is None:
            console.print(f"stopped at step {result.step}; `make demo` starts again")
            sys.exit(130)
        found[name] = result.metrics
    return found


def _shortened(task: Task, steps: int | None) -> Task:
    if steps is None:
        return task
    warmup = min(task.training.warmup, steps)
    training = task.training.model_copy(update={"steps": steps, "warmup": warmup})
    return task.model_copy(update={"training": training})


def show_scores(found: dict[str, dict]) -> None:
    """Print BLEU and chrF of both models and of copying the source."""
    console.print(f"\n{'':14}{'BLEU':>8}{'chrF':>8}{'seconds':>10}")
    test = found["plain"]["test"]
    copied = test["baseline"]
    console.print(f"{'copy':14}{copied['BLEU']:8.1f}{copied['chrF']:8.1f}{'':>10}")
    for name, metrics in found.items():
        test, seconds = metrics["test"]["scores"], metrics["training"]["seconds"]
        console.print(f"{name:14}{test['BLEU']:8.1f}{test['chrF']:8.1f}{seconds:10.0f}")


def show_translations(folder: Path) -> None:
    """Translate a few sentences with both models, and draw the alignment of the first."""
    both = {name: translate_run(folder / name, SENTENCES) for name in TASKS}
    for k, sentence in enumerate(SENTENCES):
        console.print(f"\n  {sentence}")
        for name, texts in both.items():
            console.print(f"    {name:12} {texts[k]}")
    model, tokenizer = load_model(folder / "programmed" / "model")
    weights, source, target = align(model, tokenizer, SENTENCES[0], both["programmed"][0])
    picture = folder / "alignment.png"
    draw_alignment(weights, source, target, path=picture, title="What each word was read from")
    console.print(f"\n  [dim]alignment of the first: {picture}[/dim]")


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the folder; replaced")
    parser.add_argument("--steps", type=int, help="train fewer steps, to try the script")
    options = parser.parse_args()
    folder, began = options.run, time.monotonic()
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    heading(1, "The programs", began)
    show_programs(folder)
    heading(2, "Training: the same model, plain and programmed", began)
    found = train_both(folder, options.steps)
    heading(3, "Held-out pairs", began)
    show_scores(found)
    heading(4, "Translations", began)
    show_translations(folder)
    heading(5, "Report", began)
    report = folder / "report.html"
    runs = {name: folder / name for name in TASKS}
    write_run_report(runs, report, "English to French, plain and programmed", "make demo")
    console.print(f"\n  open {report.resolve()}")
    console.print(f"\n[dim]{time.monotonic() - began:.0f} s in all[/dim]")


if __name__ == "__main__":
    main()
