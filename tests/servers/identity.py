"""Control's identity services on real gRPC servers, with an issuer of their own, in this process.

What a front would say of a caller is put beside each call by hand: `Caller.metadata`.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ca.possession import key_sha256, sign
from meshwarden import clock
from meshwarden.control.access import AccessInterceptor, LocalGate
from meshwarden.control.identity.authority_service import AuthorityService
from meshwarden.control.identity.nodes import Nodes
from meshwarden.control.identity.opening import Identity as Opened
from meshwarden.control.identity.opening import open_identity
from meshwarden.control.servers import AGENTS_OPTIONS, caller_behind_front
from meshwarden.files import RuntimeDir
from meshwarden.front.bootstrap import SOURCE_HEADER, TLS_HEADER
from meshwarden.settings import Identity, Runtime, Settings, Store
from meshwarden.settings.nodes import Nodes as NodeSettings
from protos.meshwarden.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    authority_pb2_grpc,
    registration_pb2,
    registration_pb2_grpc,
)

__all__ = ["TRUST_DOMAIN", "Caller", "IdentityServer", "csr_of", "identity_server", "new_key"]

TRUST_DOMAIN = "mesh.example"


class Clock:
    """The time, which can be moved on."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def now_ns(self) -> int:
        """The real time, and what was added to it."""
        return clock.now_ns() + self.ahead_ns


@dataclass
class Caller:
    """Somebody at the far side of a front.

    Attributes:
        address: From where.
        chain: His certificate, DER, the leaf first; none is none.
        tls: Whether he came by TLS.
        key: Of his certificate.
    """

    address: str = "10.0.0.1"
    chain: Sequence[bytes] = ()
    tls: bool = True
    key: ec.EllipticCurvePrivateKey | None = None
    spiffe_id: str = ""
    bundle: agent_pb2.Bundle = field(default_factory=agent_pb2.Bundle)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What a front says of him."""
        told = [(SOURCE_HEADER, self.address), (TLS_HEADER, "TLSv1.3" if self.tls else "-")]
        if self.chain:
            digest = hashlib.sha256(self.chain[0]).hexdigest()
            told.append(("x-forwarded-client-cert", f"Hash={digest};URI={self.spiffe_id}"))
        return told


@dataclass(frozen=True)
class IdentityServer:
    """Running servers, and stubs to call them by."""

    settings: Settings
    clock: Clock
    opened: Opened
    nodes: Nodes
    channel: grpc.aio.Channel
    attestation: agent_pb2_grpc.AttestationStub
    agents: agent_pb2_grpc.AgentStub
    registration: registration_pb2_grpc.RegistrationStub
    authority: authority_pb2_grpc.AuthorityStub

    async def put(self, **fields: Any) -> registration_pb2.Entry:
        """Register one entry; give it as it is kept."""
        reply = await self.registration.PutEntries(
            registration_pb2.PutEntriesRequest(entries=[entry(**fields)])
        )
        return reply.entries[0]

    async def new_token(self, **fields: Any) -> registration_pb2.CreateJoinTokenReply:
        """Make a join token."""
        return await self.registration.CreateJoinToken(
            registration_pb2.CreateJoinTokenRequest(**fields)
        )

    async def attest(
        self, attestor: str, payload: bytes, caller: Caller | None = None, **how: Any
    ) -> Caller:
        """Attest; give the agent.

        Args:
            attestor: Its name.
            payload: The evidence.
            caller: Who attests; a new node without.
            how: `key` for the new certificate; `answer_key` signs a challenge.
        """
        key = how.get("key") or new_key()
        caller = caller or Caller()
        call = self.attestation.Attest(metadata=replace(caller, chain=()).metadata)
        evidence = agent_pb2.Evidence(attestor=attestor, payload=payload, csr=csr_of(key))
        await call.write(agent_pb2.AttestRequest(evidence=evidence))
        reply = await call.read()
        if reply is not grpc.aio.EOF and reply.WhichOneof("step") == "challenge":
            answer = sign(how["answer_key"], reply.challenge, key_sha256(key.public_key()))
            await call.write(agent_pb2.AttestRequest(answer=answer))
            reply = await call.read()
        await call.done_writing()
        if reply is grpc.aio.EOF:
            code = await call.code()
            raise grpc.aio.AioRpcError(
                code, await call.initial_metadata(), await call.trailing_metadata(),
                details=await call.details(),
            )  # fmt: skip
        return replace(
            caller,
            chain=tuple(reply.svid.chain),
            key=key,
            spiffe_id=reply.svid.spiffe_id,
            bundle=reply.bundle,
        )

    async def new_agent(self, caller: Caller | None = None, **fields: Any) -> Caller:
        """Attest by a new join token."""
        token = await self.new_token(**fields)
        return await self.attest("join_token", token.token.encode(), caller)

    async def audited(self) -> list[tuple[str, str, str, str]]:
        """Give who, action, outcome and detail of the audit trail, in order."""
        from sqlalchemy import text  # noqa: PLC0415

        async def look(connection: Any) -> list[tuple[str, str, str, str]]:
            found = await connection.execute(
                text("SELECT who, action, outcome, detail FROM meshwarden_audit ORDER BY id")
            )
            return [tuple(row) for row in found]

        return await self.opened.database.run(look)


def entry(
    spiffe_id: str = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/web",
    parent_id: str = "",
    selectors: Sequence[str] = ("unix:uid:1000",),
    admin: bool = False,  # noqa: FBT001, FBT002
    **fields: Any,
) -> registration_pb2.Entry:
    """Write an entry."""
    pairs = [each.partition(":") for each in selectors]
    return registration_pb2.Entry(
        workload=agent_pb2.WorkloadEntry(
            spiffe_id=spiffe_id,
            selectors=[agent_pb2.Selector(kind=kind, value=value) for kind, _, value in pairs],
            **fields,
        ),
        parent_id=parent_id,
        admin=admin,
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def csr_of(key: ec.EllipticCurvePrivateKey, *uris: str) -> bytes:
    """Ask for a certificate."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = [x509.UniformResourceIdentifier(each) for each in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@asynccontextmanager
