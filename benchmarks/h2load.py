"""Load from nghttp2's h2load: what it is told, what it says, what it logs.

It checks HTTP statuses only, and gRPC errors are HTTP 200 too: who uses it must see for himself
that the server answered what it should.
"""

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import LOAD_CORE, pinned
from benchmarks.requests import CHECK_PATH

__all__ = [
    "H2load",
    "LoadError",
    "NothingAnsweredError",
    "Rate",
    "parse_latencies",
    "parse_rate",
    "quantile",
]

# A handful of sidecars, each with the streams of a busy moment.
_CONNECTIONS = 8
_STREAMS = 8
_LONGER = (1, 3)

# At a fixed rate, each connection sends once every 10 ms, the finest beat that h2load has; they
# open 7 ms apart, so that their beats fall on ten different milliseconds and not on one.
_BEAT_S = 0.01
_OPENING_GAP = "7ms"

_FINISHED = re.compile(r"finished in .*?, ([\d.]+) req/s")
_REQUESTS = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")


class LoadError(Exception):
    """There is no figure: h2load is missing, failed, or not every request was answered."""


class NothingAnsweredError(LoadError):
    """No request was answered, and none failed: the run was too short for a machine this busy."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a run at full speed gave.

    Attributes:
        per_second: Requests answered a second.
        requests: Requests answered, warm-up left out.
    """

    per_second: float
    requests: int


class H2load:
    """Sends one body to one server's Check, again and again, from the load's core."""

    def __init__(self, port: int, body: Path, *, tls: bool = False) -> None:
        """Prepare a load; nothing is sent yet.

        Args:
            port: Where the server listens, on loopback.
            body: File with the framed message.
            tls: Whether it speaks TLS; the certificate is not verified.

        Raises:
            LoadError: There is no h2load.
        """
        program = shutil.which("h2load")
        if program is None:
            raise LoadError("there is no h2load; Debian has it in nghttp2-client")
        scheme = "https" if tls else "http"
        self._command = [
            program,
            *("--data", str(body)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            # As a sidecar does; long enough for any queue.
            *("-H", "grpc-timeout: 9S"),
            f"{scheme}://127.0.0.1:{port}{CHECK_PATH}",
        ]

    def at_full_speed(self, seconds: float) -> Rate:
        """Send as fast as the server answers, with 64 requests in flight.

        Raises:
            LoadError: See `parse_rate`; a run in which nothing was answered was repeated.
        """
        for longer in _LONGER:
            with suppress(NothingAnsweredError):
                return self._at_full_speed(longer * seconds)
        return self._at_full_speed(_LONGER[-1] * seconds)

    def _at_full_speed(self, seconds: float) -> Rate:
        shape = ["-c", str(_CONNECTIONS), "-m", str(_STREAMS), "-D", f"{seconds * 1000:.0f}ms"]
        return parse_rate(self._run(shape))

    def latencies_us(self, per_second: int, seconds: float) -> list[int]:
        """Send at a fixed rate; give each request's time until its end, in microseconds.

        Args:
            per_second: A multiple of 100.
            seconds: How long.

        Raises:
            LoadError: See `parse_rate`.
        """
        connections = round(per_second * _BEAT_S)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "requests.tsv"
            shape = ["-c", str(connections), "--rps", f"{1 / _BEAT_S:.0f}"]
            shape += ["-n", str(round(per_second * seconds)), "--log-file", str(log)]
            shape += ["--rate", "1", "--rate-period", _OPENING_GAP]
            parse_rate(self._run(shape))
            return parse_latencies(log.read_text())

    def _run(self, shape: Sequence[str]) -> str:
        with pinned(LOAD_CORE):
            done = subprocess.run(
                [*self._command[:1], *shape, *self._command[1:]],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise LoadError(f"h2load failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def parse_rate(output: str) -> Rate:
    """Read the summary that h2load prints.

    Raises:
        LoadError: It has none, or requests failed: a rate of failures is no rate.
        NothingAnsweredError: All were still under way when it ended.
    """
    finished, requests = _FINISHED.search(output), _REQUESTS.search(output)
    if finished is None or requests is None:
        raise LoadError(f"h2load's output has no summary: {output[-200:]!r}")
    succeeded, *lost = (int(count) for count in requests.groups())
    if any(lost):
        raise LoadError(f"not every request was answered: {requests.group()}")
    if not succeeded:
        raise NothingAnsweredError("no request was answered in time")
    return Rate(float(finished.group(1)), succeeded)


def parse_latencies(log: str) -> list[int]:
    """Read h2load's log: start, HTTP status and duration in microseconds, a request a line.

    Raises:
        LoadError: A request failed.
    """
    rows = [line.split("\t") for line in log.splitlines()]
    if bad := [row for row in rows if row[1] != "200"]:
        raise LoadError(f"{len(bad)} of {len(rows)} requests failed, such as {bad[0]}")
    return [int(row[2]) for row in rows]


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of all are no larger than."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
