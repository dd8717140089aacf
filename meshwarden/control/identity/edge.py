"""What the services for agents have in common: who calls comes before what it says, and errors.

A method gets its messages as a stream, whichever kind it is: the wire knows no difference, and
nothing of a message is read before somebody asks for it. So who may not call can't make control
hold what it sends.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from ca.errors import IdentityError
from meshwarden.faults import fault_id

__all__ = [
    "Context",
    "Handler",
    "LateError",
    "MessageError",
    "Messages",
    "Method",
    "abort",
    "handlers",
    "is_refusal",
    "one",
]

Context = grpc.aio.ServicerContext[Any, Any]
Messages = AsyncIterator[bytes]
Method = Callable[[Messages, Context], Awaitable[bytes | None]]
"""Answers one call with bytes, or writes its answers itself and gives nothing."""

Refused = Callable[[str, Context, IdentityError], Awaitable[None]]
_REFUSALS = frozenset(
    {"INVALID_ARGUMENT", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"}
)
_Message = TypeVar("_Message", bound=Message)
Handler: TypeAlias = "grpc.GenericRpcHandler[Any, Any]"  # Generic to type checkers only.


# A batch of 4 MiB by a slow line takes half of it.
_SENT_WITHIN_S = 60.0


class LateError(IdentityError):
    """The message of a call did not come; who calls sends it, or is rid of the call."""

    code = "DEADLINE_EXCEEDED"


class MessageError(IdentityError):
    """The bytes are no message of the method; send one of this version of the protocol."""

    code = "INVALID_ARGUMENT"


def is_refusal(error: IdentityError) -> bool:
    """Whether the caller is to blame, and the audit trail to say so."""
    return error.code in _REFUSALS


async def one(messages: Messages, kind: type[_Message], max_bytes: int) -> _Message:
    """Read the one message of a call, or the next one.

    Raises:
        LateError: It does not come.
        MessageError: There is none, it is too large, or no message.
    """
    try:
        async with asyncio.timeout(_SENT_WITHIN_S):
            data = await anext(aiter(messages), None)
    except TimeoutError as error:
        raise LateError(f"no {kind.DESCRIPTOR.name} came within {_SENT_WITHIN_S:.0f} s") from error
    if data is None:
        raise MessageError("the call ended without its message")
    if len(data) > max_bytes:
        raise MessageError(f"the message has {len(data)} bytes, more than {max_bytes}")
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MessageError(f"this is no {kind.DESCRIPTOR.name}") from error


def handlers(
    service: str, answering: dict[str, Method], streaming: dict[str, Method], refused: Refused
) -> Handler:
    """Make what a gRPC server calls.

    Args:
        service: Its full name.
        answering: Methods that give one answer, by name.
        streaming: Methods that write theirs.
        refused: Told of every refusal, with the method's name, before the caller is.
    """
    made = {
        name: grpc.stream_unary_rpc_method_handler(_guarded(name, method, refused))
        for name, method in answering.items()
    }
    made |= {
        name: grpc.stream_stream_rpc_method_handler(_guarded(name, method, refused))
        for name, method in streaming.items()
    }
    return grpc.method_handlers_generic_handler(service, made)


def _guarded(name: str, method: Method, refused: Refused) -> Any:
    async def answer(messages: Messages, context: Context) -> bytes | None:
        try:
            return await method(messages, context)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.InternalError as error:
            # A write failed, since the other end has gone: nobody is left to be told anything.
            raise asyncio.CancelledError from error
        except IdentityError as error:
            if is_refusal(error):
                await refused(name, context, error)
            await abort(context, error)
        except Exception as error:  # noqa: BLE001 - the edge: anything else is a fault of ours
            await _abort(context, "INTERNAL", fault_id(error))
        finally:
            await _close(messages)

    return answer


async def _close(messages: Messages) -> None:
    """Finish with a stream that was not read to its end.

    The garbage collector would do it by a task of its own and a wake-up of the loop, for each call.
    """
    reader = aiter(messages)
    if isinstance(reader, AsyncGenerator):
        await reader.aclose()


async def abort(context: Context, error: IdentityError) -> NoReturn:
    """End a call with an error's own code; never returns."""
    await _abort(context, error.code, str(error))
    raise AssertionError("abort always raises")


async def _abort(context: Context, code: str, message: str) -> NoReturn:
    await context.abort(getattr(grpc.StatusCode, code), message)
    raise AssertionError("abort always raises")
