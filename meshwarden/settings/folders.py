"""Where the service keeps what it keeps, unless settings say otherwise."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

__all__ = ["Runtime", "default_runtime_dir", "default_state_dir", "sealing_key"]


def default_state_dir(environ: Mapping[str, str], *, is_root: bool) -> Path:
    """Give /var/lib/meshwarden for root, else the user's XDG state folder."""
    if is_root:
        return Path("/var/lib/meshwarden")
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "meshwarden"


def default_runtime_dir(environ: Mapping[str, str], state_dir: Path, *, is_root: bool) -> Path:
    """Give /run/meshwarden for root, else XDG_RUNTIME_DIR's, else "run" in the state folder."""
    if is_root:
        return Path("/run/meshwarden")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "meshwarden" if runtime.startswith("/") else state_dir / "run"


def _state_dir() -> Path:
    return default_state_dir(os.environ, is_root=os.geteuid() == 0)


def _runtime_dir() -> Path:
    return default_runtime_dir(os.environ, _state_dir(), is_root=os.geteuid() == 0)


def sealing_key() -> Path:
    """Give the file that seals private keys, for root and for others."""
    # Away from the database on purpose: a copy of the state folder is no copy of the authority.
    if os.geteuid() == 0:
        return Path("/etc/meshwarden/sealing.key")
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "meshwarden" / "sealing.key"


@dataclass(frozen=True, slots=True)
class Runtime:
    """Folders that the service writes to. Each instance needs its own."""

    state_dir: Annotated[
        Path,
        Meta(
            description="Kept over restarts: the last good policy and the decision log.",
            extra={
                "default": "`/var/lib/meshwarden` for root, else `$XDG_STATE_HOME/meshwarden`",
                "example": "/var/lib/meshwarden",
            },
        ),
    ] = field(default_factory=_state_dir)
    runtime_dir: Annotated[
        Path,
        Meta(
            description="Sockets, made at start with mode 0700. At most 66 bytes long: the "
            "kernel takes 107 for a socket's whole path.",
            extra={
                "default": "`/run/meshwarden` for root, else `$XDG_RUNTIME_DIR/meshwarden`, else "
                "`run` in the state folder",
                "example": "/run/meshwarden",
            },
        ),
    ] = field(default_factory=_runtime_dir)
