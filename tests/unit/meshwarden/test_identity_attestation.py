"""Nodes become agents at control's socket: whoever is believed, and why others are not."""

import asyncio
import datetime as dt
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from prometheus_client import REGISTRY

from adapters.node_attestors import k8s_psat
from ca.attestation import Attempt
from ca.der import der_value
from ca.possession import holds, key_sha256, sign
from meshwarden import clock
from meshwarden.settings.nodes import K8sPsat, X509Pop
from protos.meshwarden.v1 import agent_pb2, registration_pb2
from tests.servers.cluster import Cluster, cluster
from tests.servers.identity import (
    TRUST_DOMAIN,
    Caller,
    IdentityServer,
    csr_of,
    identity_server,
    new_key,
)

AGENTS = f"spiffe://{TRUST_DOMAIN}/meshwarden/agent/"
HOUR_NS = 3600 * 10**9
DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
Story = Callable[[IdentityServer], Awaitable[None]]


def run(folder: Path, story: Story, **nodes: Any) -> None:
    """Run one story against servers of its own."""

    async def within_time() -> None:
        async with asyncio.timeout(60), identity_server(folder, **nodes) as server:
            await story(server)

    asyncio.run(within_time())


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """Have a call refused; give how."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def test_a_join_token_makes_an_agent_with_what_the_operator_said_of_its_node(
    tmp_path: Path,
) -> None:
    """Its certificate is in the bundle's trust domain and in the registry."""

    async def story(server: IdentityServer) -> None:
        rack = agent_pb2.Selector(kind="rack", value="a1")
        token = await server.new_token(agent_path="web-1", selectors=[rack])
        agent = await server.attest("join_token", token.token.encode())
        assert agent.spiffe_id == token.agent_id == f"{AGENTS}join_token/web-1"
        assert agent.bundle.trust_domain == TRUST_DOMAIN
        reply = await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
        (told,) = reply.agents
        leaf = x509.load_der_x509_certificate(agent.chain[0])
        assert (told.spiffe_id, list(told.selectors)) == (agent.spiffe_id, [rack])
        assert int(told.serial, 16) == leaf.serial_number

    run(tmp_path, story)


def test_a_token_is_good_once(tmp_path: Path) -> None:
    """But whoever used it may ask again with the same key: the first answer may have been lost."""

    async def story(server: IdentityServer) -> None:
        payload = (await server.new_token()).token.encode()
        key = new_key()
        first = await server.attest("join_token", payload, key=key)
        again = await server.attest("join_token", payload, key=key)
        assert first.spiffe_id == again.spiffe_id
        code, why = await refused(server.attest("join_token", payload))
        assert (code, "was used already" in why) == (DENIED, True)

    run(tmp_path, story)


def test_of_two_that_race_with_one_token_one_gets_in(tmp_path: Path) -> None:
    """Also at two replicas."""

    async def story(server: IdentityServer) -> None:
        async with identity_server(tmp_path) as other:
            payload = (await server.new_token()).token.encode()
            results = await asyncio.gather(
                *(each.attest("join_token", payload) for each in [server, other] * 3),
                return_exceptions=True,
            )
            assert sum(isinstance(each, Caller) for each in results) == 1
            agents = [
                *(await server.registration.ListAgents(registration_pb2.ListAgentsRequest())).agents
            ]
            assert len(agents) == 1

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("payload", "code", "why"),
    [
        (b"", INVALID, "no join token"),
        (b"mwj1.", INVALID, "no join token"),
        (b"\xff" * 40, INVALID, "no join token"),
        (b"x" * 1000, INVALID, "too long"),
        (b"mwj1." + b"A" * 43, DENIED, "unknown"),
        (b"mwj1." + b"A" * 43 + b".ab", INVALID, "cut off"),
    ],
)
def test_what_is_no_token_of_ours_is_told_so(
    tmp_path: Path, payload: bytes, code: grpc.StatusCode, why: str
) -> None:
    """Without a word of it."""

    async def story(server: IdentityServer) -> None:
        told = await refused(server.attest("join_token", payload))
        assert (told[0], why in told[1]) == (code, True)
        assert "A" * 43 not in told[1]

    run(tmp_path, story)


