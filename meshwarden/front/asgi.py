"""What a front answers itself: Check, health and the HTTP endpoints, as one ASGI app.

The same app serves the HTTP endpoints where pyvoy can't run; Check is then grpcio's (control.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import perf_counter
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from authz.check import CheckService
from authz.errors import AuthzError
from meshwarden import metrics
from meshwarden.faults import fault_id
from meshwarden.front.bootstrap import RECEIVED_HEADER
from meshwarden.front.grpc_http import (
    OK_TRAILERS,
    START,
    FrameError,
    Receive,
    Scope,
    Send,
    frame,
    message_of,
    send_error,
    send_message,
    timeout_ns,
)
from meshwarden.health import Health, health_reply
from telemetry.record import DecisionRecord

__all__ = ["Front", "Limits"]

_RECEIVED = RECEIVED_HEADER.encode()
_CHECK = "/envoy.service.auth.v3.Authorization/Check"
_FRAME_BYTES = 64  # Room for a frame's prefix; the message's own limit is the service's.
# Far beyond any sidecar's patience: who stalls longer must not hold one of `inflight` places.
_BODY_TIMEOUT_S = 5.0
_MAX_HEALTH_BYTES = 4096  # A service's name; whoever sends more isn't asking about health.


class Limits(msgspec.Struct, frozen=True):
    """Bounds on what one process takes on.

    Attributes:
        inflight: Checks begun and not yet answered.
        body_bytes: Bytes of one call's body.
        bodies_bytes: Bytes of all bodies that are being gathered at once.
        inflated_bytes: Bytes of a message after decompression.
    """

    inflight: int
    body_bytes: int
    inflated_bytes: int
    bodies_bytes: int = 64 * 1024 * 1024


class Front:
    """The ASGI app of one process."""

    def __init__(
        self,
        service: CheckService[DecisionRecord],
        health: Health,
        limits: Limits,
        counts: metrics.CheckCounts,
        now_ns: Callable[[], int],
    ) -> None:
        self._service = service
        self._health = health
        self._limits = limits
        self._counts = counts
        self._now_ns = now_ns
        self._inflight = 0
        self._gathered_bytes = 0
        self._other: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
            "/grpc.health.v1.Health/Check": self._health_check,
            "/grpc.health.v1.Health/Watch": self._health_watch,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one call: gives the coroutine that does it, without one around it."""
        if scope["path"] == _CHECK:
            return self._check(scope, receive, send)
        return self._other_than_check(scope, receive, send)

    async def _other_than_check(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if (handler := self._other.get(path)) is not None:
            await handler(scope, receive, send)
        elif path.startswith(("/envoy.", "/grpc.")):
            await send_error(send, "UNIMPLEMENTED", f"no method {path}")
        else:
            await _plain(send, 404, b"not found\n")

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        inflight = self._inflight
        if inflight >= self._limits.inflight:
            await self._refuse(send, "RESOURCE_EXHAUSTED", "too many checks at once")
            return
        self._inflight = inflight + 1
        try:
            try:
                # A timer costs 5 us and nearly every body is here already, whole: the first piece
                # gets one only while places are scarce. Callers who stall then hold half at most.
                if inflight < self._limits.inflight // 2:
                    message = await receive()
                else:
                    message = await _in_time(receive())
                body = message.get("body", b"")
                if message.get("more_body"):
                    body = await _in_time(self._gather(body, receive, self._limits.body_bytes))

                headers = dict(scope["headers"])
                now_ns = self._now_ns()
                timeout = headers.get(b"grpc-timeout")
                if timeout is not None:
                    _check_deadline(timeout, headers, now_ns)

                started = perf_counter()
                encoding = headers.get(b"grpc-encoding")
                request = message_of(body, self._limits.inflated_bytes, encoding)
                answer = self._service.answer(request, now_ns)
                self._counts.time(perf_counter() - started)
            except (FrameError, AuthzError) as error:
                await self._refuse(send, error.code, str(error))
                return
            except Exception as error:  # noqa: BLE001 - the edge: anything else is a fault of ours
                told = fault_id(error)
                fault = self._service.fault()
                if fault is None:
                    await self._refuse(send, "INTERNAL", told)
                    return
                self._counts.error("INTERNAL")
                answer = fault
            # `send_message` without a coroutine of its own.
            await send(START)
            await send({"type": "http.response.body", "body": frame(answer)})
            await send(OK_TRAILERS)
        finally:
            self._inflight -= 1

    async def _gather(self, first: bytes, receive: Receive, most_bytes: int) -> bytes:
        """Collect a body that came in pieces.

        Raises:
            FrameError: It is larger than we take.
        """
        pieces, size = [first], len(first)
        self._gathered_bytes += size
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return b""
                piece = message.get("body", b"")
                size += len(piece)
                self._gathered_bytes += len(piece)
                if size > most_bytes + _FRAME_BYTES:
                    raise FrameError("RESOURCE_EXHAUSTED", "the message is too large")
                # The places are many: all of them filled at once must not take the memory.
                if self._gathered_bytes > self._limits.bodies_bytes:
                    raise FrameError("RESOURCE_EXHAUSTED", "too many large messages at once")
                pieces.append(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
        finally:
            self._gathered_bytes -= size

    async def _refuse(self, send: Send, code: str, message: str) -> None:
        self._counts.error(code)
        await send_error(send, code, message)

    async def _health_check(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        service = await self._asked_service(receive, send)
        if service is None:
            return
        self._health.refresh()
        reply = health_reply(service, self._health)
        if reply is None:
            await send_error(send, "NOT_FOUND", f"no service {service!r} here")
        else:
            await send_message(send, reply)

    async def _health_watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        service = await self._asked_service(receive, send)
        if service is None:
            return
        await send(START)
        gone = asyncio.ensure_future(_disconnected(receive))
        last = None
        try:
            while not gone.done():
                changed = asyncio.ensure_future(self._health.changed.wait())
                # An unknown name is told as such and watched on: it may be known after a reload.
                reply = health_reply(service, self._health) or _SERVICE_UNKNOWN
                if reply != last:
                    last = reply
                    await send(
                        {"type": "http.response.body", "body": frame(reply), "more_body": True}
                    )
                await asyncio.wait({gone, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            gone.cancel()

    async def _asked_service(self, receive: Receive, send: Send) -> str | None:
        """Read a HealthCheckRequest; None when it was refused already."""
        try:
            body = await _in_time(self._gather(b"", receive, _MAX_HEALTH_BYTES))
            message = message_of(body, _MAX_HEALTH_BYTES)
            return str(health_pb2.HealthCheckRequest.FromString(message).service)
        except FrameError as error:
            await send_error(send, error.code, str(error))
        except DecodeError:
            await send_error(send, "INVALID_ARGUMENT", "not a HealthCheckRequest")
        return None

    async def _healthz(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer that this process is alive, ready or not."""
        del scope, receive
        await _plain(send, 200, b"ok\n")

    async def _readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        self._health.refresh()
        trouble = self._health.trouble
        await _plain(send, 503 if trouble else 200, f"{trouble or 'ready'}\n".encode())

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        service = self._service
        self._counts.flush(service.verdicts, service.counts, service.shadow.outcomes)
        await _plain(send, 200, metrics.exposition(), metrics.CONTENT_TYPE.encode())


T = TypeVar("T")


async def _in_time(work: Awaitable[T]) -> T:
    """Wait for a body, but not for ever.

    Raises:
        FrameError: It did not come in time.
    """
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            return await work
    except TimeoutError:
        raise FrameError("RESOURCE_EXHAUSTED", "the message did not come in time") from None


def _check_deadline(timeout: bytes, headers: Mapping[bytes, bytes], now_ns: int) -> None:
    """Make sure that somebody still waits: else the time is better spent on the next call.

    Raises:
        FrameError: The caller's deadline has passed since Envoy received the call.
    """
    budget_ns, received = timeout_ns(timeout), headers.get(_RECEIVED)
    if budget_ns is None or received is None:
        return
    if now_ns - int(received) * 1000 > budget_ns:
        raise FrameError("RESOURCE_EXHAUSTED", "the deadline passed in our queue")


_SERVICE_UNKNOWN: bytes = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.ServingStatus.SERVICE_UNKNOWN
).SerializeToString()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _plain(
    send: Send, status: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8"
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
