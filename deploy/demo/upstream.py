"""The service behind the sidecar: it answers whatever gets through to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override

__all__ = ["serve"]


class Echo(BaseHTTPRequestHandler):
    """Says back what it was asked."""

    # Keep-alive: Envoy holds its connections open.
    protocol_version = "HTTP/1.1"
    # Head and body in one write: as two, the second would wait 40 ms for an acknowledgement.
    wbufsize = -1

    def __getattr__(self, name: str) -> Any:
        """Answer every method alike: the base class looks for do_GET, do_POST and so on."""
        if name.startswith("do_"):
            return self._echo
        raise AttributeError(name)

    def _echo(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b"" if self.command == "HEAD" else f"{self.command} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the sidecar's access log has it all."""


@contextmanager
def serve() -> Iterator[int]:
    """Serve on a free loopback port, which is yielded, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="upstream")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