def test_an_expired_or_revoked_token_is_refused(tmp_path: Path) -> None:
    """With the reason, in the answer and on the trail."""

    async def story(server: IdentityServer) -> None:
        revoked = await server.new_token()
        await server.registration.RevokeJoinToken(
            registration_pb2.RevokeJoinTokenRequest(id=revoked.id)
        )
        code, why = await refused(server.attest("join_token", revoked.token.encode()))
        assert (code, "revoked" in why) == (DENIED, True)
        expired = await server.new_token(ttl_s=60)
        server.clock.ahead_ns = 70 * 10**9
        code, why = await refused(server.attest("join_token", expired.token.encode()))
        assert (code, f"{expired.id} expired 1" in why) == (DENIED, True)
        told = [each for each in await server.audited() if each[1] == "agent.attest"]
        assert [outcome for _, _, outcome, _ in told] == ["refused"]

    run(tmp_path, story)


def test_what_a_node_is_refused_is_counted_apart_from_what_an_operator_is(tmp_path: Path) -> None:
    """Each in a family of its own, and a flood of the one takes no room from the other."""

    def counts() -> tuple[float, float]:
        attest = {"action": "attest"}
        nodes = REGISTRY.get_sample_value("meshwarden_identity_refusals_total", attest)
        operators = REGISTRY.get_sample_value("meshwarden_admin_refusals_total")
        return nodes or 0, operators or 0

    async def story(server: IdentityServer) -> None:
        nodes, operators = counts()
        for number in range(120):
            await refused(server.attest("join_token", b"x", Caller(address=f"10.1.0.{number}")))
        assert counts() == (nodes + 120, operators)
        assert (await refused(server.new_token(ttl_s=10**9)))[0] is INVALID
        assert counts() == (nodes + 120, operators + 1)
        assert (await server.audited())[-1][1:3] == ("token.create", "refused")

    run(tmp_path, story)


