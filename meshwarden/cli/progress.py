"""How far a long command is: a line on the terminal that goes away again."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from meshwarden import clock

__all__ = ["progress"]

_EVERY_S = 0.1
# What is done sooner needs no line.
_PATIENCE_S = 0.5


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give what is to be told how far it is: of what, how many are done, of how many.

    Shown on stderr, and only where that is a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _what, _done, _all: None
        return
    begun = told = clock.monotonic_s()

    def tell(what: str, done: int, every: int) -> None:
        nonlocal told
        now = clock.monotonic_s()
        if now - begun < _PATIENCE_S or now - told < _EVERY_S:
            return
        told = now
        share = f"{100 * done // every:3d} %" if every else ""
        # To the start of the line, and clear what stood there.
        typer.echo(f"\r\x1b[K{share}  {what}", nl=False, err=True)

    try:
        yield tell
    finally:
        if told != begun:
            typer.echo("\r\x1b[K", nl=False, err=True)
