"""Check without pyvoy: control's own grpcio server on the public port.

For machines where Envoy can't embed Python. The same Decider answers; only the transport differs:
gRPC by grpcio, and the HTTP endpoints on a port of their own, since grpcio can't share one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import grpc
import grpc.aio
import uvicorn
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from typing_extensions import override

from authz.errors import AuthzError
from meshwarden import clock, metrics
from meshwarden.caller import Caller, certificate_sha256, only_spiffe_id
from meshwarden.control.access import AccessInterceptor, Gate
from meshwarden.control.decision_log import DecisionLog
from meshwarden.control.needs import GUARDED_SERVICES
from meshwarden.control.servers import MAX_MESSAGE_BYTES, REFLECTED, SERVER_OPTIONS, Guarded
from meshwarden.decider import Decider
from meshwarden.faults import fault_id
from meshwarden.files import RuntimeDir
from meshwarden.front.grpc_http import Receive, Scope, Send
from meshwarden.health import Health, health_reply
from meshwarden.settings import Settings, Tls
from telemetry.record import DecisionRecord, record_line

if TYPE_CHECKING:
    # It loads what signs, and most services issue nothing.
    from meshwarden.control.identity.serving import Serving

__all__ = ["GrpcioEdge", "caller_on_connection"]

_LOG = logging.getLogger(__name__)
_FLUSH_S = 0.2
_NAME = "grpcio"
_HTTP_PATHS = ("/healthz", "/readyz", "/metrics")
_Context = grpc.aio.ServicerContext[Any, Any]

# Sidecars look every 30 s or so whether we live; gRPC's own five minutes would cut quiet ones off.
_PINGS_APART_MS = 10_000


class GrpcioEdge:
    """The public port, served by grpcio inside control."""

    def __init__(  # noqa: PLR0913, PLR0917 - what control has, one by one
        self,
        settings: Settings,
        runtime: RuntimeDir,
        log: DecisionLog,
        guarded: Sequence[Guarded],
        gate: Gate | None,
        serving: "Serving | None" = None,
    ) -> None:
        """Serve nothing yet.

        Args:
            settings: All of them.
            runtime: Where processes meet.
            log: Takes decision records.
            guarded: Services behind the gate.
            gate: Whom their callers have to pass; None serves none of them.
            serving: The port's own certificate; None where it comes from files.
        """
        self._serving = serving
        self._settings = settings
        self._guarded = guarded if gate else ()
        self._log = log
        self._pending: list[DecisionRecord] = []
        self._dropped = 0
        self._decider = Decider(settings, runtime, _NAME, 0, self._offer)
        largest = max(2 * settings.check.max_request_bytes, MAX_MESSAGE_BYTES if gate else 0)
        self._server = grpc.aio.server(
            interceptors=[AccessInterceptor(gate)] if gate else [],
            options=(
                *SERVER_OPTIONS,
                ("grpc.max_receive_message_length", largest),
                ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_APART_MS),
            ),
        )
        address = settings.fallback.http_address
        self._http = _Http(
            uvicorn.Config(
                self._http_app,
                interface="asgi3",  # uvicorn takes a bound method for ASGI 2
                host=address.host,
                port=address.port,
                log_config=None,
                lifespan="off",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )

    def add(self, handlers: Sequence[Any]) -> None:
        """Serve more, before `run`."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    async def run(self) -> None:
        """Serve from the moment a policy is in force, until cancelled."""
        await self._decider.start()
        self._add_services()
        address = str(self._settings.listen.address)
        tls = self._settings.listen.tls
        if not tls.is_on:
            self._server.add_insecure_port(address)
        else:
            if self._serving is not None:
                await self._serving.ready.wait()
                credentials = _own_credentials(self._serving, tls)
            else:
                credentials = _credentials(self._settings)
            self._server.add_secure_port(address, credentials)
            if self._guarded and (tls.client_ca or tls.svid) and not tls.require_client_certificate:
                _LOG.warning(
                    "served by grpcio, which asks for a client certificate only where it requires "
                    "one: remote callers of the admin API need a token, or set "
                    "listen.tls.require_client_certificate"
                )
        await self._server.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._decider.run())
            group.create_task(self._http.serve())
            group.create_task(self._log_records())

    async def stop(self) -> None:
        """Refuse new calls and finish those in flight, within the drain time."""
        self._decider.health.refresh()
        await self._server.stop(self._settings.server.drain_s)
        self._http.should_exit = True
        self._flush_records()
        self._decider.flush()

    def _add_services(self) -> None:
        # Identity stays away: it believes a header that only a front of ours overwrites.
        health_pb2_grpc.add_HealthServicer_to_server(
            _HealthService(self._decider.health), self._server
        )
        for add, service in self._guarded:
            add(service, self._server)
        told = (*REFLECTED, *GUARDED_SERVICES) if self._guarded else REFLECTED
        reflection.enable_server_reflection(told, self._server)
        # No (de)serialiser: the edge takes bytes and gives bytes.
        check = grpc.unary_unary_rpc_method_handler(self._check)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "envoy.service.auth.v3.Authorization", {"Check": check}
                ),
            )
        )

    async def _check(self, request: bytes, context: _Context) -> bytes:
        remaining_s: float | None = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            await self._refuse(context, "RESOURCE_EXHAUSTED", "the deadline passed in our queue")
        # No count of checks in flight: one is answered without a wait, so there is never a second.
        started_s = clock.monotonic_s()
        try:
            answer = self._decider.service.answer(request, clock.now_ns())
        except AuthzError as error:
            await self._refuse(context, error.code, str(error))
        except Exception as error:  # noqa: BLE001 - the edge: anything else is a fault of ours
            told = fault_id(error)
            fault = self._decider.service.fault()
            if fault is None:
                await self._refuse(context, "INTERNAL", told)
            self._decider.counts.error("INTERNAL")
            return fault
        self._decider.counts.time(clock.monotonic_s() - started_s)
        return answer

    async def _refuse(self, context: _Context, code: str, message: str) -> NoReturn:
        self._decider.counts.error(code)
        await context.abort(getattr(grpc.StatusCode, code), message)
        raise AssertionError("abort always raises")

    async def _http_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The HTTP endpoints only: Check over HTTP/1.1 is no gRPC."""
        if scope["path"] in _HTTP_PATHS:
            await self._decider.app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not found\n"})

    def _offer(self, record: DecisionRecord) -> None:
        if len(self._pending) >= self._settings.decisions.queue_records:
            self._dropped += 1
        else:
            record.front = _NAME
            self._pending.append(record)

    async def _log_records(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._flush_records()

    def _flush_records(self) -> None:
        pending, self._pending = self._pending, []
        dropped, self._dropped = self._dropped, 0
        logged = self._log.append([record_line(each) for each in pending])
        metrics.RECORDS.labels("logged").inc(logged)
        metrics.RECORDS.labels("dropped").inc(dropped + len(pending) - logged)


class _Http(uvicorn.Server):
    """A uvicorn that leaves signals to the process it runs in."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1 over grpcio, from the same word of truth."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: Any, context: _Context) -> Any:  # noqa: N802 - the protocol's
        self._health.refresh()
        reply = health_reply(request.service, self._health)
        if reply is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse.FromString(reply or b"")

    async def Watch(self, request: Any, context: _Context) -> None:  # noqa: N802
        kinds = health_pb2.HealthCheckResponse.ServingStatus
        last = None
        while True:
            changed = self._health.changed  # Before the look: no change falls between.
            reply = health_reply(request.service, self._health)
            if reply is None:
                reply = health_pb2.HealthCheckResponse(
                    status=kinds.SERVICE_UNKNOWN
                ).SerializeToString()
            if reply != last:
                last = reply
                await context.write(health_pb2.HealthCheckResponse.FromString(reply))
            await changed.wait()


