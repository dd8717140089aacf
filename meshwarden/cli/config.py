"""`meshwarden config`: what may be set, what is set, and whether it can be."""

from collections.abc import Mapping
from operator import attrgetter

import typer

from meshwarden import config_reference
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data, table
from meshwarden.config import KEYS, Loaded
from meshwarden.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(name="config", help="Check, show and look up settings.", no_args_is_help=True)


@app.command()
def check(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Report every fault of the settings at once; start nothing.

    Exits with 2 when there is one.
    """
    try:
        loaded = load_settings(config)
    except ConfigError as error:
        if output.is_data:
            show_data({"ok": False, "faults": error.faults}, output)
        complain(str(error))
        raise typer.Exit(FAULT) from None
    if output.is_data:
        show_data({"ok": True, "file": loaded.file, "faults": []}, output)
    else:
        show(f"{loaded.file or 'the defaults'}: no fault, {len(loaded.origins)} keys set")


@app.command("show")
def show_values(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Show every value in effect and where it came from."""
    loaded = load_settings(config)
    if output.is_data:
        show_data(
            {
                key: {"value": _plain(_value(loaded, key)), "from": _origin(loaded, key)}
                for key in KEYS
            },
            output,
        )
        return
    rows = [
        (key, config_reference.as_toml(_value(loaded, key)), _origin(loaded, key)) for key in KEYS
    ]
    show(table(("key", "value", "from"), rows))


@app.command()
def reference(output: Output = Form.HUMAN) -> None:
    """Print every key with its meaning and default, as a TOML file to begin with."""
    if not output.is_data:
        typer.echo(config_reference.toml(), nl=False)
        return
    show_data(
        {
            key.name: {
                "value": key.expected,
                "default": key.default_words or _plain(key.default),
                "meaning": key.meta.description,
                "variable": key.variable,
            }
            for key in KEYS.values()
        },
        output,
    )


def _value(loaded: Loaded, key: str) -> object:
    return attrgetter(key)(loaded.settings)


def _origin(loaded: Loaded, key: str) -> str:
    return loaded.origins.get(key, "default")


def _plain(value: object) -> object:
    """Turn a value into what JSON has, an address and a path into their text."""
    if value is None or isinstance(value, bool | int | float | str | tuple | Mapping):
        return value
    return str(value)