async def identity_server(
    folder: Path, url: str = "", identity: Identity | None = None, **nodes: Any
) -> AsyncIterator[IdentityServer]:
    """Run the services until the `with` ends.

    Args:
        folder: For its database; a second one in the same is another replica.
        url: Of a PostgreSQL in place of that.
        identity: Settings, over ours.
        nodes: Settings of [identity.nodes].
    """
    settings = Settings(
        runtime=Runtime(state_dir=folder, runtime_dir=folder),
        store=Store(url=url),
        identity=replace(
            identity or Identity(trust_domain=TRUST_DOMAIN, key_file=folder / "sealing.key"),
            nodes=NodeSettings(**{"attestations_per_s": 1000.0, **nodes}),
        ),
    )
    time = Clock()
    opened = open_identity(settings, RuntimeDir(folder), time.now_ns)
    await opened.issuer.start()
    serving = Nodes(settings, opened.issuer, time.now_ns)
    import asyncio  # noqa: PLC0415

    running = asyncio.create_task(serving.run())
    agents = grpc.aio.server(options=AGENTS_OPTIONS)
    agents.add_generic_rpc_handlers(serving.handlers(caller_behind_front))
    admin = grpc.aio.server(interceptors=[AccessInterceptor(LocalGate())])
    registration_pb2_grpc.add_RegistrationServicer_to_server(serving.registration, admin)
    authority_pb2_grpc.add_AuthorityServicer_to_server(AuthorityService(opened, serving), admin)
    admin.add_generic_rpc_handlers(serving.local_handlers())
    ports = agents.add_insecure_port("127.0.0.1:0"), admin.add_insecure_port("127.0.0.1:0")
    await agents.start()
    await admin.start()
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        # A window stays as small as it begins: whoever does not read is soon noticed.
        ("grpc.http2.bdp_probe", 0),
    )
    try:
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}", options=options) as channel,
            grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}", options=options) as local,
        ):
            yield IdentityServer(
                settings, time, opened, serving, channel,
                agent_pb2_grpc.AttestationStub(channel),
                agent_pb2_grpc.AgentStub(channel),
                registration_pb2_grpc.RegistrationStub(local),
                authority_pb2_grpc.AuthorityStub(local),
            )  # fmt: skip
    finally:
        await agents.stop(None)
        await admin.stop(None)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await serving.close()
        await opened.close()