def test_no_secret_of_a_token_is_kept_or_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the database, nor in the trail, nor in a log."""

    async def story(server: IdentityServer) -> None:
        token = await server.new_token()
        await server.attest("join_token", token.token.encode())
        await refused(server.attest("join_token", token.token.encode()))
        secret = token.token.split(".")[1]
        assert secret not in caplog.text
        assert not any(secret in detail for *_, detail in await server.audited())
        kept = b"".join(each.read_bytes() for each in tmp_path.iterdir() if each.is_file())
        assert secret.encode() not in kept

    with caplog.at_level(logging.DEBUG):
        run(tmp_path, story)


def test_a_token_is_not_used_up_by_a_request_that_nobody_gets_signed(tmp_path: Path) -> None:
    """A bad request is told before the token is looked at."""

    async def story(server: IdentityServer) -> None:
        payload = (await server.new_token()).token.encode()
        for csr in (b"", b"junk", csr_of(new_key(), f"spiffe://{TRUST_DOMAIN}/admin")):
            evidence = agent_pb2.Evidence(attestor="join_token", payload=payload, csr=csr)
            call = server.attestation.Attest(metadata=Caller().metadata)
            await call.write(agent_pb2.AttestRequest(evidence=evidence))
            assert (await refused(call.read()))[0] in {INVALID, DENIED}
        await server.attest("join_token", payload)

    run(tmp_path, story)


def test_nothing_is_attested_over_plain_text(tmp_path: Path) -> None:
    """And the token stays good."""

    async def story(server: IdentityServer) -> None:
        payload = (await server.new_token()).token.encode()
        code, why = await refused(server.attest("join_token", payload, Caller(tls=False)))
        assert (code, "TLS only" in why) == (grpc.StatusCode.UNAUTHENTICATED, True)
        await server.attest("join_token", payload)

    run(tmp_path, story)


def test_an_address_that_tries_too_often_is_slowed_down_and_no_other(tmp_path: Path) -> None:
    """Of IPv6, a /64 is one."""

    async def story(server: IdentityServer) -> None:
        async def tries(address: str) -> grpc.StatusCode:
            return (await refused(server.attest("join_token", b"x", Caller(address))))[0]

        busy = [await tries("10.0.0.1") for _ in range(6)]
        assert busy == [INVALID] * 5 + [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert await tries("10.0.0.2") is INVALID
        six = [await tries(f"2001:db8::{n}") for n in range(6)]
        assert six[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await tries("2001:db8:0:1::1") is INVALID

    run(tmp_path, story, attestations_per_s=0.5)


def test_who_says_nothing_keeps_nobody_else_from_attesting(tmp_path: Path) -> None:
    """However many connections one address opens and leaves."""

    async def story(server: IdentityServer) -> None:
        idle = Caller("10.0.0.1").metadata
        calls = [server.attestation.Attest(metadata=idle) for _ in range(100)]
        replies = [asyncio.ensure_future(call.read()) for call in calls]
        await asyncio.sleep(1)
        assert 40 < sum(reply.done() for reply in replies) < 60
        assert (await refused(server.attest("join_token", b"x", Caller("10.0.0.2"))))[0] is INVALID
        for call in calls:
            call.cancel()
        await asyncio.gather(*replies, return_exceptions=True)
        await asyncio.sleep(0.5)
        assert (await refused(server.attest("join_token", b"x", Caller("10.0.0.1"))))[0] is INVALID

    run(tmp_path, story, attestations_per_s=100.0)


def test_who_asks_for_the_bundle_and_sends_nothing_is_counted_too(tmp_path: Path) -> None:
    """A stranger would have control hold as many calls as he likes, for ever."""

    async def story(server: IdentityServer) -> None:
        ask = server.channel.stream_unary("/meshwarden.v1.Attestation/GetBundle")
        request = agent_pb2.BundlesRequest().SerializeToString()
        calls = [ask(metadata=Caller("10.0.0.1").metadata) for _ in range(60)]
        refusals = [asyncio.ensure_future(call.code()) for call in calls]
        async with asyncio.timeout(10):
            while sum(each.done() for each in refusals) < 12:
                await asyncio.sleep(0.05)
        assert sum(each.done() for each in refusals) == 12
        other = ask(metadata=Caller("10.0.0.2").metadata)
        await other.write(request)
        assert await other
        # Whose message comes is answered.
        waiting = [call for call, each in zip(calls, refusals, strict=True) if not each.done()]
        for call in waiting:
            await call.write(request)
            assert await call
        again = ask(metadata=Caller("10.0.0.1").metadata)
        await again.write(request)
        assert await again
        await asyncio.gather(*refusals)

    run(tmp_path, story)


def test_an_attestor_that_is_not_asked_for_is_not_there(tmp_path: Path) -> None:
    """Least of all the one that believes everybody on the owner's socket."""

    async def story(server: IdentityServer) -> None:
        for name in ("embedded", "k8s_psat", "x509pop", "", "../x", "x" * 500):
            code, why = await refused(server.attest(name, b""))
            assert (code, "has: expired_svid, join_token" in why) == (INVALID, True)

    run(tmp_path, story)


