"""The secret discovery service on a socket: requests of a client merged with changes of its view.

A slow reader holds nothing up and no memory: while a response waits to be taken, at most one
request and one view wait behind it, and a view is always the newest.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Generic, Literal, NoReturn, TypeVar

import grpc
import grpc.aio
from typing_extensions import override

from meshwarden.plain_text import plain
from meshwarden.sds.secrets import Secrets, Wish, wish_of
from meshwarden.sds.streams import Delta, Nack, RequestError, StateOfTheWorld, answer
from protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceServicer

__all__ = ["Reason", "SecretService", "Views"]

_LOG = logging.getLogger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]
_Code = grpc.StatusCode

_View = TypeVar("_View")
_Item = TypeVar("_Item")

Views = Callable[[_Context], AsyncGenerator[_View, None]]
"""Follows what a caller gets, the newest view each time it is asked; ends the call where that is
nothing, and itself where nothing will come any more."""

Reason = Literal["bad_request", "not_theirs"]
"""Why a call is ended here: it can't be meant, or names only what its caller doesn't have."""

_MAX_REASON_CHARACTERS = 500


class SecretService(SecretDiscoveryServiceServicer, Generic[_View]):
    """Serves Envoys, each by what its process gets."""

    def __init__(
        self,
        views: Views[_View],
        secrets: Callable[[_View, Wish], Secrets],
        refused: Callable[[Reason], None] = lambda _: None,
        tell: Callable[[_Context, str], None] = lambda _, words: _LOG.warning("%s", words),
    ) -> None:
        """Serve the views of callers.

        Args:
            views: Follows them.
            secrets: Makes secrets of one, as a client wants them.
            refused: Is told of each call that is ended here.
            tell: Logs what a client refused, as often as it thinks fit: a client may refuse without
                end.
        """
        self._tell = tell
        self._views = views
        self._secrets = secrets
        self._refused = refused

    @override
    async def StreamSecrets(
        self, request_iterator: Any, context: _Context
    ) -> AsyncIterator[DiscoveryResponse]:
        # grpc tells a stream by the kind of function that this is.
        async with contextlib.aclosing(
            self._stream(StateOfTheWorld(), request_iterator, context)
        ) as replies:
            async for reply in replies:
                yield reply

    @override
    async def DeltaSecrets(
        self, request_iterator: Any, context: _Context
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        async with contextlib.aclosing(self._stream(Delta(), request_iterator, context)) as replies:
            async for reply in replies:
                yield reply

    @override
    async def FetchSecrets(self, request: DiscoveryRequest, context: _Context) -> DiscoveryResponse:
        async with contextlib.aclosing(self._views(context)) as views:
            view = await _next(views)
        if view is None:
            await _abort(context, _Code.UNAVAILABLE, "nothing is served any more")
        secrets = self._secrets(view, wish_of(request.node))
        subscriber = StateOfTheWorld()
        try:
            reply = subscriber.asked(request, secrets)
        except RequestError as error:
            self._refused("bad_request")
            await _abort(context, _Code.INVALID_ARGUMENT, str(error))
        if subscriber.missing:
            self._refused("not_theirs")
            await _abort(context, _Code.NOT_FOUND, secrets.why_not(subscriber.missing[0]))
        return reply or answer((), "")

    async def _stream(
        self,
        subscriber: StateOfTheWorld | Delta,
        requests: AsyncIterator[Any],
        context: _Context,
    ) -> AsyncGenerator[Any, None]:
        """Answer requests and push changes until the client or the view goes."""
        wish: Wish | None = None
        told: Nack | None = None
        async with contextlib.aclosing(self._views(context)) as views:
            view = await _next(views)
            if view is None:
                return
            request = asyncio.ensure_future(_next(requests))
            newer = asyncio.ensure_future(_next(views))
            try:
                while True:
                    await asyncio.wait({request, newer}, return_when=asyncio.FIRST_COMPLETED)
                    if newer.done():
                        view = newer.result()
                        if view is None:
                            return
                        reply = subscriber.changed(self._secrets(view, wish or Wish()))
                        newer = asyncio.ensure_future(_next(views))
                    else:
                        asked = request.result()
                        if asked is None:
                            return
                        wish = wish or wish_of(asked.node)  # Later requests may leave it out.
                        reply = subscriber.asked(asked, self._secrets(view, wish))
                        request = asyncio.ensure_future(_next(requests))
                    told = self._note(context, subscriber.nack, told)
                    if subscriber.missing and not subscriber.has_some:
                        secrets = self._secrets(view, wish or Wish())
                        reason = secrets.why_not(subscriber.missing[0])
                        self._refused("not_theirs")
                        await _abort(context, _Code.PERMISSION_DENIED, reason)
                    if reply is not None:
                        yield reply
            except RequestError as error:
                self._refused("bad_request")
                await _abort(context, _Code.INVALID_ARGUMENT, str(error))
            finally:
                for task in (request, newer):
                    task.cancel()
                await asyncio.gather(request, newer, return_exceptions=True)

    def _note(self, context: _Context, nack: Nack | None, told: Nack | None) -> Nack | None:
        """Tell of a refusal once."""
        if nack is not None and nack is not told:
            names, reason = ", ".join(nack.names)[:500], nack.reason[:_MAX_REASON_CHARACTERS]
            # In one line: what a client says must not look like another line of the log.
            self._tell(context, plain(f"an Envoy refused {names}: {reason}"))
        return nack


async def _next(items: AsyncIterator[_Item]) -> _Item | None:
    """Give the next item; None at the end."""
    return await anext(items, None)


async def _abort(context: _Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    await context.abort(code, reason)
    raise AssertionError("abort always raises")
