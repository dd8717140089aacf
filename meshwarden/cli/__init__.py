"""The command line, one file a group of commands."""

import sys
from types import TracebackType

_TOLD = sys.excepthook


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of a Ctrl-C; the interpreter ends by the signal all the same."""
    if not issubclass(kind, KeyboardInterrupt):
        _TOLD(kind, error, trace)


# Here, since nothing of a command is imported sooner: importing takes most of its first 0.2 s, and
# only what runs after that can catch anything.
sys.excepthook = _tell