def test_a_banned_agent_attests_no_more_until_it_is_let_back_in(tmp_path: Path) -> None:
    """By any evidence."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent(agent_path="a")

        async def change(**how: bool) -> None:
            request = registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, **how)
            await server.registration.EvictAgent(request)

        await change(ban=True)
        token = (await server.new_token(agent_path="a")).token.encode()
        key = new_key()
        issued = [each.row.number for each in await server.opened.ledger.find("", "", 100)]
        code, why = await refused(server.attest("join_token", token, key=key))
        assert (code, "banned" in why) == (DENIED, True)
        code, _ = await refused(
            server.attest("expired_svid", b"".join(agent.chain), answer_key=agent.key)
        )
        assert code is DENIED
        # Nothing was even signed.
        found = await server.opened.ledger.find("", "", 100)
        assert [each.row.number for each in found] == issued
        await change(unban=True)
        await server.attest("join_token", token, key=key)

    run(tmp_path, story)


def test_an_expired_agent_comes_back_by_the_key_of_its_newest_certificate(tmp_path: Path) -> None:
    """With its node's selectors, and its entries."""

    async def story(server: IdentityServer) -> None:
        rack = agent_pb2.Selector(kind="rack", value="a1")
        agent = await server.new_agent(selectors=[rack])
        server.clock.ahead_ns = 3 * HOUR_NS
        back = await server.attest("expired_svid", b"".join(agent.chain), answer_key=agent.key)
        assert back.spiffe_id == agent.spiffe_id
        (told,) = (
            await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
        ).agents
        assert (told.attestor, list(told.selectors)) == ("join_token", [rack])
        stream = server.agents.Entries(agent_pb2.EntriesRequest(), metadata=back.metadata)
        await stream.read()
        # The one that it came back by is good no more.
        code, why = await refused(
            server.attest("expired_svid", b"".join(agent.chain), answer_key=agent.key)
        )
        assert (code, "not the newest" in why) == (DENIED, True)

    run(tmp_path, story)


def test_nobody_comes_back_without_the_key_or_too_late_or_after_an_eviction(
    tmp_path: Path,
) -> None:
    """Each is told why."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        chain = b"".join(agent.chain)

        async def why(payload: bytes = chain, key: Any = agent.key) -> str:
            return (await refused(server.attest("expired_svid", payload, answer_key=key)))[1]

        assert "not by the key" in await why(key=new_key())
        assert "no certificate" in await why(b"junk")
        root = agent.bundle.x509_authorities[0]
        assert "no agent" in await why(root) or "no certificate" in await why(root)
        late = await server.new_agent()
        await server.registration.EvictAgent(
            registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id)
        )
        assert "no agent" in await why()
        let_in = await server.new_agent()
        for how in ({"ban": True}, {"unban": True}):
            await server.registration.EvictAgent(
                registration_pb2.EvictAgentRequest(spiffe_id=let_in.spiffe_id, **how)
            )
        told = await why(b"".join(let_in.chain), let_in.key)
        assert "was banned, which ended all its certificates" in told
        server.clock.ahead_ns = 3 * HOUR_NS
        told = await why(b"".join(late.chain), late.key)
        assert "identity.nodes.reattest_grace_s is 3600" in told

    run(tmp_path, story, reattest_grace_s=3600)


def test_who_is_evicted_while_it_proves_its_key_does_not_come_back(tmp_path: Path) -> None:
    """An answer kept back until then would undo every eviction."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        key = new_key()
        evidence = agent_pb2.Evidence(
            attestor="expired_svid", payload=b"".join(agent.chain), csr=csr_of(key)
        )
        call = server.attestation.Attest(metadata=Caller().metadata)
        await call.write(agent_pb2.AttestRequest(evidence=evidence))
        challenge = (await call.read()).challenge
        evict = registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id)
        await server.registration.EvictAgent(evict)
        answer = sign(agent.key, challenge, key_sha256(key.public_key()))
        await call.write(agent_pb2.AttestRequest(answer=answer))
        code, why = await refused(call.read())
        assert (code, "evicted" in why) == (DENIED, True)
        there = await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
        assert not there.agents

    run(tmp_path, story)


def test_no_agent_comes_back_where_that_is_off(tmp_path: Path) -> None:
    """It is told to attest as at first."""

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        told = await refused(
            server.attest("expired_svid", b"".join(agent.chain), answer_key=agent.key)
        )
        assert (told[0], "reattest_grace_s is 0" in told[1]) == (DENIED, True)

    run(tmp_path, story, reattest_grace_s=0)


