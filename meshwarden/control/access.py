"""Stands before every service that changes or tells something: who may call which method.

One interceptor on each server that has such services. On the admin socket the socket is the
authority; on the public port a gate asks for a credential and has the admin policy decide. It
judges before it reads the message: who may not call can't make control hold 64 MB either.
"""

import getpass
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
import grpc.aio
from typing_extensions import override

from authz.errors import AuthzError
from meshwarden.control.needs import NEEDS, OPEN_SERVICES, needed
from meshwarden.control.who import LOCAL, Who, set_who
from meshwarden.faults import fault_id

__all__ = [
    "NEEDS",
    "OPEN_SERVICES",
    "AccessInterceptor",
    "Gate",
    "LocalGate",
    "needed",
]

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # Generic to type checkers only.
_Details = grpc.HandlerCallDetails


class Gate(Protocol):
    """Tells who calls, or refuses."""

    async def admit(self, method: str, context: _Context) -> Who:
        """Let one call in.

        Raises:
            AuthzError: It may not come in; the message says why, and is for the caller's eyes.
        """
        ...


class LocalGate(Gate):
    """Lets everybody in: whoever can open the admin socket is the service's own user, or root."""

    def __init__(self) -> None:
        self._owner = Who(f"local:{getpass.getuser()}", LOCAL, is_local=True)

    @override
    async def admit(self, method: str, context: _Context) -> Who:
        return self._owner


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # likewise
    """Puts a gate before each method of a guarded service, and answers for what goes wrong in it.

    Errors of ours become their own codes here, in one place; anything else is INTERNAL with an id,
    and bytes that are no message are INVALID_ARGUMENT, which grpcio itself would call a fault.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @override
    async def intercept_service(
        self,
        continuation: Callable[[_Details], Awaitable[_Handler]],
        handler_call_details: _Details,
    ) -> _Handler:
        # None is a method that isn't there, which the stubs don't know of.
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.split("/")[1] in OPEN_SERVICES:
            return handler  # type: ignore[no-any-return]
        return _Guarded(self._gate, method, handler).handler()


class _UnreadableError(Exception):
    """The bytes are no message of the method's type."""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for such bytes until the call's own code can answer."""

    why: str


class _Guarded:
    """One method behind the gate.

    It takes its messages as a stream, whichever kind it is: the wire knows no difference, and a
    stream is not read before its code asks for a message.
    """

    def __init__(self, gate: Gate, method: str, handler: Any) -> None:
        self._gate = gate
        self._method = method
        self._inner = handler
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        self._call: Any = next(filter(None, (getattr(handler, kind) for kind in kinds)))

    def handler(self) -> _Handler:
        """Give what grpcio calls."""
        how = (self._deserialized, self._inner.response_serializer)
        if not self._inner.response_streaming:
            return grpc.stream_unary_rpc_method_handler(self._answer, *how)
        if inspect.isasyncgenfunction(self._call):
            return grpc.stream_stream_rpc_method_handler(self._answers, *how)
        return grpc.stream_stream_rpc_method_handler(self._answer, *how)

    def _deserialized(self, message: bytes) -> Any:
        deserialize = self._inner.request_deserializer
        try:
            return deserialize(message) if deserialize else message
        except Exception as error:  # noqa: BLE001 - protobuf's own, which has no fixed class
            return _Unreadable(str(error))

    async def _answer(self, messages: AsyncIterator[Any], context: _Context) -> Any:
        try:
            return await self._call(await self._admitted(messages, context), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: told in `_abort`
            await self._abort(context, error)

    async def _answers(self, messages: AsyncIterator[Any], context: _Context) -> AsyncIterator[Any]:
        try:
            async for answer in self._call(await self._admitted(messages, context), context):
                yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - likewise
            await self._abort(context, error)

    async def _admitted(self, messages: AsyncIterator[Any], context: _Context) -> Any:
        # Step 1: who calls, and may they? Step 2: only then is what they say read.
        set_who(context, await self._gate.admit(self._method, context))
        readable = self._readable(messages, context)
        if self._inner.request_streaming:
            return readable
        async for message in readable:
            return message
        raise _UnreadableError("the call ended without its message")

    async def _readable(
        self, messages: AsyncIterator[Any], context: _Context
    ) -> AsyncIterator[Any]:
        is_first = True
        async for message in messages:
            if is_first:
                # Step 3: whoever holds back what he says may have lost his role meanwhile.
                set_who(context, await self._gate.admit(self._method, context))
                is_first = False
            if isinstance(message, _Unreadable):
                raise _UnreadableError(message.why)
            yield message

    async def _abort(self, context: _Context, error: Exception) -> NoReturn:
        match error:
            case AuthzError():
                code, told = error.code, str(error)
            case _UnreadableError():
                code, told = "INVALID_ARGUMENT", f"no message of {self._method}: {error}"
            case _:
                code, told = "INTERNAL", fault_id(error)
        await context.abort(getattr(grpc.StatusCode, code), told)
        raise AssertionError("abort always raises")
