"""The admin API of a real service: whatever is sent, an answer or an error that says whose fault.

Never INTERNAL or UNKNOWN, never a process that ends, never another policy in force than the last
good one, and an audit trail that only grows.
"""

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.policy.mesh import mesh_model
from deploy.demo.processes import wait_until
from protos.meshwarden.v1 import (
    access_pb2,
    admin_pb2,
    admin_pb2_grpc,
    live_pb2,
    live_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    shadow_pb2,
)
from tests.e2e.support.service import Service

METHODS: list[MethodDescriptor] = [
    method
    for module in (access_pb2, admin_pb2, live_pb2, policy_pb2, shadow_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
# Whose fault it is: the caller's, or nobody's. UNAVAILABLE is the store's, which is well here.
BLAMELESS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
OPEN = policy_pb2.Row(ptype="p", values=["*", "shop", "GET", "/open", "allow"])
TIMEOUT_S = 30.0
# What opens a way further in, what other layers trip over, and what terminals do.
ODD = (
    "", "p", "g", "p2", "mesh", "role:admin", "token:ci", "ci", "admin", "viewer", "*", "**", "/**",
    "mesh.example/ns/shop/sa/web", "allow", "deny", "GET|POST", "policy.csv", "../../x.csv",
    "request.time > '2027'", "regexMatch(source.ip, '(a+)+$')", "__import__('os')", "\0", "a\0b",
    "\x1b[2J", "\u202e", "\ufeff", "\N{PILE OF POO}", "\u0130\u0131", "e\u0301", "'; DROP TABLE x",
    "%s%n", "x" * 5_000, "\r\n", mesh_model(),
)  # fmt: skip
text = st.sampled_from(ODD) | st.text(max_size=8)
# What makes a message good enough to get past the first look.
LIKELY = {
    "model": st.sampled_from(["", mesh_model()]),
    "model_file": st.just("mesh"),
    "ptype": st.sampled_from(["p", "g"]),
    "values": st.sampled_from(
        [*OPEN.values, "token:ci", "role:admin", "mesh.example/ns/shop/sa/web", "VIEWER", "*"]
    ),
    "role": st.sampled_from(["viewer", "author", "admin"]),
    "who": st.sampled_from(["token:ci", "mesh.example/ns/shop/sa/web"]),
    "name": st.just("ci"),
    "message": st.just("why"),
    "origin": st.just("here"),
}
GOOD_ROWS = [
    OPEN,
    policy_pb2.Row(ptype="p", values=[*OPEN.values[:-1], "deny"], file="policy.csv", line=3),
    policy_pb2.Row(ptype="p", values=["token:ci", "*", "VIEWER", "/**", "allow"]),
    policy_pb2.Row(ptype="g", values=["mesh.example/ns/shop/sa/web", "role:admin"]),
    policy_pb2.Row(ptype="g", values=["token:ci", "role:viewer"]),
]
# Fields that mostly stop a message that is else good.
RARE = {"parent", "dry_run", "lifetime_s", "bind"}
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 5),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 100_000),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1) | st.integers(0, 5),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1) | st.integers(0, 5),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}


