"""Log lines: one format, to stderr, named by process. Nothing of a request's content is logged."""

import logging
import sys
import time

from typing_extensions import override

from meshwarden.plain_text import plain_lines

__all__ = ["configure_logging"]


class _PlainFormatter(logging.Formatter):
    """Writes out what a name or a message could steer the reader's terminal with."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain_lines(super().formatMessage(record))


def configure_logging(level: str, process: str) -> None:
    """Send this process's log lines to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    form = _PlainFormatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {process} %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    form.converter = time.gmtime  # The Z says so.
    handler.setFormatter(form)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in ("alembic", "asyncio", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