class Pki:
    """Somebody's authority for machines."""

    def __init__(self, folder: Path, name: str = "pki", *, says_use: bool = True) -> None:
        self.key = new_key()
        self._says_use = says_use
        self.file = folder / f"{name}.pem"
        self.root = self._signed("root", self.key.public_key(), is_authority=True)
        self.file.write_bytes(self.root.public_bytes(serialization.Encoding.PEM))

    def node(self, key: Any, **how: Any) -> bytes:
        """Give a node a certificate."""
        return self._signed("node-7", key.public_key(), **how).public_bytes(
            serialization.Encoding.DER
        )

    def _signed(
        self,
        name: str,
        key: Any,
        *,
        is_authority: bool = False,
        uses: Sequence[Any] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        age: dt.timedelta = dt.timedelta(0),
    ) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        now = dt.datetime.fromtimestamp(clock.now_ns() / 1e9, dt.UTC) - age
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("root"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )  # fmt: skip
        if self._says_use:
            builder = builder.add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority,
                    content_commitment=False, key_encipherment=False, data_encipherment=False,
                    key_agreement=False, encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )  # fmt: skip
        if not is_authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def test_a_node_is_believed_by_a_certificate_of_its_own(tmp_path: Path) -> None:
    """Named by its digest, known by its subject and issuer; and again after an expiry."""
    pki = Pki(tmp_path)

    async def story(server: IdentityServer) -> None:
        for key in (new_key(), rsa.generate_private_key(65_537, 2048)):
            chain = pki.node(key)
            leaf = x509.load_der_x509_certificate(chain)
            agent = await server.attest("x509pop", chain, answer_key=key)
            digest = leaf.fingerprint(hashes.SHA256()).hex()
            assert agent.spiffe_id == f"{AGENTS}x509pop/{digest}"
            server.clock.ahead_ns += 60 * 10**9
            again = await server.attest("x509pop", chain, answer_key=key)
            assert again.spiffe_id == agent.spiffe_id
            told = {
                each.spiffe_id: each
                for each in (
                    await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
                ).agents
            }[agent.spiffe_id]
            values = {each.value for each in told.selectors}
            assert told.can_reattest
            assert "subject:cn:node-7" in values
            assert f"ca:fingerprint:{pki.root.fingerprint(hashes.SHA256()).hex()}" in values

    run(tmp_path, story, attestors=("x509pop",), x509pop=X509Pop(ca=pki.file))


def test_a_node_is_not_believed_by_a_certificate_alone_or_a_bad_one(tmp_path: Path) -> None:
    """Whoever copied it has no key; another authority, an expiry, another use are told."""
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    key = new_key()
    weak = rsa_1024()

    async def story(server: IdentityServer) -> None:
        async def why(chain: bytes, answer_key: Any = key) -> tuple[grpc.StatusCode, str]:
            return await refused(server.attest("x509pop", chain, answer_key=answer_key))

        good = pki.node(key)
        for told, code, words in (
            (await why(good, new_key()), DENIED, "not by the key"),
            (await why(other.node(key)), DENIED, "does not chain"),
            (await why(pki.node(key, age=dt.timedelta(hours=3))), DENIED, "does not chain"),
            (await why(pki.node(key, uses=[ExtendedKeyUsageOID.SERVER_AUTH])), DENIED, "client"),
            (await why(pki.node(key, is_authority=True)), DENIED, "does not chain"),
            (await why(pki.node(weak), weak), DENIED, "weak"),
            (await why(b""), INVALID, "no chain"),
            (await why(good[:-1]), INVALID, "cut off"),
            (await why(b"\x30\x03abc"), INVALID, "no chain"),
            (await why(good * 9), INVALID, "more than 8"),
        ):
            assert (told[0], words in told[1]) == (code, True), told

    run(tmp_path, story, attestors=("x509pop",), x509pop=X509Pop(ca=pki.file))


def test_an_authority_of_nodes_that_says_no_use_is_named(tmp_path: Path) -> None:
    """As OpenSSL makes them where nobody asks for more."""
    pki = Pki(tmp_path, says_use=False)
    key = new_key()

    async def story(server: IdentityServer) -> None:
        _, why = await refused(server.attest("x509pop", pki.node(key), answer_key=key))
        assert "the authority CN=root has no key usage, and needs one with keyCertSign" in why

    run(tmp_path, story, attestors=("x509pop",), x509pop=X509Pop(ca=pki.file))


