"""What stands behind a sidecar: says back, whole, what got through to it."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from typing_extensions import override

__all__ = ["Upstream", "serve"]

_MAX_LINE_BYTES = 16 * 1024 * 1024


class _Echo(socketserver.StreamRequestHandler):
    """HTTP/1.1 without the limits of http.server, which takes 100 headers at most.

    The answer is JSON: method, path, headers as a list of pairs, and the body's length.
    """

    @override
    def handle(self) -> None:
        # Keep-alive: Envoy holds its connections open.
        while line := self.rfile.readline(_MAX_LINE_BYTES):
            method, path, _ = line.decode("latin-1").split(" ")
            headers = []
            while (line := self.rfile.readline(_MAX_LINE_BYTES)) not in {b"\r\n", b""}:
                name, _, value = line.decode("latin-1").partition(":")
                headers.append((name.lower(), value.strip()))
            body_bytes = self._read_body(dict(headers))
            body = json.dumps(
                {"method": method, "path": path, "headers": headers, "body_bytes": body_bytes}
            ).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nx-upstream: yes\r\n\r\n"
            self.wfile.write(head.encode() + (b"" if method == "HEAD" else body))

    def _read_body(self, headers: dict[str, str]) -> int:
        if headers.get("transfer-encoding") != "chunked":
            return len(self.rfile.read(int(headers.get("content-length", 0))))
        size = 0
        while chunk_bytes := int(self.rfile.readline(), 16):
            size += len(self.rfile.read(chunk_bytes))
            self.rfile.readline()
        self.rfile.readline()
        return size


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


class _GrpcEcho(grpc.GenericRpcHandler):  # type: ignore[type-arg] # no generic at run time
    """Answers any unary method with the bytes it was sent."""

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        del handler_call_details
        echo: Callable[[bytes, grpc.ServicerContext], bytes] = lambda message, _: message  # noqa: E731
        return grpc.unary_unary_rpc_method_handler(echo)


class Upstream:
    """The ports of both servers, on 127.0.0.1."""

    def __init__(self, http_port: int, grpc_port: int) -> None:
        self.http_port = http_port
        self.grpc_port = grpc_port


@contextmanager
def serve() -> Iterator[Upstream]:
    """Serve HTTP/1.1 and gRPC on free loopback ports until the block ends."""
    http_server = _Server(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=http_server.serve_forever, args=(0.05,), name="upstream")
    thread.start()
    with ThreadPoolExecutor(4) as pool:
        grpc_server = grpc.server(pool, handlers=[_GrpcEcho()])
        grpc_port = grpc_server.add_insecure_port("127.0.0.1:0")
        grpc_server.start()
        try:
            yield Upstream(http_server.server_address[1], grpc_port)
        finally:
            grpc_server.stop(None).wait()
            http_server.shutdown()
            thread.join()
            http_server.server_close()
