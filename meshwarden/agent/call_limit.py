"""How many calls one user's processes may have open: each holds memory for as long as he likes.

A connection carries many, and a stream of server reflection asks for no identity. So calls are
counted before anything else looks at them, those of every service on the socket alike, and before
their requests are read: whoever sends half of one holds memory as well.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from typing_extensions import override

from ca.errors import OverloadedError
from meshwarden.crowd import Crowd

__all__ = ["OPTIONS", "CallLimit"]

OPTIONS = (
    ("grpc.max_concurrent_streams", 1000),
    # An Envoy's first request names itself and all its extensions, some 50 KiB; others are short.
    ("grpc.max_receive_message_length", 256 * 1024),
    # What is held of a call whose request nobody reads. By itself grpc makes that 4 MiB.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_535),
)
"""Of a server whose calls are counted: what each may hold."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Any  # grpc's own type takes no parameters, and its stubs want them.


class CallLimit(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # likewise
    """Lets each user have so many calls open at once."""

    def __init__(
        self, user: Callable[[str], int | None], most: int, refused: Callable[[], None]
    ) -> None:
        """Have nobody yet.

        Args:
            user: Gives the user behind a call by its `context.peer()`; None for nobody known, whose
                calls count together.
            most: Calls at once of one user.
            refused: Is told of each call that is one too many.
        """
        self._user = user
        self._most = most
        self._refused = refused
        self._open = Crowd[int | None](most)

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        # None is a method that isn't there, which the stubs don't know of.
        handler = await continuation(handler_call_details)
        return None if handler is None else self._counted(handler)

    def _counted(self, handler: _Handler) -> _Handler:
        """Give a handler that counts. All take streams: grpc calls others with a whole request."""
        kinds = ("unary", "stream")
        answers = kinds[handler.response_streaming]
        inner = getattr(handler, f"{kinds[handler.request_streaming]}_{answers}")

        async def asked(requests: Any, context: _Context) -> Any:
            if handler.request_streaming:
                return requests
            request = await anext(aiter(requests), None)
            if request is None:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is missing")
            return request

        async def replies(requests: Any, context: _Context) -> AsyncIterator[Any]:
            with await self._place(context):
                request = await asked(requests, context)
                async with contextlib.aclosing(inner(request, context)) as made:
                    async for reply in made:
                        yield reply

        async def reply(requests: Any, context: _Context) -> Any:
            with await self._place(context):
                return await inner(await asked(requests, context), context)

        make = getattr(grpc, f"stream_{answers}_rpc_method_handler")
        return make(
            replies if handler.response_streaming else reply,
            handler.request_deserializer,
            handler.response_serializer,
        )

    async def _place(self, context: _Context) -> contextlib.ExitStack:
        """Give a call its place, which it leaves with the `with`; one too many is ended here."""
        place = contextlib.ExitStack()
        try:
            place.enter_context(self._open.joined(self._user(context.peer()), "calls are open"))
        except OverloadedError:
            self._refused()
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"this user's processes have {self._most} calls open already",
            )
        return place