def caller_on_connection(context: _Context) -> Caller:
    """Read who calls off the connection itself: here is no front, and no header to believe."""
    kind, _, address = unquote(context.peer() or "").partition(":")
    proof = context.auth_context()
    certificates = [*proof.get("x509_pem_cert", ())]
    source = address.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else ""
    spiffe_id = only_spiffe_id(certificates[0]) if len(certificates) == 1 else ""
    return Caller(
        spiffe_id=spiffe_id,
        source_ip=source.removeprefix("::ffff:"),
        tls=b"ssl" in proof.get("transport_security_type", ()),
        certificate_sha256=certificate_sha256(certificates[0]) if spiffe_id else b"",
    )


def _own_credentials(serving: "Serving", tls: Tls) -> grpc.ServerCredentials:
    """Credentials that each handshake looks up anew."""
    last: list[object] = [None]
    ca = tls.client_ca.read_bytes() if tls.client_ca else None

    def configuration() -> grpc.ServerCertificateConfiguration:
        assert serving.pem is not None  # noqa: S101 - it was waited for
        last[0] = serving.pem, serving.roots_pem
        return grpc.ssl_server_certificate_configuration(
            [serving.pem], root_certificates=ca or serving.roots_pem
        )

    def newer() -> grpc.ServerCertificateConfiguration | None:
        return None if last[0] == (serving.pem, serving.roots_pem) else configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        newer,  # type: ignore[arg-type]  # None keeps what is in force: grpcio's documentation
        require_client_authentication=tls.require_client_certificate,
    )


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    tls = settings.listen.tls
    if tls.certificate is None or tls.key is None:
        raise ValueError("listen.tls.certificate and .key come together")
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=tls.client_ca.read_bytes() if tls.client_ca else None,
        require_client_auth=tls.require_client_certificate,
    )
