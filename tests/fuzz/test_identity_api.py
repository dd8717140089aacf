"""Registration, Attestation and Agent of a real service: whatever is sent, an answer or a refusal.

Never INTERNAL or UNKNOWN, never a process that ends, and never an entry or a certificate that the
rules don't allow.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ca.entries import Entry
from ca.entry_draft import EntryRules, check_draft
from ca.spiffe_id import parse
from meshwarden.identity_messages import draft_from
from protos.meshwarden.v1 import admin_pb2, admin_pb2_grpc, agent_pb2, registration_pb2
from tests.e2e.support.service import Service
from tests.servers.identity import Caller, csr_of, new_key

TRUST_DOMAIN = "td.example"
RULES = EntryRules(TRUST_DOMAIN, 86_400, 3_600)
AGENT = f"spiffe://{TRUST_DOMAIN}/meshwarden/agent/join_token/fuzz"
OWN = "/".join(AGENT.split("/")[:-1]) + "/"
SERVICES = {
    each.name: each
    for module in (agent_pb2, registration_pb2)
    for each in module.DESCRIPTOR.services_by_name.values()
}
METHODS = [method for service in SERVICES.values() for method in service.methods]
BLAMELESS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # A stream that goes on, or waits for more of us.
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
}
ODD = (
    "", "\0", "a\0b", "a\nb", "é", "\u202e", "\N{PILE OF POO}", "x" * 5_000, "../..", "%2F", "{{",
    "}}", "{{trust_domain}}", "{{k8s.ns}}", "{{node.a.b}}", "{{k8s.ns}}{{k8s.sa}}", "*", "'; DROP",
    f"spiffe://{TRUST_DOMAIN}", f"spiffe://{TRUST_DOMAIN}/meshwarden/server", AGENT, OWN,
    f"spiffe://{TRUST_DOMAIN}/a/../b", f"SPIFFE://{TRUST_DOMAIN}/a", "spiffe://other/a", "1.2.3.4",
)  # fmt: skip
text = st.sampled_from(ODD) | st.text(max_size=8)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "spiffe_id": st.sampled_from(
        [f"spiffe://{TRUST_DOMAIN}/w1", f"spiffe://{TRUST_DOMAIN}/ns/{{{{k8s.ns}}}}"]
    ),
    "parent_id": st.sampled_from([AGENT, f"spiffe://{TRUST_DOMAIN}/meshwarden/server"]),
    "kind": st.sampled_from(["unix", "k8s"]),
    "value": st.sampled_from(["uid:1", "ns:shop", "ns:a/b", "ns:.."]),
    "attestor": st.sampled_from(["join_token", "expired_svid", "embedded"]),
    "hint": st.just("h"),
    "dns_names": st.sampled_from(["a.b", "{{k8s.ns}}.svc"]),
    "agent_path": st.sampled_from(["a", "b/c"]),
    "audiences": st.just("me"),
    "csr": st.just(csr_of(new_key())),
}
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1) | st.integers(0, 5),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}
fuzz = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class World:
    """A running service, an agent that attested to it, and what must be true after every call."""

    def __init__(self, folder: Path, admin: grpc.Channel, agents: grpc.Channel) -> None:
        self.folder = folder
        self._admin = admin
        self._agents = agents
        self.known: list[str] = []
        self._control = self._process()
        self.agent = Caller()
        self.agent = self._attested()

    def call(self, method: MethodDescriptor, *sent: bytes) -> list[bytes]:
        """Call with bytes; give the answers, none for a refusal."""
        service = method.containing_service
        is_admin = service.name == "Registration"
        channel = self._admin if is_admin else self._agents
        caller = Caller() if service.name == "Attestation" else self.agent
        stub = channel.stream_stream(f"/{service.full_name}/{method.name}")
        timeout_s = 0.3 if method.server_streaming else 20
        answers: list[bytes] = []
        fault = None
        try:
            metadata = None if is_admin else caller.metadata
            for answer in stub(iter(sent), timeout=timeout_s, metadata=metadata):
                answers.append(answer)  # noqa: PERF402 - what came before an error counts
        except grpc.RpcError as error:
            fault = error
        assert fault is None or fault.code() in BLAMELESS, fault
        return answers

    def check(self) -> None:
        """Look whether all is still well."""
        assert self._process() == self._control, "control has ended, and was started again"
        list_entries = registration_pb2.DESCRIPTOR.services_by_name["Registration"].methods[1]
        (reply,) = self.call(list_entries, b"")
        for each in registration_pb2.ListEntriesReply.FromString(reply).entries:
            draft = replace(draft_from(each), id="")
            assert isinstance(check_draft(draft, RULES), Entry), each
            self.known = [each.workload.id, *self.known[:5]]

    def _process(self) -> int:
        stub = admin_pb2_grpc.AdminStub(self._admin)
        status = stub.Status(admin_pb2.StatusRequest(), timeout=30)
        (pid,) = [each.pid for each in status.processes if each.kind == "control"]
        return int(pid)

    def _attested(self) -> Caller:
        create = SERVICES["Registration"].methods_by_name["CreateJoinToken"]
        wanted = registration_pb2.CreateJoinTokenRequest(agent_path="fuzz")
        (made,) = self.call(create, wanted.SerializeToString())
        token = registration_pb2.CreateJoinTokenReply.FromString(made).token
        key = new_key()
        evidence = agent_pb2.Evidence(
            attestor="join_token", payload=token.encode(), csr=csr_of(key)
        )
        request = agent_pb2.AttestRequest(evidence=evidence)
        stub = self._agents.stream_stream("/meshwarden.v1.Attestation/Attest")
        answers = stub(iter([request.SerializeToString()]), metadata=Caller().metadata, timeout=20)
        svid = agent_pb2.AttestReply.FromString(next(iter(answers))).svid
        return Caller(chain=tuple(svid.chain), spiffe_id=svid.spiffe_id, key=key)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Run a service that issues identities."""
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        folder = Path(name)
        values = {
            "identity.trust_domain": TRUST_DOMAIN,
            "identity.key_file": str(folder / "sealing.key"),
            "identity.nodes.attestations_per_s": 1000,
        }
        with Service(folder, {"policy.csv": "p, *, *, *, /**, allow\n"}, values) as service:
            service.wait_ready()
            size = [("grpc.max_send_message_length", -1)]
            sockets = [f"unix:{folder}/run/{each}.sock" for each in ("admin", "agents")]
            admin, agents = (grpc.insecure_channel(each, size) for each in sockets)
            with admin, agents:
                yield World(folder, admin, agents)
            log = (folder / "meshwarden.log").read_text()
            assert "Traceback" not in log, log


