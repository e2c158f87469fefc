"""The command `regard`: its subcommands, and how an error looks to a person."""

from typing import Any

import typer
from typer.core import TyperGroup

from regard.cli import (
    cache,
    catalogue,
    cheapen,
    check,
    compare,
    data,
    evaluate,
    explain,
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
    *(tune.tune, verdict.verdict, cache.cache),
):
    app.command()(command)