def rewritten(certificate: bytes, other: Callable[[bytes], bytes], unused: int = 0) -> bytes:
    """Write a certificate with another signature, which ends in so many bits that don't count."""
    leaf = x509.load_der_x509_certificate(certificate)
    old = der_value(3, b"\0" + leaf.signature)
    assert certificate.endswith(old)
    new = der_value(3, bytes((unused,)) + other(leaf.signature))
    start = certificate.index(leaf.tbs_certificate_bytes)
    return der_value(0x30, certificate[start : -len(old)] + new)


def negated(signature: bytes) -> bytes:
    """Give the other signature over the same, which takes no key."""
    first, second = decode_dss_signature(signature)
    return encode_dss_signature(first, ec.SECP256R1.group_order - second)


def test_a_node_is_no_second_one_by_writing_its_certificate_in_another_way(
    tmp_path: Path,
) -> None:
    """Or who is banned would be back: nobody needs the authority's key for it."""
    pki = Pki(tmp_path)
    key = new_key()
    good = pki.node(key)
    other = rewritten(good, negated)
    even = good
    while even[-1] % 2:
        even = pki.node(key)
    padded = rewritten(even, bytes, unused=1)

    async def story(server: IdentityServer) -> None:
        async def why(chain: bytes) -> tuple[grpc.StatusCode, str]:
            return await refused(server.attest("x509pop", chain, answer_key=key))

        code, told = await why(padded)
        assert (code, "whole bytes" in told) == (DENIED, True)
        results = await asyncio.gather(
            *(server.attest("x509pop", each, answer_key=key) for each in (good, other)),
            return_exceptions=True,
        )
        (agent,) = (each for each in results if isinstance(each, Caller))
        left = good if isinstance(results[1], Caller) else other
        code, told = await why(left)
        assert (code, f"{agent.spiffe_id} already" in told) == (DENIED, True)
        ban = registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, ban=True)
        await server.registration.EvictAgent(ban)
        assert [(await why(each))[0] for each in (good, other, padded)] == [DENIED] * 3

    run(tmp_path, story, attestors=("x509pop",), x509pop=X509Pop(ca=pki.file))


def rsa_1024() -> rsa.RSAPrivateKey:
    """Make a key that nobody should have."""
    return rsa.generate_private_key(65_537, 1024)  # noqa: S505 - that is the point


def test_an_answer_holds_for_one_challenge_and_one_new_key() -> None:
    """Whoever relays it gets nothing."""
    key, new = new_key(), b"n" * 32
    answer = sign(key, b"c" * 32, new)
    assert holds(key.public_key(), b"c" * 32, new, answer)
    assert not holds(key.public_key(), b"d" * 32, new, answer)
    assert not holds(key.public_key(), b"c" * 32, b"m" * 32, answer)
    assert not holds(new_key().public_key(), b"c" * 32, new, answer)
    assert not holds("no key", b"c" * 32, new, answer)


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[Cluster]:
    """Run a cluster."""
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster") as running:
        yield running


def k8s(running: Cluster, tmp_path: Path, **how: Any) -> dict[str, Any]:
    """Settings that believe the cluster: by its keys, or by asking it."""
    token = tmp_path / "reviewer"
    token.write_text("reviewer\n")
    fields = {
        "cluster": "prod",
        "service_accounts": ("mesh:agent",),
        "server_ca": running.authority,
        "token": token,
        **how,
    }
    return {"attestors": ("k8s_psat",), "k8s_psat": K8sPsat(**fields)}


