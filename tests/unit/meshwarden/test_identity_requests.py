"""What must not be signed, at every door where something is: a clear code, and a record of it."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from ca.keys import KeyType, generate
from ca.ledger import Event, Head
from ca.profile import Validity
from ca.x509 import AuthorityProfile, Signer, sign_authority
from meshwarden import clock
from meshwarden.settings import Identity
from protos.meshwarden.v1 import agent_pb2, authority_pb2
from tests.servers.identity import TRUST_DOMAIN, Caller, IdentityServer, identity_server
from tests.unit.ca.makings import names, request

WEB = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/web"
INVALID, DENIED = "INVALID_ARGUMENT", "PERMISSION_DENIED"
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "a wrong signature": (lambda: _forged(request()), INVALID),
    "a weak key": (
        lambda: request(rsa.generate_private_key(65537, 1024)), INVALID,  # noqa: S505 - the point
    ),
    "a megabyte": (lambda: b"\x30" * (1 << 20), INVALID),
    "somebody else's ID": (
        lambda: request(extensions=[(names(f"spiffe://{TRUST_DOMAIN}/bank"), False)]), DENIED,
    ),
    "an extension": (lambda: request(extensions=[(UNKNOWN, False)]), INVALID),
    "an authority": (
        lambda: request(extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)]),
        INVALID,
    ),
    "an ID in another spelling": (
        lambda: request(extensions=[(names(f"spiffe://{TRUST_DOMAIN}/ns//shop"), False)]), INVALID,
    ),
}  # fmt: skip


def _forged(csr: bytes) -> bytes:
    return csr[:-1] + bytes([csr[-1] ^ 1])


Ask = Callable[[bytes], Awaitable[str]]


async def code_of(call: Awaitable[Any]) -> str:
    """Have a call refused; give its code."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return str(caught.value.code().name)


async def attesting(server: IdentityServer) -> Ask:
    """Attest by a token that is good."""
    token = await server.new_token()

    async def ask(csr: bytes) -> str:
        evidence = agent_pb2.Evidence(attestor="join_token", payload=token.token.encode(), csr=csr)
        call = server.attestation.Attest(metadata=Caller().metadata)
        await call.write(agent_pb2.AttestRequest(evidence=evidence))
        return await code_of(call.read())

    return ask


async def renewing(server: IdentityServer) -> Ask:
    """Renew an agent's own certificate."""
    agent = await server.new_agent()
    return lambda csr: code_of(
        server.agents.Renew(agent_pb2.RenewRequest(csr=csr), metadata=agent.metadata)
    )


async def ordering(server: IdentityServer) -> Ask:
    """Order for an entry of the agent's own."""
    agent = await server.new_agent()
    entry = await server.put(spiffe_id=WEB, parent_id=agent.spiffe_id)

    async def ask(csr: bytes) -> str:
        orders = [agent_pb2.X509Order(entry_id=entry.workload.id, csr=csr)]
        reply = await server.agents.SignX509(
            agent_pb2.SignX509Request(orders=orders), metadata=agent.metadata
        )
        return str(reply.results[0].refusal.code)

    return ask


async def minting(server: IdentityServer) -> Ask:
    """Mint, as an operator."""
    return lambda csr: code_of(
        server.authority.MintX509(authority_pb2.MintX509Request(spiffe_id=WEB, csr=csr))
    )


DOORS = {
    "agent.attest": attesting,
    "agent.renew": renewing,
    "agent.sign_x509": ordering,
    "x509.mint": minting,
}


async def intended(server: IdentityServer) -> int:
    """Count what was to be signed."""
    await server.opened.writer.flush()
    rows = await server.opened.ledger.read(0, 1000)
    return sum(row.entry.event is Event.INTENDED for row in rows)


@pytest.mark.parametrize("action", DOORS)
def test_a_request_that_nobody_may_have_signed_is_refused_and_on_record(
    tmp_path: Path, action: str
) -> None:
    """Each with its code; none was about to be signed; the trail has every one of them."""

    async def story(server: IdentityServer) -> None:
        ask = await DOORS[action](server)
        before = await intended(server)
        for name, (make, code) in BAD.items():
            assert (name, await ask(make())) == (name, code)
        assert await intended(server) == before
        for refusals in (server.nodes.operators.refusals, server.nodes._refusals):
            await refusals.flush()
        told = [each for each in await server.audited() if each[1:3] == (action, "refused")]
        assert len(told) == 2, "the first, and the number of those like it"
        assert told[1][3] == f"{len(BAD) - 1} more like the one before"

    run(tmp_path, story)


