"""The baseline of Check: a grpc.aio server, as people write one, that answers a constant.

It reads no attribute and decides nothing; what it costs is Python's own gRPC server and nothing
else. Generated servicer, asyncio's own loop, no option set.

Run as `python -m benchmarks.baseline PORT [CERTIFICATE KEY TLS_PORT]`.
"""

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio
from typing_extensions import override

from protos.envoy.service.auth.v3 import external_auth_pb2_grpc
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

__all__ = ["main"]

_ANSWER = CheckResponse(ok_response={})


class _Authorization(external_auth_pb2_grpc.AuthorizationServicer):
    @override
    async def Check(
        self,
        request: CheckRequest,
        context: "grpc.aio.ServicerContext[CheckRequest, CheckResponse]",
    ) -> CheckResponse:
        return _ANSWER


async def _serve(port: int, tls: tuple[Path, Path, int] | None) -> None:
    server = grpc.aio.server()
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(_Authorization(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    if tls is not None:
        certificate, key, tls_port = tls
        pair = (key.read_bytes(), certificate.read_bytes())
        server.add_secure_port(f"127.0.0.1:{tls_port}", grpc.ssl_server_credentials([pair]))
    await server.start()
    await server.wait_for_termination()


def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    port, *rest = arguments
    tls = (Path(rest[0]), Path(rest[1]), int(rest[2])) if rest else None
    asyncio.run(_serve(int(port), tls))


if __name__ == "__main__":
    main(sys.argv[1:])
