"""Where a front that starts has the public port's certificate from.

Envoy can't take a secret from a second place, so each start decides: from control by a stream, or
from the kept files while control is away; they are renewed when it is back. Where control goes
between that look and Envoy's first question, that front opens when control is back, or is started
again, by the files, once it is late; until then the others serve.
"""

import asyncio
import logging
from pathlib import Path

from meshwarden.files import CLIENTS_SDS, SERVER_SDS, RuntimeDir
from meshwarden.front.tls import TlsFiles, TlsSecrets
from meshwarden.settings import Tls

__all__ = ["PortSecrets"]

_LOG = logging.getLogger(__name__)
_POLL_S = 0.05
_PATIENCE_S = 10.0
_GREETING_S = 1.0


class PortSecrets:
    """The public port's TLS, as a front is told of it."""

    def __init__(self, tls: Tls, runtime: RuntimeDir) -> None:
        self._tls = tls
        self._runtime = runtime

    async def source(self) -> TlsFiles | TlsSecrets | None:
        """Choose for a front that starts now; None serves plain text."""
        tls = self._tls
        if tls.svid:
            is_there = await _is_greeted(self._runtime.internal_socket)
            return TlsSecrets(
                *self._kept(),
                internal_socket=self._runtime.internal_socket if is_there else None,
                client_ca=tls.client_ca,
                require_client_certificate=tls.require_client_certificate,
            )
        if tls.certificate and tls.key:
            return TlsFiles(tls.certificate, tls.key, tls.client_ca, tls.require_client_certificate)
        return None

    async def wait(self, name: str, patience_s: float) -> None:
        """Wait for somebody who has the port's certificate: control, or files that it has kept.

        A front must not need control to start, so files do, after `patience_s`; Envoy refuses one
        that isn't there.

        Args:
            name: The front's, for the log.
            patience_s: How long control is awaited although there are files.
        """
        if not self._tls.svid:
            return
        loop = asyncio.get_running_loop()
        started_s = told_s = loop.time()
        while not await _is_greeted(self._runtime.internal_socket):
            now_s = loop.time()
            is_kept = all(file.exists() for file in self._kept())
            if is_kept and now_s - started_s >= patience_s:
                return
            if now_s - told_s >= _PATIENCE_S:
                _LOG.warning("%s waits for control to issue the port's certificate", name)
                told_s = now_s
            await asyncio.sleep(_POLL_S)

    def _kept(self) -> tuple[Path, Path]:
        return self._runtime.secret(SERVER_SDS), self._runtime.secret(CLIENTS_SDS)


async def _is_greeted(socket: Path) -> bool:
    """Whether a gRPC server is there and alive: it speaks first.

    Source: RFC 9113, section 3.4.
    """
    try:
        async with asyncio.timeout(_GREETING_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                return bool(await reader.read(1))
            finally:
                writer.close()
    except OSError:  # The time-out is one too.
        return False