@pytest.mark.parametrize("way", ["jwks", "token_review"])
def test_a_node_of_a_cluster_is_believed_by_its_agents_token(
    tmp_path: Path, kubernetes: Cluster, way: str
) -> None:
    """Named by the node, not by the pod; and the same again later."""
    path = "/openid/v1/jwks" if way == "jwks" else ""

    async def story(server: IdentityServer) -> None:
        for _ in range(2):
            agent = await server.attest("k8s_psat", kubernetes.token().encode())
            name = "11111111-2222-3333-4444-555555555555"
            assert agent.spiffe_id == f"{AGENTS}k8s_psat/prod/{name}"
        (told,) = (
            await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
        ).agents
        assert {each.value for each in told.selectors} == {
            "cluster:prod", "agent_ns:mesh", "agent_sa:agent", "agent_node_name:node-1",
            f"agent_node_uid:{name}", "agent_pod_name:agent-x7",
            "agent_pod_uid:66666666-7777-8888-9999-000000000000",
        }  # fmt: skip

    run(tmp_path, story, **k8s(kubernetes, tmp_path, **{way: kubernetes.address + path}))


@pytest.mark.parametrize("way", ["jwks", "token_review"])
def test_a_token_of_a_cluster_that_is_not_for_this_is_refused(
    tmp_path: Path, kubernetes: Cluster, way: str
) -> None:
    """Another audience, account, issuer or key, an expiry, no node: each is told."""
    path = "/openid/v1/jwks" if way == "jwks" else ""
    now_s = clock.now_ns() // 10**9
    account = {"namespace": "mesh", "pod": {"name": "p", "uid": "u"}}
    other = {**account, "serviceaccount": {"name": "web"}, "node": {"name": "n", "uid": "u"}}
    nowhere = {**account, "serviceaccount": {"name": "agent"}, "node": {"name": "", "uid": ""}}
    climbing = {**nowhere, "node": {"name": "n", "uid": "../../server"}}

    async def story(server: IdentityServer) -> None:
        async def why(**claims: Any) -> str:
            token = kubernetes.token(**claims)
            code, told = await refused(server.attest("k8s_psat", token.encode()))
            assert code in {DENIED, INVALID}
            assert token not in told
            assert token.rpartition(".")[2] not in told
            return told

        by_keys = way == "jwks"
        assert "audience" in (await why(aud=["vault"])).lower()
        assert "expired" in (await why(exp=now_s - 60))
        assert ("not signed" if by_keys else "does not stand by") in await why(key=rsa_2048())
        web = {"sub": "system:serviceaccount:mesh:web", "kubernetes.io": other}
        assert "mesh:web is not on the list" in await why(**web)
        assert "on which node" in await why(**{"kubernetes.io": nowhere})
        assert "no segment" in await why(**{"kubernetes.io": climbing})
        if by_keys:
            assert "none of the cluster's" in await why(kid="k9")
            assert "no service account" in await why(sub="system:serviceaccount:mesh:other")
            assert "not of the issuer" in await why(iss="https://other.example")
            assert "no time" in await why(exp=None)
            assert "not valid yet" in await why(nbf=now_s + 60)
            none = "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.e30."
            assert (await refused(server.attest("k8s_psat", none.encode())))[0] is DENIED
            # By the right key, in another way than that is for.
            for algorithm in ("RS512", "PS256"):
                assert "not that of the cluster's key" in await why(algorithm=algorithm)
        else:
            kubernetes.is_audience_aware = False
            assert "of nobody" in await why()

    how = {way: kubernetes.address + path, "issuer": "https://cluster.example"}
    run(tmp_path, story, **k8s(kubernetes, tmp_path, **how))


def rsa_2048() -> rsa.RSAPrivateKey:
    """Make another cluster's key."""
    return rsa.generate_private_key(65_537, 2048)


def test_a_cluster_that_does_not_answer_may_be_asked_again(tmp_path: Path) -> None:
    """UNAVAILABLE, not a denial; and no other server's certificate will do."""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "stranger").mkdir()
    with cluster(tmp_path / "cluster") as one, cluster(tmp_path / "stranger") as stranger:
        settings = k8s(one, tmp_path, token_review=stranger.address)

        async def story(server: IdentityServer) -> None:
            code, why = await refused(server.attest("k8s_psat", one.token().encode()))
            assert (code, "does not answer" in why) == (grpc.StatusCode.UNAVAILABLE, True)
            assert not stranger.reviewed

        run(tmp_path, story, **settings)


