"""A command run by itself, so that what it raises reaches the test."""

import typer
from typer.testing import CliRunner


def run_alone(command, *arguments):
    """Run a command on arguments of any type, and raise what it raises."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done
