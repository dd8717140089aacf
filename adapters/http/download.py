"""One file from an HTTP or HTTPS server, by a deadline, up to a size, or nothing at all.

The standard library's client is enough for a GET; what it leaves open is here: a deadline over
everything, not over each read; a limit on the body; redirects that never leave TLS and never carry
a secret to another server.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import SplitResult, urljoin, urlsplit

__all__ = ["Answer", "Download", "DownloadError", "shown"]

_REDIRECTS = 5
_SPARE_S = 1.0
_READ_BYTES = 64 * 1024
_ETAG_CHARACTERS = 512
_PORTS = {"http": 80, "https": 443}
_MOVED = frozenset({301, 302, 303, 307, 308})
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class DownloadError(OSError):
    """The file can't be had now; the message says why, and the caller may try again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent.

    Attributes:
        body: The file; None where it is still the one of the caller's ETag.
        etag: The server's name for this state of the file; "" where it gives none.
    """

    body: bytes | None
    etag: str = ""


@dataclass(slots=True, eq=False)
class _Attempt:
    """One call of `get`: what ends it from outside.

    Attributes:
        connection: The open socket, None before and after.
        response: What reads from it, likewise; the socket stays open until this is closed too.
        end: Why it was ended; "" while it goes on.
    """

    connection: socket.socket | None = None
    response: http.client.HTTPResponse | None = None
    end: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, reason: str) -> None:
        """End it: what waits on the socket, in another thread, gets an error at once."""
        with self.lock:
            self.end = self.end or reason
            if self.connection is not None:
                _shut(self.connection)

    def take(self, connection: socket.socket) -> None:
        """Make a socket the one that is ended.

        Raises:
            DownloadError: It is over already.
        """
        with self.lock:
            self.connection = connection
            if self.end:
                raise DownloadError(self.end)

    def drop(self) -> None:
        """Close the socket."""
        with self.lock:
            for each in (self.response, self.connection):
                if each is not None:
                    each.close()
            self.response = self.connection = None


class Download:
    """Gets files; one instance may be used from several threads.

    Args:
        timeout_s: For the whole of a `get`, looking up the name excepted.
        max_bytes: Largest body.
        context: For HTTPS; None for the system's authorities.
    """

    def __init__(
        self, timeout_s: float, max_bytes: int, context: ssl.SSLContext | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._context = context or ssl.create_default_context()
        self._attempts: set[_Attempt] = set()
        self._closed = False

    def get(self, url: str, etag: str = "", secret: Mapping[str, str] | None = None) -> Answer:
        """Get a file, or learn that it is the same as before.

        Args:
            url: HTTP or HTTPS.
            etag: The state that the caller has; "" for none.
            secret: Headers for this server alone; a redirect to another one doesn't get them.

        Raises:
            DownloadError: It can't be had; a part of it is nothing.
        """
        if self._closed:
            raise DownloadError(f"{shown(url)}: not asked any more: the service is stopping")
        attempt = _Attempt()
        self._attempts.add(attempt)
        late = f"no whole answer within {self._timeout_s:g} s"
        timer = threading.Timer(self._timeout_s, attempt.stop, [late])
        timer.daemon = True
        timer.start()
        try:
            answer = self._follow(attempt, url, etag, secret or {})
            # A head that is cut off looks like a whole one to http.client.
            if attempt.end:
                raise DownloadError(attempt.end)
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = attempt.end or _words(error)
            raise DownloadError(f"{shown(url)}: {said}") from error
        finally:
            timer.cancel()
            attempt.drop()
            self._attempts.discard(attempt)
        return answer

    def close(self) -> None:
        """End what is under way and refuse what comes; a stop waits for no server."""
        self._closed = True
        for attempt in tuple(self._attempts):
            attempt.stop("not waited for: the service is stopping")

    def _follow(self, attempt: _Attempt, url: str, etag: str, secret: Mapping[str, str]) -> Answer:
        first = urlsplit(url)
        here = first
        for _ in range(_REDIRECTS + 1):
            headers = {"Host": here.netloc, "Accept-Encoding": "identity", "Connection": "close"}
            headers["User-Agent"] = "meshwarden"
            if etag:
                headers["If-None-Match"] = etag
            if _origin(here) == _origin(first):
                headers.update(secret)
            response = self._ask(attempt, here, headers)
            if response.status in _MOVED:
                here = _moved(here, response)
                attempt.drop()
                continue
            return self._answer(response, etag)
        raise DownloadError(f"redirects more than {_REDIRECTS} times")

    def _ask(
        self, attempt: _Attempt, url: SplitResult, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        host, port = _origin(url)[1:]
        connection = socket.create_connection((host, port), timeout=self._timeout_s)
        # From here on the deadline is what ends it; this is for a clock that stands still.
        connection.settimeout(self._timeout_s + _SPARE_S)
        attempt.take(connection)
        if url.scheme == "https":
            # The handshake waits for the server too, so the socket is known before it.
            secured = self._context.wrap_socket(
                connection, server_hostname=host, do_handshake_on_connect=False
            )
            attempt.take(secured)
            secured.do_handshake()
            connection = secured
        client = http.client.HTTPConnection(host, port)
        client.sock = connection
        target = url.path or "/"
        client.request("GET", f"{target}?{url.query}" if url.query else target, headers=headers)
        attempt.response = client.getresponse()
        return attempt.response

    def _answer(self, response: http.client.HTTPResponse, etag: str) -> Answer:
        if response.status == HTTPStatus.NOT_MODIFIED and etag:
            return Answer(None, etag)
        if response.status != HTTPStatus.OK:
            hint = ""
            if response.status in _REFUSED:
                hint = ": does it need a token, or another one?"
            raise DownloadError(f"the server answers {response.status} {response.reason}{hint}")
        found = response.headers.get("ETag", "")
        if len(found) > _ETAG_CHARACTERS or not found.isprintable():
            found = ""
        return Answer(self._body(response), found)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        told = response.length
        parts: list[bytes] = []
        size = 0
        if told is not None and told > self._max_bytes:
            raise DownloadError(f"is larger than {self._max_bytes} bytes: {told}")
        while part := response.read1(_READ_BYTES):
            size += len(part)
            if size > self._max_bytes:
                raise DownloadError(f"is larger than {self._max_bytes} bytes")
            parts.append(part)
        # Reading in parts, http.client takes an early end for the end.
        if told is not None and size != told:
            raise DownloadError(f"ended after {size} of {told} bytes")
        return b"".join(parts)


def shown(url: str) -> str:
    """A URL for people and logs: without its query, where signed URLs have their secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _origin(url: SplitResult) -> tuple[str, str, int]:
    if not url.hostname:
        raise DownloadError("names no server")
    return url.scheme, url.hostname, url.port or _PORTS[url.scheme]


