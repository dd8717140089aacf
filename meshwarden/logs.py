"""Log lines: one format, to stderr, named by process. Nothing of a request's content is logged."""

import logging
import sys
import time

__all__ = ["configure_logging"]


def configure_logging(level: str, process: str) -> None:
    """Send this process's log lines to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {process} %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    form.converter = time.gmtime  # The Z says so.
    handler.setFormatter(form)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in ("alembic", "asyncio", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
