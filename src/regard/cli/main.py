"""The command `regard`: its subcommands, and how an error looks to a person."""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from regard.cli import (
    cache,
    catalogue,
    cheapen,
    check,
    compare,
    customise,
    data,
    evaluate,
    explain,
    gates,
    modes,
    predict,
    schema,
    show,
    suggest,
    train,
    translate,
    tune,
    verdict,
)
from regard.errors import RegardError

WRONG_USE = 2
_ELSEWHERE = "name another place"
# What can be done about errors of the system that are no bug.
_MENDS = {
    errno.ENOSPC: "make room, or name a place on another disk; a run goes on with --resume",
    errno.EDQUOT: "make room, or name a place on another disk; a run goes on with --resume",
    errno.EROFS: _ELSEWHERE,
    errno.ENOTDIR: f"there is a file where a folder belongs; {_ELSEWHERE}",
    errno.EISDIR: f"there is a folder where a file belongs; {_ELSEWHERE}",
    errno.ENAMETOOLONG: "name another",
    errno.EACCES: f"allow it, or {_ELSEWHERE}",
    errno.EPERM: f"allow it, or {_ELSEWHERE}",
    errno.ENOENT: "there is no such place; make it, or name another",
}


class Commands(TyperGroup):
    """Shows an error of Regard as its message alone; any other is a bug, and shows whole."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand.

        Args:
            ctx: What was typed.

        Returns:
            What the subcommand returned.

        Raises:
            Exit: With code 2, after an error of Regard.
        """
        try:
            return super().invoke(ctx)
        except RegardError as problem:
            typer.echo(f"error: {problem}", err=True)
            raise typer.Exit(WRONG_USE) from None
        except OSError as problem:
            if problem.errno not in _MENDS:
                raise
            place = f"{problem.filename}: " if problem.filename else ""
            mend = _MENDS[problem.errno]
            typer.echo(f"error: {place}{problem.strerror}; {mend}", err=True)
            raise typer.Exit(WRONG_USE) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Attention as a small program: see it, train with it, translate with it.",
)
app.command("catalogue")(catalogue.list_catalogue)
app.command()(show.show)
app.command("modes")(modes.list_modes)
app.command("suggest")(suggest.suggest_modes)
app.command("explain")(explain.explain_program)
app.command("check")(check.check_program_or_model)
app.command("cheapen")(cheapen.cheapen_model)
app.command("data")(data.check_data)
app.command("schema")(schema.print_schema)
for command in (
    *(train.train, evaluate.evaluate, compare.compare, predict.predict, translate.translate),
    *(tune.tune, customise.customise, gates.gates, verdict.verdict, cache.cache),
):
    app.command()(command)