def _moved(here: SplitResult, response: http.client.HTTPResponse) -> SplitResult:
    """Where a redirect leads: over TLS anywhere, without TLS only on the same server.

    Raises:
        DownloadError: Elsewhere.
    """
    there = urlsplit(urljoin(here.geturl(), response.headers.get("Location", "")))
    if there.scheme not in _PORTS or not there.hostname or there.username is not None:
        raise DownloadError("redirects to what is no HTTP URL")
    name = shown(there.geturl())
    if here.scheme == "https" and there.scheme != "https":
        raise DownloadError(f"redirects from https to {name}, which is refused")
    if here.scheme == "http" and there.hostname != here.hostname:
        raise DownloadError(f"redirects from http to another server, {name}, which is refused")
    return there


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Of a TLS socket too this ends the bare one: what reads it sees its end.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    """What went wrong, without numbers that only a programmer knows."""
    match error:
        case ssl.SSLCertVerificationError():
            said = f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            said = f"no TLS connection: {error.reason or error}"
        case TimeoutError():
            said = "no answer in time"
        case http.client.IncompleteRead():
            said = "ended in the middle"
        case http.client.BadStatusLine():
            said = "the server does not speak HTTP"
        case OSError() if error.strerror:
            said = error.strerror
        case _:
            said = " ".join(str(error).split())
    return said or type(error).__name__