def values_of(field: FieldDescriptor, known: list[str]) -> st.SearchStrategy[Any]:
    """Any value of a field."""
    if field.message_type is not None:
        return messages(field.message_type, known)
    likely = LIKELY.get(field.name)
    if known and field.name in {"id", "ids", "entry_id", "after"}:
        likely = st.sampled_from(known)
    if field.type == FieldDescriptor.TYPE_BYTES:
        odd = st.binary(max_size=20) | st.just(b"\x30\x82\xff\xff")
        return odd if likely is None else likely | odd
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return text if likely is None else likely | likely | text
    return NUMBERS[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, known: list[str]) -> Message:
    """A message of a kind, each of its fields left out or of any value."""
    made = GetMessageClass(kind)()
    for field in kind.fields:
        # The agent of the test must not ban itself, or it would try nothing more.
        if kind.name == "EvictAgentRequest" and field.name == "spiffe_id":
            made.spiffe_id = draw(text.filter(lambda each: each != AGENT))
        elif draw(st.integers(0, 3)) == 0:
            continue
        elif field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(values_of(field, known), max_size=3)))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(draw(values_of(field, known)))
        else:
            setattr(made, field.name, draw(values_of(field, known)))
    return made


unknown = st.sampled_from([b"", b"", b"\xfa\xff\x03\x01a", b"\xff"])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
@fuzz
@given(data=st.data())
def test_any_message_is_answered_or_refused(
    world: World, method: MethodDescriptor, data: st.DataObject
) -> None:
    """Whatever was signed is of the own trust domain, and none of the service's own names."""
    count = data.draw(st.integers(0, 3)) if method.client_streaming else 1
    sent = [
        data.draw(messages(method.input_type, world.known)).SerializeToString() + data.draw(unknown)
        for _ in range(count)
    ]
    for answer in world.call(method, *sent):
        if method.name == "SignX509":
            for result in agent_pb2.SignX509Reply.FromString(answer).results:
                if result.HasField("svid"):
                    signed = parse(result.svid.spiffe_id)
                    assert signed.trust_domain == TRUST_DOMAIN
                    assert not signed.path.startswith("/meshwarden")
        assert method.name != "Attest" or not agent_pb2.AttestReply.FromString(answer).HasField(
            "svid"
        )
    world.check()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
@settings(fuzz, max_examples=10)
@given(message=st.binary(min_size=1, max_size=60))
def test_any_bytes_are_answered_or_refused(
    world: World, method: MethodDescriptor, message: bytes
) -> None:
    """Most are no message at all."""
    world.call(method, message)
    world.check()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_huge_message_is_refused(world: World, method: MethodDescriptor) -> None:
    """Beyond what any honest agent sends, it is not even taken in."""
    world.call(method, b"\xfa\xff\x03\x80\x80\x80\x04" + b"x" * (8 << 20))
    world.check()
