"""The interceptor before guarded services, on a real server: who is let in, and what is read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import grpc
import grpc.aio
import pytest
from typing_extensions import override

from authz.errors import AuthzError
from meshwarden.control.access import (
    NEEDS,
    OPEN_SERVICES,
    AccessInterceptor,
    Gate,
    LocalGate,
    needed,
)
from meshwarden.control.who import Who, who_of
from protos.meshwarden.v1 import admin_pb2, policy_pb2
from protos.meshwarden.v1.policy_pb2 import GetRequest, Revision
from tests.e2e.public_port.test_private_methods import definitions

Result = TypeVar("Result")
Call = Callable[[grpc.aio.Channel], Awaitable[Result]]
SERVICE = "test.Guarded"
MANY = 5 * 1024 * 1024


class RefusedError(AuthzError):
    """The test's gate is shut."""

    code: ClassVar[str] = "PERMISSION_DENIED"


class Doorman(Gate):
    """Lets callers in by a header of theirs; what asked for is noted."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_shut = False

    @override
    async def admit(self, method: str, context: Any) -> Who:
        self.asked.append(method)
        if self.is_shut:
            raise RefusedError("no role any more")
        given = dict(context.invocation_metadata())
        if "name" not in given:
            raise RefusedError("no name")
        return Who(given["name"], "203.0.113.9", is_local=False)


async def tell(request: GetRequest, context: Any) -> Revision:
    """Answer with who asked; 1 is an error of ours, 2 another."""
    if request.number == 1:
        raise RefusedError("told so")
    if request.number == 2:
        raise KeyError("secret")
    if request.number == 3:
        await context.abort(grpc.StatusCode.NOT_FOUND, "as grpcio has it")
    await asyncio.sleep(0)
    return Revision(author=who_of(context).name, rows=request.number)


async def tell_twice(request: GetRequest, context: Any) -> AsyncIterator[Revision]:
    """Stream two answers."""
    for _ in range(2):
        yield await tell(request, context)


async def tell_each(requests: AsyncIterator[GetRequest], context: Any) -> AsyncIterator[Revision]:
    """Answer each of a stream."""
    async for request in requests:
        yield await tell(request, context)


async def tell_last(requests: AsyncIterator[GetRequest], context: Any) -> Revision:
    """Answer the last of a stream."""
    last = GetRequest()
    async for request in requests:
        last = request
    return await tell(last, context)


async def write_twice(request: GetRequest, context: Any) -> None:
    """Stream two answers, the other way that grpcio knows."""
    for _ in range(2):
        await context.write(await tell(request, context))


KINDS = {
    "Unary": (grpc.unary_unary_rpc_method_handler, tell),
    "Stream": (grpc.unary_stream_rpc_method_handler, tell_twice),
    "Written": (grpc.unary_stream_rpc_method_handler, write_twice),
    "Taking": (grpc.stream_unary_rpc_method_handler, tell_last),
    "Both": (grpc.stream_stream_rpc_method_handler, tell_each),
}


def with_server(folder: Path, gate: Gate, call: Call[Result], service: str = SERVICE) -> Result:
    """Serve every kind of method behind a gate, and call."""

    async def story() -> Result:
        server = grpc.aio.server(
            interceptors=[AccessInterceptor(gate)],
            options=[("grpc.max_receive_message_length", 2 * MANY)],
        )
        methods = {
            name: kind(behaviour, GetRequest.FromString, Revision.SerializeToString)  # type: ignore[operator]
            for name, (kind, behaviour) in KINDS.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        server.add_insecure_port(f"unix:{folder}/s")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{folder}/s") as channel:
                async with asyncio.timeout(10):
                    return await call(channel)
        finally:
            await server.stop(None)

    return asyncio.run(story())


def unary(
    message: bytes, name: str | None = "ann", method: str = f"/{SERVICE}/Unary"
) -> Call[Revision]:
    """Call a unary method with these bytes under this name."""

    async def call(channel: grpc.aio.Channel) -> Revision:
        metadata = [("name", name)] if name else []
        reply = await channel.unary_unary(method)(message, metadata=metadata)
        return Revision.FromString(reply)

    return call


def outcome(folder: Path, call: Call[Any], gate: Gate | None = None) -> tuple[str, str]:
    """Call; give the status' name and details."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        with_server(folder, gate or Doorman(), call)
    return refused.value.code().name, refused.value.details() or ""


def number(value: int) -> bytes:
    """Serialise a request."""
    return GetRequest(number=value).SerializeToString()


def test_a_method_learns_who_was_let_in(tmp_path: Path) -> None:
    """By the gate's word, not by a header's."""
    assert with_server(tmp_path, Doorman(), unary(number(7))) == Revision(author="ann", rows=7)


@pytest.mark.parametrize("method", KINDS)
def test_every_kind_of_method_is_guarded(tmp_path: Path, method: str) -> None:
    """And works as if nobody stood before it."""

    async def call(channel: grpc.aio.Channel, metadata: list[tuple[str, str]]) -> list[str]:
        kind = KINDS[method][0].__name__.removesuffix("_rpc_method_handler")
        stub = getattr(channel, kind)(f"/{SERVICE}/{method}")
        message = number(7)
        begun = stub([message] if kind.startswith("stream") else message, metadata=metadata)
        if kind.endswith("unary"):
            return [Revision.FromString(await begun).author]
        return [Revision.FromString(each).author async for each in begun]

    answers = with_server(tmp_path, Doorman(), lambda channel: call(channel, [("name", "bob")]))
    assert set(answers) == {"bob"}
    assert outcome(tmp_path, lambda channel: call(channel, [])) == ("PERMISSION_DENIED", "no name")


