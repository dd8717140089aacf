"""`meshwarden policy`."""

import typer

app = typer.Typer(name="policy", help="Check a policy and look into it.", no_args_is_help=True)


@app.command()
def check() -> None:
    """X"""


@app.command()
def plan() -> None:
    """X"""
