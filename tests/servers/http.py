"""A web server in this process that answers as a test wants it to, and notes what it was asked."""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Handler", "Reply", "WebServer", "web_server"]

Handler = BaseHTTPRequestHandler
Reply = Callable[[Handler], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: "WebServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what is tested."""


class WebServer:
    """Serves one file with an ETag, until told to do something else.

    Attributes:
        port: Where, on 127.0.0.1.
        content: The file.
        has_etag: Whether it names its state.
        reply: Answers in place of all that, if set.
        seen: Path, headers and status of each request, in order; status 0 where `reply` answered.
    """

    def __init__(self, content: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        self.content = content
        self.has_etag = True
        self.reply: Reply | None = None
        self.seen: list[tuple[str, Mapping[str, str], int]] = []
        self._context = context
        self._server: _Server | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/policy.tar.gz"

    @property
    def statuses(self) -> list[int]:
        """What was answered, in order."""
        return [status for _, _, status in self.seen]

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.owner = self
        self.port = self._server.server_address[1]
        if self._context is not None:
            self._server.socket = self._context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer as the owner says."""
        owner = self.server.owner
        if owner.reply is not None:
            owner.seen.append((self.path, dict(self.headers), 0))
            owner.reply(self)
            return
        content = owner.content
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"' if owner.has_etag else ""
        is_same = bool(etag) and self.headers.get("If-None-Match") == etag
        owner.seen.append((self.path, dict(self.headers), 304 if is_same else 200))
        self.send_response(304 if is_same else 200)
        if etag:
            self.send_header("ETag", etag)
        if not is_same:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not is_same:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Keep the tests' output theirs."""


@contextmanager
def web_server(content: bytes = b"", context: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """Run a server until the `with` ends."""
    server = WebServer(content, context)
    try:
        yield server
    finally:
        server.stop()
