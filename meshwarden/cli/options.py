"""Options that several commands have, and the settings that follow from them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden import config
from meshwarden.cli.output import Form

if TYPE_CHECKING:
    from meshwarden.settings import Settings

__all__ = ["ConfigFile", "Output", "RuntimeDir", "load_folder_settings", "load_settings"]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="TOML file of settings; else MESHWARDEN_CONFIG, meshwarden.toml here, or in "
        "/etc/meshwarden.",
    ),
]
Output = Annotated[Form, typer.Option("--output", "-o", help="For people, or for programs.")]
RuntimeDir = Annotated[
    Path | None,
    typer.Option(
        "--runtime-dir",
        metavar="FOLDER",
        help="Where the service's sockets are; else as configured.",
    ),
]


def load_settings(
    file: Path | None, options: Mapping[str, tuple[str, object]] | None = None
) -> config.Loaded:
    """Load settings as a command's options ask for.

    Args:
        file: The --config option.
        options: Key to the option that overrides it and its value, None where it isn't given.

    Raises:
        ConfigError: With every fault that was found.
    """
    given = {
        key: (option, str(value))
        for key, (option, value) in (options or {}).items()
        if value is not None
    }
    if "policy.path" in given:
        # Who names a folder asks about it, wherever the service's own policy comes from.
        given.setdefault("policy.source", (given["policy.path"][0], "folder"))
    return config.load(file or config.find(os.environ), os.environ, given)


def load_folder_settings(file: Path | None, option: str, folder: Path) -> "Settings":
    """Load settings for a policy in a folder, wherever the service's own comes from.

    Args:
        file: The --config option.
        option: The option or argument that names the folder.
        folder: The folder.

    Raises:
        ConfigError: With every fault that was found.
    """
    given = {"policy.path": (option, folder), "policy.source": (option, "folder")}
    return load_settings(file, given).settings