@pytest.mark.parametrize(
    "order",
    [
        authority_pb2.MintX509Request(spiffe_id=f"spiffe://{TRUST_DOMAIN}/meshwarden/server"),
        authority_pb2.MintX509Request(spiffe_id=f"spiffe://{TRUST_DOMAIN.upper()}/x"),
        authority_pb2.MintX509Request(spiffe_id="spiffe://other.example/x"),
        authority_pb2.MintJwtRequest(spiffe_id=f"spiffe://{TRUST_DOMAIN}//x", audiences=["y"]),
        authority_pb2.MintJwtRequest(spiffe_id=WEB),
    ],
)
def test_what_an_operator_may_not_mint_is_on_record(tmp_path: Path, order: Any) -> None:
    """With who asked, and why not."""

    async def story(server: IdentityServer) -> None:
        is_token = isinstance(order, authority_pb2.MintJwtRequest)
        call = server.authority.MintJwt if is_token else server.authority.MintX509
        assert await code_of(call(order)) == INVALID
        who, action, outcome, detail = (await server.audited())[-1]
        assert who.startswith("local:")
        assert (action, outcome) == ("jwt.mint" if is_token else "x509.mint", "refused")
        assert re.search("service's|no SPIFFE ID|no workload|audience", detail)

    run(tmp_path, story)


def test_an_operator_who_mints_too_fast_is_told_when_to_try_again(tmp_path: Path) -> None:
    """Certificates and tokens are one: agents wait for the same ledger."""

    async def story(server: IdentityServer) -> None:
        token = authority_pb2.MintJwtRequest(spiffe_id=WEB, audiences=["x"])
        certificate = authority_pb2.MintX509Request(spiffe_id=WEB, csr=request())
        await server.authority.MintJwt(token)
        for call in (server.authority.MintJwt(token), server.authority.MintX509(certificate)):
            with pytest.raises(grpc.aio.AioRpcError, match="try again in") as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        server.clock.ahead_ns += 50 * 10**9
        await server.authority.MintJwt(token)

    run(tmp_path, story, signatures_per_s=0.02)


def test_who_brings_a_certificate_for_the_authority_is_on_record_with_it(tmp_path: Path) -> None:
    """In the transaction that takes it; what is not taken as a refusal, asked again as nothing."""
    root_key = generate(KeyType.EC_P256)
    times = Validity(clock.now_ns() - 10**9, clock.now_ns() + 3600 * 10**9)
    profile = AuthorityProfile(TRUST_DOMAIN, "root", 1)
    root = sign_authority(root_key, profile, root_key.public_key(), times, 1)

    async def story(server: IdentityServer) -> None:
        async def trail() -> list[tuple[str, str]]:
            found = [each for each in await server.audited() if each[1].startswith("ca.")]
            assert all(each[0].startswith("local:") for each in found)
            return [(each[1], each[2]) for each in found]

        for _ in range(2):
            asked = await server.authority.RequestCertificate(
                authority_pb2.RequestCertificateRequest()
            )
        assert await trail() == [("ca.csr", "done")]
        key = x509.load_der_x509_csr(asked.csr).public_key()
        below = AuthorityProfile(TRUST_DOMAIN, "intermediate", 0)
        own = sign_authority(Signer(root, root_key), below, key, times, 2)  # type: ignore[arg-type]
        bring = authority_pb2.ImportCertificateRequest
        assert await code_of(server.authority.ImportCertificate(bring(chain=[own]))) == INVALID
        await server.authority.ImportCertificate(bring(chain=[own, root]))
        assert await trail() == [
            ("ca.csr", "done"), ("ca.import", "refused"), ("ca.import", "done"),
        ]  # fmt: skip
        assert (await server.audited())[-1][3] == f"certificate {hashlib.sha256(own).hexdigest()}"

    settings = Identity(trust_domain=TRUST_DOMAIN, key_file=tmp_path / "sealing.key", ca="offline")
    run(tmp_path, story, identity=settings)


def test_what_is_issued_while_the_ledger_is_verified_is_no_sign_of_tampering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end that is read may be an old one by the time it is known."""

    async def story(server: IdentityServer) -> None:
        ledger = server.opened.ledger
        mint = authority_pb2.MintX509Request(spiffe_id=WEB, csr=request())
        await server.authority.MintX509(mint)
        head = ledger.head

        async def overtaken() -> Head:
            found = await head()
            await server.authority.MintX509(mint)
            await server.opened.writer.flush()
            return found

        monkeypatch.setattr(ledger, "head", overtaken)
        reply = await server.authority.VerifyLedger(authority_pb2.VerifyLedgerRequest())
        assert (reply.rows, reply.fault) == (2, "")

    run(tmp_path, story)


def test_a_ledger_that_is_always_written_is_verified_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for until nobody wants anything any more."""

    async def story(server: IdentityServer) -> None:
        await server.authority.MintX509(authority_pb2.MintX509Request(spiffe_id=WEB, csr=request()))
        with monkeypatch.context() as patched:
            patched.setattr(server.opened.writer, "flush", asyncio.Event().wait)
            async with asyncio.timeout(20):
                reply = await server.authority.VerifyLedger(authority_pb2.VerifyLedgerRequest())
        assert (reply.rows > 0, reply.fault) == (True, "")

    run(tmp_path, story)


def run(folder: Path, story: Callable[[IdentityServer], Awaitable[None]], **nodes: Any) -> None:
    """Run one story against servers of its own."""

    async def within_time() -> None:
        async with asyncio.timeout(60), identity_server(folder, **nodes) as server:
            await story(server)

    asyncio.run(within_time())