def test_keys_that_were_had_are_good_for_a_while_when_the_cluster_does_not_answer(
    tmp_path: Path, kubernetes: Cluster
) -> None:
    """Nodes come and go while an API server is replaced; what was never known may come soon."""

    async def story(server: IdentityServer) -> None:
        async def why(kid: str = "k1") -> tuple[grpc.StatusCode, str]:
            token = kubernetes.token(kid=kid, exp=clock.now_ns() // 10**9 + 7200)
            return await refused(server.attest("k8s_psat", token.encode()))

        token = kubernetes.token(exp=clock.now_ns() // 10**9 + 7200).encode()
        await server.attest("k8s_psat", token)
        kubernetes.is_away = True
        server.clock.ahead_ns = HOUR_NS // 2
        await server.attest("k8s_psat", token)
        code, told = await why("k2")
        assert (code, "answered 503" in told) == (grpc.StatusCode.UNAVAILABLE, True)
        assert len(kubernetes.asked) == 2
        server.clock.ahead_ns = HOUR_NS + 10**10
        assert (await why())[0] is grpc.StatusCode.UNAVAILABLE
        kubernetes.is_away = False
        server.clock.ahead_ns += 11 * 10**9
        await server.attest("k8s_psat", token)
        assert (await why("k2"))[0] is DENIED

    jwks = kubernetes.address + "/openid/v1/jwks"
    run(tmp_path, story, **k8s(kubernetes, tmp_path, jwks=jwks))


def test_a_file_without_a_key_is_no_denial(tmp_path: Path, kubernetes: Cluster) -> None:
    """Half of a change of the file: the agent tries again, and keys that were had stay."""
    jwks = tmp_path / "jwks"
    jwks.write_text('{"keys": []}')

    async def story(server: IdentityServer) -> None:
        token = kubernetes.token().encode()
        code, told = await refused(server.attest("k8s_psat", token))
        assert (code, "has no key" in told) == (grpc.StatusCode.UNAVAILABLE, True)
        jwks.write_text(json.dumps(kubernetes.jwks()))
        server.clock.ahead_ns = 11 * 10**9
        await server.attest("k8s_psat", token)
        jwks.write_text("{}")
        server.clock.ahead_ns += 301 * 10**9
        await server.attest("k8s_psat", token)

    run(tmp_path, story, **k8s(kubernetes, tmp_path, jwks=str(jwks)))


def test_an_api_server_that_hangs_takes_no_thread_from_others() -> None:
    """Whoever shows a token has it asked; the policy's loads need threads too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = k8s_psat.Config(token_review=f"https://127.0.0.1:{silent.getsockname()[1]}")
        attestor = k8s_psat.ADAPTER.build(config)

        async def nobody(_: bytes) -> bytes:
            raise AssertionError("nothing is asked")

        async def story() -> None:
            attempt = Attempt(b"a.b.c", b"k" * 32, clock.now_ns(), nobody)
            calls = [asyncio.create_task(attestor.attest(attempt)) for _ in range(40)]
            await asyncio.sleep(0)
            async with asyncio.timeout(3):
                assert await asyncio.to_thread(lambda: True)
            silent.close()  # Whoever waits for it is told so now.
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(story())


def test_unknown_keys_do_not_make_us_ask_the_cluster_each_time(
    tmp_path: Path, kubernetes: Cluster
) -> None:
    """A flood of forged tokens is no flood for the API server."""

    async def story(server: IdentityServer) -> None:
        for number in range(10):
            token = kubernetes.token(kid=f"x{number}").encode()
            await refused(server.attest("k8s_psat", token))
        assert len(kubernetes.asked) == 1

    jwks = kubernetes.address + "/openid/v1/jwks"
    run(tmp_path, story, **k8s(kubernetes, tmp_path, jwks=jwks))
