"""`python -m regard`: the command line, for launchers such as torchrun."""

from regard.cli.main import app

if __name__ == "__main__":
    app()