def values_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Any value of a field."""
    if field.message_type is policy_pb2.Row.DESCRIPTOR:
        return st.sampled_from(GOOD_ROWS) | messages(field.message_type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return messages(field.message_type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return st.integers(-3, 9)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return LIKELY.get(field.name, text) | LIKELY.get(field.name, text) | text
    return NUMBERS[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor) -> Message:
    """A message of a kind, each of its fields left out or of any value."""
    made = GetMessageClass(kind)()
    for field in kind.fields:
        if (draw(st.integers(0, 3)) == 0) is not (field.name in RARE):
            continue
        if field.is_repeated:
            drawn: Any = draw(st.lists(values_of(field), max_size=4))
            # A map is a list of messages on the wire; its own type wants to be asked otherwise.
            if field.message_type is None or not field.message_type.GetOptions().map_entry:
                getattr(made, field.name).extend(drawn)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(draw(values_of(field)))
        else:
            setattr(made, field.name, draw(values_of(field)))
    return made


# A field that no version of ours has, and bytes that are no field.
unknown = st.sampled_from(
    [b"", b"", b"\xfa\xff\x03\x01a", b"\x9a\x06\x04\xff\xff\xff\xff", b"\xff"]
)
fuzz = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class World:
    """A service with one good policy, and what must be true of it after every call."""

    def __init__(self, service: Service, channel: grpc.Channel) -> None:
        self.service = service
        self.channel = channel
        self._admin = admin_pb2_grpc.AdminStub(channel)
        self._live = live_pb2_grpc.LiveStub(channel)
        self._policy = policy_pb2_grpc.PolicyStub(channel)
        self._control = 0
        self._trail: list[tuple[Any, ...]] = []

    def apply_good(self) -> None:
        """Put a policy in force that is known to be good."""
        good = policy_pb2.PolicyText(model=mesh_model(), model_file="mesh", rows=[OPEN])
        self._policy.Apply(policy_pb2.ApplyRequest(text=good), timeout=TIMEOUT_S)
        self._control = self._process()
        self._trail = self._read_trail()

    def call(self, method: MethodDescriptor, message: bytes) -> grpc.StatusCode:
        """Call with bytes; give the status."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        kind = f"unary_{'stream' if method.server_streaming else 'unary'}"
        stub = getattr(self.channel, kind)(path)
        try:
            if method.server_streaming:
                with contextlib.closing(stub(message, timeout=1)) as answers:
                    next(iter(answers))
            else:
                stub(message, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            if code not in BLAMELESS:
                raise
            return code
        except StopIteration:
            pass
        return grpc.StatusCode.OK

    def check(self) -> None:
        """Look whether all is still well."""
        live = self._live.Get(live_pb2.GetLiveRequest(), timeout=TIMEOUT_S)
        head = self._policy.Get(policy_pb2.GetRequest(), timeout=TIMEOUT_S).revision
        assert (live.digest, live.revision) == (head.digest, head.number)
        assert self._process() == self._control, "control has ended, and was started again"
        trail = self._read_trail()
        assert trail[: len(self._trail)] == self._trail, "the audit trail has lost something"
        self._trail = trail

    def _process(self) -> int:
        """Id of the control process."""
        status = self._admin.Status(admin_pb2.StatusRequest(), timeout=TIMEOUT_S)
        assert list(status.errors) == []
        (pid,) = [each.pid for each in status.processes if each.kind == "control"]
        return int(pid)

    def _read_trail(self) -> list[tuple[Any, ...]]:
        file = self.service.folder / "state" / "meshwarden.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
            return store.execute("SELECT * FROM meshwarden_audit ORDER BY id").fetchall()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Run a service, and call as its owner: nobody gets further in."""
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        values = {"policy.source": "store", "server.transport": "auto"}
        with Service(Path(name), {}, values) as service:
            service.wait_ready()
            size = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            with grpc.insecure_channel(f"unix:{name}/run/admin.sock", size) as channel:
                made = World(service, channel)
                made.apply_good()
                yield made
                log = (service.folder / "meshwarden.log").read_text()
                assert "Traceback" not in log, log


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
@fuzz
@given(data=st.data())
def test_any_message_is_answered_or_refused(
    world: World, method: MethodDescriptor, data: st.DataObject
) -> None:
    """Of any content, with fields that nobody knows, or broken at its end."""
    message = data.draw(messages(method.input_type)).SerializeToString() + data.draw(unknown)
    world.call(method, message)
    world.check()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
@settings(fuzz, max_examples=15)
@given(message=st.binary(min_size=1, max_size=60))
def test_any_bytes_are_answered_or_refused(
    world: World, method: MethodDescriptor, message: bytes
) -> None:
    """Most are no message at all."""
    world.call(method, message)
    world.check()


@pytest.mark.parametrize("field", ["message", "origin", "model", "value", "ptype", "file"])
def test_a_huge_text_is_answered_or_refused(world: World, field: str) -> None:
    """Megabytes where some characters are meant."""
    huge = "x" * 8_000_000
    request = policy_pb2.ApplyRequest(
        text=policy_pb2.PolicyText(model=mesh_model(), model_file="mesh")
    )
    row = request.text.rows.add(ptype="p", values=["*", "shop", "GET", "/open", "deny"])
    match field:
        case "message" | "origin":
            setattr(request, field, huge)
        case "model":
            request.text.model = huge
        case "value":
            row.values[0] = huge
        case _:
            setattr(row, field, huge)
    (apply,) = [each for each in METHODS if each.full_name == "meshwarden.v1.Policy.Apply"]
    world.call(apply, request.SerializeToString())
    world.check()


def test_what_decides_is_still_the_last_good_policy(world: World) -> None:
    """After all of it, a good one comes into force as ever."""
    world.apply_good()
    wait_until(lambda: _decides(world), [world.service], TIMEOUT_S)
    world.check()


def _decides(world: World) -> bool:
    code, body = world.service.get("/readyz")
    return code == 200 and bool(json.dumps(body.decode()))
