"""`regard cheapen MODEL`: cheaper attention for a trained model, within a stated loss.

Leaves to others: all of the work (`hf/cheaper`).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.errors import FileError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# As after `regard train`: what a shell reports of a command that Ctrl-C ended.
INTERRUPTED = 130


def cheapen_model(
    model: Annotated[
        Path, typer.Argument(help="The folder of a trained decoder or encoder, with its tokenizer.")
    ],
    texts: Annotated[
        list[Path],
        typer.Option(help="A text file in UTF-8 of what the model reads; may be given again."),
    ],
    out: Annotated[Path, typer.Option(help="A folder for the model, its mode and the report.")],
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Other texts, which the last figures are of; the last quarter of the texts unless "
            "given."
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="The length that is to be cheaper; 1024, or all the model reads."),
    ] = None,
    loss: Annotated[str, typer.Option(help="What may be lost, as 1% or 0.01.")] = "1%",
    minutes: Annotated[
        float, typer.Option(help="How long the distillation may take; 0 leaves it out.")
    ] = 10.0,
    rate: Annotated[float, typer.Option(help="The largest step size of the distillation.")] = 1e-4,
    seed: Annotated[int, typer.Option(help="Of the order in which texts are read.")] = 0,
) -> None:
    """Find heads that can do with local, sparse or linear attention, and change them.

    Nothing is lost by Ctrl-C: it ends the distillation and keeps the best so far; the same command
    goes on with it.
    """
    # Here, so that `regard --help` does not wait for torch.
    from regard.hf.cheaper import cheapen, cut
    from regard.hf.check.load import find_model

    allowed = read_share(loss)
    if not (model / "config.json").is_file():
        raise FileError(f"{model}: no config.json; give the folder of a trained model")
    read, others = _texts(texts), _texts(held_out) if held_out else None
    loaded, tokenizer = find_model(str(model)), _tokenizer(model)
    pieces = cut(tokenizer, read, tokens or _longest(loaded), others)
    found = cheapen(
        loaded, pieces, loss=allowed, minutes=minutes, out=out, rate=rate, seed=seed, say=_say
    )  # fmt: skip
    tokenizer.save_pretrained(out / "model")
    typer.echo(str(found))
    typer.echo(f"model, mode and report: {out}")
    if found.stopped:
        typer.echo("the distillation was stopped; the same command goes on with it", err=True)
        raise typer.Exit(INTERRUPTED)


def read_share(text: str) -> float:
    """Return a share that was written as "1%" or "0.01".

    Args:
        text: What was typed.

    Returns:
        The share.

    Raises:
        InputError: If it is neither.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 < share < 1:
        raise InputError(f"--loss {text}: write a share between 0 and 1, as 1% or 0.01")
    return share


def _texts(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        try:
            found.append(path.read_text(encoding="utf-8"))
        except OSError as problem:
            raise FileError(f"{path}: {problem.strerror}") from None
        except UnicodeDecodeError as problem:
            raise FileError(f"{path}: byte {problem.start} is not text in UTF-8") from None
    return found


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    # transformers and tokenizers share no class of errors.
    except Exception as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise FileError(f"{folder}: the tokenizer does not load: {first}") from None


def _longest(model: "PreTrainedModel") -> int:
    return min(1024, getattr(model.config, "max_position_embeddings", None) or 1024)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
