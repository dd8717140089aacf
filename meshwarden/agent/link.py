"""The agent's side of the Agent service: follows entries and bundles, has identities signed.

One session is one channel: it ends with the first fault, and the next begins after a pause. What
workloads have is none of its business: they keep it through any outage.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from typing_extensions import override

from ca.bundle import Bundle
from ca.entries import WorkloadEntry, set_digest
from ca.renewal import retry_pause_s
from ca.selectors import InvalidSelectorError, Selector
from meshwarden.agent.door import Door
from meshwarden.agent.exchange import NotBelievedError, as_bundle, told
from meshwarden.agent.identities import Identities
from meshwarden.agent.keep import Keep
from meshwarden.agent.renewer import LinkDownError, Order, Refused, Signed, Signer
from meshwarden.agent.tokens import SignedToken, TokenSigner
from meshwarden.identity_messages import selector_messages, workload_from
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc

__all__ = ["Link", "LinkState"]

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 30.0
_CLOSE_S = 5.0
# Pauses grow to 15 s where the server is away: a change of entries is to arrive soon after it is
# back. Where it doesn't believe us, to 120 s: somebody has to do something first.
_AWAY_S, _REFUSED_S = 450.0, 3600.0
_NOT_KNOWN = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, *_NOT_KNOWN)


@dataclass(slots=True)
class LinkState:
    """How the way to the server is.

    Attributes:
        connected: Entries and bundles are followed now.
        fault: Why not, in words; "" where it is.
        since_ns: Since when it is as it is.
        sessions: How many sessions there were.
        synced_ns: When entries were last taken from the server; 0 for never.
    """

    connected: bool = False
    fault: str = "it has not been reached yet"
    since_ns: int = 0
    sessions: int = 0
    synced_ns: int = 0


class Link(Signer, TokenSigner):
    """Keeps a session with the server.

    Attributes:
        state: How that goes.
    """

    def __init__(
        self,
        door: Door,
        identities: Identities,
        keep: Keep,
        now_ns: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        """Do nothing yet.

        Args:
            door: The way to the server.
            identities: Gets what is followed.
            keep: Gets the bundles, too: they prove the server after a restart.
            now_ns: The time.
            draw: A random number from 0 to below 1, anew at each call.
        """
        self._door = door
        self._identities = identities
        self._keep = keep
        self._now_ns = now_ns
        self._draw = draw
        self._stub: agent_pb2_grpc.AgentAsyncStub | None = None
        self._lost: asyncio.Future[None] | None = None
        self.state = LinkState(since_ns=now_ns())

    async def run(self) -> None:
        """Keep a session until cancelled.

        Raises:
            NotBelievedError: This node was never believed, and isn't now: nothing will come of
                waiting.
        """
        attempt = 0
        while True:
            self.state.sessions += 1
            self._session_was_good = False  # Of this attempt: one may end before there is any.
            life_s = _AWAY_S
            try:
                channel = await self._door.enter()
                await self._session(channel)
                attempt = 0
                continue  # It was renewed: enter again at once.
            except NotBelievedError as error:
                if not self._door.agent_id:
                    raise
                life_s = _REFUSED_S
                self._is_away(f"the server does not believe this node: {error}")
            except (LinkDownError, OSError) as error:  # A full disk: what is there goes on.
                self._is_away(str(error))
            except grpc.aio.AioRpcError as error:
                if error.code() in _NOT_KNOWN:
                    self._door.rejected()
                self._is_away(self._told(error))
            if self._session_was_good:
                attempt = 0
            await asyncio.sleep(retry_pause_s(attempt, life_s, self._draw()))
            attempt += 1

    @override
    async def sign(self, orders: Sequence[Order]) -> list[Signed | Refused]:
        stub = self._ready()
        request = pb.SignX509Request(
            orders=[
                pb.X509Order(
                    entry_id=each.entry_id,
                    csr=each.csr,
                    selectors=selector_messages(each.selectors),
                )
                for each in orders
            ]
        )
        with _closed_is_down():
            try:
                reply = await stub.SignX509(request, timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                self._note(error)
                raise LinkDownError(self._told(error)) from error
        if len(reply.results) != len(orders):
            raise LinkDownError("the server's answer has another number of results than orders")
        return [_signed(each) for each in reply.results]

    @override
    async def sign_token(
        self, entry_id: str, audiences: Sequence[str], selectors: tuple[Selector, ...]
    ) -> SignedToken | Refused:
        stub = self._ready()
        request = pb.SignJwtRequest(
            entry_id=entry_id, audiences=audiences, selectors=selector_messages(selectors)
        )
        with _closed_is_down():
            try:
                reply = await stub.SignJwt(request, timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSALS:
                    return Refused(f"the server refused: {told(error)}")
                raise LinkDownError(self._told(error)) from error
        return SignedToken(reply.token, reply.issued_ns, reply.expires_ns)

    def _told(self, error: grpc.aio.AioRpcError) -> str:
        """Say what went wrong: of a connection gRPC knows only its end at our socket."""
        if error.code() is grpc.StatusCode.UNAVAILABLE and self._door.fault:
            return self._door.fault
        return told(error)

    def _note(self, error: grpc.aio.AioRpcError) -> None:
        """End the session where a whole batch is refused: the server doesn't know us any more.

        Its stream may go on all the same, and nothing would ever be signed.
        """
        if error.code() in _NOT_KNOWN and self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)

    def _ready(self) -> "agent_pb2_grpc.AgentAsyncStub":
        if self._stub is None:
            raise LinkDownError(self.state.fault)
        return self._stub

    async def _session(self, channel: grpc.aio.Channel) -> None:
        """Follow until something ends; raise its fault, return where the agent is to enter anew."""
        stub = agent_pb2_grpc.AgentStub(channel)
        self._stub = stub
        self._lost = asyncio.get_running_loop().create_future()
        tasks: list[asyncio.Future[None]] = [
            self._lost,
            asyncio.create_task(self._follow(stub)),
            asyncio.create_task(self._door.hold(channel)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._stub = self._lost = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # What is under way is finished.
            await channel.close(_CLOSE_S)

    async def _follow(self, stub: "agent_pb2_grpc.AgentAsyncStub") -> None:
        """Follow bundles and entries; take each set whole, once its digest is the server's."""
        entries = dict(self._identities.entries or {})
        wrong = 0
        while True:
            call = stub.Entries(pb.EntriesRequest(digest=self._digest(entries)))
            async for reply in call:
                await self._take_bundles(tuple(map(as_bundle, reply.bundles)))
                try:
                    changed = {each.id: workload_from(each) for each in reply.changed}
                except InvalidSelectorError as error:
                    raise LinkDownError(f"the server tells no entries: {error}") from error
                entries = changed if reply.whole else {**entries, **changed}
                for gone in reply.removed:
                    entries.pop(gone, None)
                if reply.more:  # A part: nothing of it holds before the last one is there.
                    continue
                if set_digest(entries.values()) != reply.digest:
                    wrong += 1
                    if wrong > 1:
                        raise LinkDownError("the entries are not those that the server says")
                    _LOG.warning("the entries are not those that the server has: asking anew")
                    call.cancel()
                    entries = {}
                    break
                wrong = 0
                self._take_entries(entries)
            else:
                raise LinkDownError("the server ended the stream")

    def _digest(self, entries: dict[str, WorkloadEntry]) -> bytes:
        """Give the digest of what is there; empty for nothing, so that no entries are told, too."""
        return set_digest(entries.values()) if entries else b""

    def _take_entries(self, entries: dict[str, WorkloadEntry]) -> None:
        if dict(self._identities.entries or {}) != entries or self._identities.entries is None:
            self._identities.set_entries(entries.values())
        if not self.state.connected:
            _LOG.info("the server is reached; %d entries", len(entries))
            self.state.connected, self.state.fault = True, ""
            self.state.since_ns = self._now_ns()
            self._identities.retry_now()
        self.state.synced_ns = self._now_ns()
        self._session_was_good = True

    async def _take_bundles(self, bundles: tuple[Bundle, ...]) -> None:
        if bundles and bundles[0].x509_authorities:
            if bundles != self._identities.bundles:
                # On disk first: what proves the server must not be lost with a crash.
                await self._save(bundles)
            self._identities.set_bundles(bundles)

    async def _save(self, bundles: Sequence[Bundle]) -> None:
        try:
            await asyncio.to_thread(self._keep.save_bundles, bundles)
        except OSError as error:
            _LOG.warning("the bundle can't be kept over a restart: %s", error)

    def _is_away(self, fault: str) -> None:
        if self.state.connected or fault != self.state.fault:
            _LOG.warning("the server is not reached: %s", fault)
        if self.state.connected:
            self.state.since_ns = self._now_ns()
        self.state.connected, self.state.fault = False, fault

    _session_was_good = False


@contextlib.contextmanager
def _closed_is_down() -> Iterator[None]:
    """Tell a call that was ended with its channel from a task that is to end.

    grpc.aio raises CancelledError for both.
    """
    try:
        yield
    except grpc.aio.UsageError as error:
        raise LinkDownError("the connection was closed") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise LinkDownError("the connection was closed meanwhile") from error


def _signed(result: pb.X509Result) -> Signed | Refused:
    if result.WhichOneof("outcome") == "svid":
        svid = result.svid
        return Signed(svid.spiffe_id, tuple(svid.chain), svid.not_after_ns)
    return Refused(f"{result.refusal.code}: {result.refusal.message}")
