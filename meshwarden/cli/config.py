"""`meshwarden config`: what may be set, what is set, and whether it can be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Annotated

import typer

from meshwarden import config_reference
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, show, show_data, table
from meshwarden.cli.setting_lines import complain_of_settings, line_of
from meshwarden.config import KEYS, Loaded
from meshwarden.config_checks import did_you_mean
from meshwarden.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(name="config", help="Check, show and look up settings.", no_args_is_help=True)


@app.command()
def check(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Report every fault of the settings at once; start nothing.

    Exits with 0 when there is none, with 2 when there is one.
    """
    try:
        loaded = load_settings(config)
    except ConfigError as error:
        if output.is_data:
            faults = [{**asdict(fault), "line": line_of(fault)} for fault in error.faults]
            show_data({"ok": False, "faults": faults}, output)
        complain_of_settings(error)
        raise typer.Exit(FAULT) from None
    if output.is_data:
        show_data({"ok": True, "file": loaded.file, "faults": []}, output)
    else:
        show(f"{loaded.file or 'the defaults'}: no fault, {len(loaded.origins)} keys set")


Keys = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY]...", show_default=False, help="Only these, or all of a section such as tls."
    ),
]


@app.command("show")
def show_values(key: Keys = None, config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Show every value in effect and where it came from.

    Exits with 0; with 2 when there is no such key, or the settings have a fault.
    """
    loaded = load_settings(config)
    wanted = _wanted(key)
    if output.is_data:
        show_data(
            {
                name: {"value": _plain(_value(loaded, name)), "from": _origin(loaded, name)}
                for name in wanted
            },
            output,
        )
        return
    rows = [
        (name, config_reference.as_toml(_value(loaded, name)), _origin(loaded, name))
        for name in wanted
    ]
    show(table(("key", "value", "from"), rows))


@app.command()
def reference(key: Keys = None, output: Output = Form.HUMAN) -> None:
    """Print every key with its meaning and default, as a TOML file to begin with.

    Of single keys it prints that on a few lines each.

    Exits with 0; with 2 when there is no such key.
    """
    wanted = _wanted(key)
    if not (output.is_data or key):
        typer.echo(config_reference.toml(), nl=False)
        return
    if not output.is_data:
        for name in wanted:
            found = KEYS[name]
            default = found.default_words or config_reference.as_toml(found.default)
            show(f"{name}  {found.expected}; default {default}; {found.variable}")
            show(f"    {found.meta.description}")
        return
    show_data(
        {
            found.name: {
                "value": found.expected,
                "default": found.default_words or _plain(found.default),
                "meaning": found.meta.description,
                "variable": found.variable,
            }
            for found in map(KEYS.__getitem__, wanted)
        },
        output,
    )


def _wanted(keys: Sequence[str] | None) -> list[str]:
    """The keys that are asked for, all without a question.

    Raises:
        BadParameter: There is none of that name.
    """
    wanted = []
    for name in keys or ():
        found = [key for key in KEYS if key == name or key.startswith(f"{name}.")]
        if not found:
            raise typer.BadParameter(f"no key {name!r}{did_you_mean(name, KEYS)}")
        wanted += found
    return wanted if keys else list(KEYS)


def _value(loaded: Loaded, key: str) -> object:
    return attrgetter(key)(loaded.settings)


def _origin(loaded: Loaded, key: str) -> str:
    return loaded.origins.get(key, "default")


def _plain(value: object) -> object:
    """Turn a value into what JSON has, an address and a path into their text."""
    if value is None or isinstance(value, bool | int | float | str | tuple | Mapping):
        return value
    return str(value)