def test_two_calls_at_once_keep_their_callers_apart(tmp_path: Path) -> None:
    """Each task has its own."""

    async def call(channel: grpc.aio.Channel) -> list[Revision]:
        return await asyncio.gather(*(unary(number(9), f"n{each}")(channel) for each in range(50)))

    told = with_server(tmp_path, Doorman(), call)
    assert [each.author for each in told] == [f"n{each}" for each in range(50)]


def test_who_is_refused_is_not_read(tmp_path: Path) -> None:
    """Megabytes of nobody's are not taken into memory to say no: the answer comes first."""
    junk = b"\xff" * MANY
    assert outcome(tmp_path, unary(junk, None)) == ("PERMISSION_DENIED", "no name")


@pytest.mark.parametrize("method", KINDS)
def test_who_loses_his_role_before_he_says_what_he_wants_does_not_get_it(
    tmp_path: Path, method: str
) -> None:
    """However long he has held his message back."""
    gate = Doorman()

    async def call(channel: grpc.aio.Channel) -> bytes:
        held = channel.stream_unary(f"/{SERVICE}/{method}")(metadata=[("name", "ann")])
        while not gate.asked:
            await asyncio.sleep(0.01)
        gate.is_shut = True
        await held.write(number(7))
        await held.done_writing()
        return await held

    assert outcome(tmp_path, call, gate) == ("PERMISSION_DENIED", "no role any more")


@pytest.mark.parametrize("message", [b"\xff", b"\x08", b"\x0a\x05ab", b"\x08" + b"\xff" * 11])
def test_bytes_that_are_no_message_are_the_callers_fault(tmp_path: Path, message: bytes) -> None:
    """By itself grpcio would say that we failed."""
    code, details = outcome(tmp_path, unary(message))
    assert code == "INVALID_ARGUMENT"
    assert "/test.Guarded/Unary" in details


def test_a_call_without_its_message_is_told_so(tmp_path: Path) -> None:
    """A client of its own making may end a unary call without one."""

    async def call(channel: grpc.aio.Channel) -> bytes:
        return await channel.stream_unary(f"/{SERVICE}/Unary")([], metadata=[("name", "ann")])

    assert outcome(tmp_path, call)[0] == "INVALID_ARGUMENT"


def test_an_error_of_ours_has_its_own_code(tmp_path: Path) -> None:
    """Services need not translate it."""
    assert outcome(tmp_path, unary(number(1))) == ("PERMISSION_DENIED", "told so")
    assert outcome(tmp_path, unary(number(3))) == ("NOT_FOUND", "as grpcio has it")


def test_a_fault_is_an_id_outside_and_nothing_more(tmp_path: Path) -> None:
    """What it says may be nobody's business."""
    code, details = outcome(tmp_path, unary(number(2)))
    assert code == "INTERNAL"
    assert details.startswith("internal fault ")
    assert "secret" not in details


def test_a_method_that_is_not_there_asks_nobody(tmp_path: Path) -> None:
    """It is UNIMPLEMENTED, as anywhere."""
    gate = Doorman()
    call = unary(b"", method=f"/{SERVICE}/Nothing")
    assert outcome(tmp_path, call, gate)[0] == "UNIMPLEMENTED"
    assert gate.asked == []


def test_open_services_are_open(tmp_path: Path) -> None:
    """Health, reflection, Check and who one is; they get their caller no other way."""
    service = "meshwarden.v1.Identity"
    assert service in OPEN_SERVICES

    async def call(channel: grpc.aio.Channel) -> bytes:
        return await channel.unary_unary(f"/{service}/Unary")(number(2))

    gate = Doorman()
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        with_server(tmp_path, gate, call, service)
    assert failed.value.code() is grpc.StatusCode.UNKNOWN
    assert gate.asked == []


def test_whoever_opens_the_admin_socket_is_the_owner(tmp_path: Path) -> None:
    """By the name of the user that the service runs as."""
    told = with_server(tmp_path, LocalGate(), unary(number(9), None))
    assert told.author.startswith("local:")
    assert len(told.author) > len("local:")


def test_nobody_is_assumed_where_no_interceptor_stands() -> None:
    """A service on a server without one fails; it is not the owner's."""
    with pytest.raises(LookupError):
        who_of(object())  # type: ignore[arg-type]


def test_every_method_of_a_guarded_service_says_what_it_needs() -> None:
    """One that was forgotten needs admin, and is found here."""
    guarded = {method.split("/")[1] for method in NEEDS}
    assert {"meshwarden.v1.Admin", "meshwarden.v1.Policy"} <= guarded
    assert not guarded & OPEN_SERVICES
    there = {
        f"/{service.full_name}/{method.name}"
        for file in definitions()
        for service in file.services_by_name.values()
        if service.full_name in guarded
        for method in service.methods
    }
    assert there == set(NEEDS)


def test_a_method_that_nobody_named_needs_admin() -> None:
    """Forgetting is no way in."""
    assert needed("/meshwarden.v1.Policy/Tomorrow") == "admin"


@pytest.mark.parametrize("module", [admin_pb2, policy_pb2])
def test_what_only_tells_needs_no_more_than_a_viewer(module: Any) -> None:
    """And what changes something needs more."""
    tells = ("Status", "Get", "Diff", "History", "Audit", "List", "Show", "Watch")
    (service,) = module.DESCRIPTOR.services_by_name.values()
    for method in service.methods:
        name = f"/{service.full_name}/{method.name}"
        assert (needed(name) == "viewer") is method.name.startswith(tells), name
